package secret_test

import (
	"context"
	"fmt"

	"example.com/gatehouse/internal/gcp/secret"
)

func ExampleClient_Access() {
	ctx := context.Background()
	client, err := secret.New(ctx, "secretmanager.europe-west1.rep.googleapis.com:443")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	keys, err := client.Access(ctx, "projects/my-project/locations/europe-west1/secrets/api-keys/versions/latest")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(keys), "bytes")
}
