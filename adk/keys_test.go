package adk_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// keys is the value of API_KEYS for keys that are their names.
func keys(names ...string) string {
	var all []map[string]string
	for _, name := range names {
		all = append(all, map[string]string{"name": name, "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(name)))})
	}
	raw, _ := json.Marshal(all)
	return string(raw)
}
