// Package cloud is what Google Cloud asks for, from the price list cloud.json,
// which has its date and its sources in it. The prices of models are in
// internal/models.
package cloud

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
)

//go:embed cloud.json
var raw []byte

// A List is a price list. It is shared, and not to be changed.
type List struct {
	Date   string          `json:"date"`
	Source string          `json:"source"`
	Unit   string          `json:"unit"`
	Prices map[string]Item `json:"prices"`
}

// An Item is one thing that is paid for.
type Item struct {
	USD  float64 `json:"usd"`  // of one
	Free float64 `json:"free"` // how many are free a month
	Of   string  `json:"of"`   // what one is
}

// Prices returns the list.
var Prices = sync.OnceValue(func() List {
	var l List
	if err := json.Unmarshal(raw, &l); err != nil {
		panic(fmt.Sprintf("cloud: cloud.json: %v", err)) // part of the program, read by its tests
	}
	return l
})
