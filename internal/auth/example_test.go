package auth_test

import (
	"errors"
	"fmt"
	"net/http"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
)

func ExampleAuthenticator() {
	// The hash is of the key "example".
	keys, err := access.ParseKeys([]byte(`[{
		"name": "backend",
		"sha256": "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c",
		"end_users": true
	}]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	a := auth.New(auth.NewAPIKeys(func() *access.KeySet { return keys }, nil))

	r, _ := http.NewRequest(http.MethodPost, "https://invoke.example/", nil)
	_, err = a.Authenticate(r)
	fmt.Println(errors.Is(err, auth.ErrNoCredential))

	r.Header.Set("X-API-Key", "example")
	p, err := a.Authenticate(r)
	fmt.Println(p.ID(), p.Service, err)

	r.Header.Set("X-API-Key", "examples")
	_, err = a.Authenticate(r)
	fmt.Println(err)
	// Output:
	// true
	// 7:api_key:backend true <nil>
	// invalid credential: unknown API key
}

func ExampleParseIssuers() {
	issuers, err := access.ParseIssuers("https://accounts.google.com|my-client|hd=example.com, https://securetoken.google.com/my-project", []string{"my-project"}, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, i := range issuers {
		fmt.Println(i.URL, i.Audiences, i.Claims)
	}
	// Output:
	// https://accounts.google.com [my-client] [{hd example.com}]
	// https://securetoken.google.com/my-project [my-project] []
}
