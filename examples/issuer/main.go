// Command issuer is a sign-in to try the examples with: an OpenID Connect issuer
// on this machine that issues a token for any name to anybody. Never deploy it.
//
//	go run ./issuer
//
// The service believes it with AUTH=oidc and
// OIDC_ISSUERS='http://127.0.0.1:8090|example'.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	audience = "example"
	life     = time.Hour // of a token
)

func main() {
	port := flag.String("port", "8090", "port of 127.0.0.1; 0 takes any free one")
	flag.Parse()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", *port))
	if err != nil {
		log.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	handler, err := newIssuer(url)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Signing in anybody at %s, for the audience %q\n", url, audience)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}

// newIssuer answers as the issuer of that URL, with a key made for this run.
func newIssuer(url string) (http.Handler, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key := jose.JSONWebKey{Key: private, KeyID: "local", Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": url, "jwks_uri": url + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		if name == "" {
			http.Error(w, "name is missing", http.StatusBadRequest)
			return
		}
		now := time.Now()
		token, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: url, Audience: jwt.Audience{audience}, Subject: name,
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
		}).Serialize()
		if err != nil {
			http.Error(w, "the token could not be signed", http.StatusInternalServerError)
			return
		}
		answer(w, map[string]any{"token": token, "expires": now.Add(life).UnixMilli()})
	})
	return mux, nil
}

// answer lets pages of any origin read it: that is what an example needs.
func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
