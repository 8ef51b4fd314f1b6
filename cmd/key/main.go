// Command key creates an API key for a caller, a secret that webhooks are signed with, or
// a key that signs the agent's card:
//
//	go run ./cmd/key NAME
//	go run ./cmd/key -webhook NAME
//	go run ./cmd/key -card NAME
//
// It prints the key to standard output; the key is not stored anywhere. Its entry for
// API_KEYS, which contains only the key's SHA-256, goes to standard error. An entry of
// webhook-secrets contains the secret itself, and one of card-keys the private key; printed
// is then what those need who verify.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/jws"
	"example.com/gatehouse/internal/webhook"
)

func main() {
	forWebhooks := flag.Bool("webhook", false, "make a secret that webhooks are signed with")
	forCard := flag.Bool("card", false, "make a key that signs the agent's card")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: go run ./cmd/key [-webhook | -card] NAME") }
	flag.Parse()
	if flag.NArg() != 1 || *forWebhooks && *forCard {
		flag.Usage()
		os.Exit(2)
	}
	create, text := make256, "The entry for API_KEYS or its secret, a JSON list of such entries:\n\n  %s\n\nThe key, to be sent as X-API-Key:\n\n"
	switch {
	case *forWebhooks:
		create, text = makeSecret, "The entry for the secret webhook-secrets, a JSON list of such entries; it holds the secret itself:\n\n  %s\n\nThe secret, for the receiver:\n\n"
	case *forCard:
		create, text = makeCardKey, "The entry for the secret card-keys, {\"keys\": [ENTRY, ...]}; it holds the private key:\n\n  %s\n\nThe public key, an entry of the JWK set that those read who verify:\n\n"
	}
	key, entry, err := create(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, text, entry)
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
	if _, err := access.ParseKeys(fmt.Appendf(nil, "[%s]", entry)); err != nil {
		return "", nil, err
	}
	return key, entry, nil
}

// makeSecret returns a secret of 256 random bits for webhooks, and its entry.
func makeSecret(name string) (secret string, entry []byte, err error) {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // as above
	secret = webhook.Prefix + base64.StdEncoding.EncodeToString(bits[:])
	entry, err = json.Marshal(struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
	}{name, secret})
	if err != nil {
		return "", nil, err
	}
	if _, err := webhook.ParseSecrets(fmt.Appendf(nil, "[%s]", entry)); err != nil {
		return "", nil, err
	}
	return secret, entry, nil
}

// makeCardKey returns a key for ES256 that signs the agent's card: its public half, and its
// entry.
func makeCardKey(name string) (public string, entry []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	key := jose.JSONWebKey{Key: private, KeyID: name, Algorithm: string(jose.ES256), Use: "sig"}
	if entry, err = key.MarshalJSON(); err != nil {
		return "", nil, err
	}
	half, err := key.Public().MarshalJSON()
	if err != nil {
		return "", nil, err
	}
	if _, err := jws.ParseKeys(fmt.Appendf(nil, `{"keys": [%s]}`, entry)); err != nil {
		return "", nil, err
	}
	return string(half), entry, nil
}
