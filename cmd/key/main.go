// Command key creates an API key for a caller:
//
//	go run ./cmd/key NAME
//
// It prints the key to standard output; the key is not stored anywhere. Its entry for
// API_KEYS, which contains only the key's SHA-256, goes to standard error.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	"example.com/gatehouse/internal/auth"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./cmd/key NAME")
		os.Exit(2)
	}
	key, entry, err := make256(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "The entry for API_KEYS or its secret, a JSON list of such entries:\n\n  %s\n\nThe key, to be sent as X-API-Key:\n\n", entry)
	fmt.Println(key)
}

// make256 returns a key of 256 random bits and its entry.
func make256(name string) (key string, entry []byte, err error) {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // crypto/rand crashes the program rather than fail
	key = base64.RawURLEncoding.EncodeToString(bits[:])
	entry, err = json.Marshal(struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
	}{name, fmt.Sprintf("%x", sha256.Sum256([]byte(key)))})
	if err != nil {
		return "", nil, err
	}
	if _, err := auth.ParseKeys(fmt.Appendf(nil, "[%s]", entry)); err != nil {
		return "", nil, err
	}
	return key, entry, nil
}
