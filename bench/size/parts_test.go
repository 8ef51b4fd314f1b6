package main

import "testing"

func TestParts(t *testing.T) {
	t.Parallel()
	for symbol, want := range map[string]string{
		"example.com/gatehouse/invoke.New":         "Gatehouse",
		"cloud.google.com/go/firestore/apiv1.init": "cloud.google.com/go/firestore",
		"cloud.google.com/go/logging.init":         "cloud.google.com/go, the rest",
		"encoding/json.Marshal":                    "the rest of the standard library",
		"fmt.Println":                              "the rest of the standard library",
		"crypto/tls.(*Conn).Read":                  "net and crypto",
		"runtime.mallocgc":                         "Go runtime",
		"type:.eq.x":                               "type and other tables",
		"github.com/rs/cors.New":                   "everything else",
	} {
		if got := partOf(symbol); got != want {
			t.Errorf("%s: %q, want %q", symbol, got, want)
		}
	}
}
