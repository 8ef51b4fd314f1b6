// Command gatehouse is the program that Google's buildpack makes of the project,
// on this machine only and with the benchmark's control.
package main

import (
	"log"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	_ "example.com/gatehouse"
	"example.com/gatehouse/bench/internal/control"
)

func main() {
	control.Start()
	log.Fatal(funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")))
}
