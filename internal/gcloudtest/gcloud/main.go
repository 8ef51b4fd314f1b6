// Command gcloud is the stand-in of package gcloudtest as a program, and under the
// name terraform Terraform's.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"example.com/gatehouse/internal/gcloudtest"
)

func main() {
	call, name := gcloudtest.Call, filepath.Base(os.Args[0])
	if name == "terraform" {
		call = gcloudtest.CallTerraform
	}
	if err := call(os.Getenv(gcloudtest.Variable), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "ERROR: (%s) %v\n", name, err)
		os.Exit(1)
	}
}
