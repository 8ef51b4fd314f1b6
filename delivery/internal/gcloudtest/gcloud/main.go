// Command gcloud is the stand-in of package gcloudtest as a program.
package main

import (
	"fmt"
	"os"

	"example.com/gatehouse/delivery/internal/gcloudtest"
)

func main() {
	if err := gcloudtest.Call(os.Getenv(gcloudtest.Variable), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR: (gcloud)", err)
		os.Exit(1)
	}
}
