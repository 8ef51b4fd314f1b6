// Package cloud holds Google Cloud's prices, from the dated list cloud.json with its
// sources. Prices of models are in internal/models.
package cloud

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
)

//go:embed cloud.json
var raw []byte

// A List is a price list. It is shared and must not be modified.
type List struct {
	Date   string          `json:"date"`
	Source string          `json:"source"`
	Unit   string          `json:"unit"`
	Prices map[string]Item `json:"prices"`
}

// An Item is one price.
type Item struct {
	USD  float64 `json:"usd"`  // for one unit
	Free float64 `json:"free"` // units that are free per month
	Of   string  `json:"of"`   // the unit
}

// Prices returns the list. It is decoded at the first call and is safe for concurrent use.
var Prices = sync.OnceValue(func() List {
	var l List
	if err := json.Unmarshal(raw, &l); err != nil {
		panic(fmt.Sprintf("cloud: cloud.json: %v", err)) // embedded, and parsed by the tests
	}
	return l
})
