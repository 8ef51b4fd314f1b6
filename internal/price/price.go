// Package price estimates what a model call costs from the price list,
// prices.json, which says its date and its source. An estimate is not a bill:
// it knows no discounts, and nothing but text. The list also holds what Google
// Cloud asks for, for cmd/cost.
package price

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"example.com/gatehouse/session"
)

//go:embed prices.json
var raw []byte

// A rate is in US dollars for a million tokens.
type rate struct {
	Input  float64 `json:"input"`
	Cached float64 `json:"cached"` // of the input, what came from a cache
	Output float64 `json:"output"` // thoughts included
}

type list struct {
	Date   string `json:"date"`
	Source string `json:"source"`
	Unit   string `json:"unit"`
	Models map[string]struct {
		rate
		// Above holds the rates of calls with more prompt tokens than that.
		Above *struct {
			PromptTokens int64 `json:"prompt_tokens"`
			rate
		} `json:"above"`
	} `json:"models"`
	Cloud Cloud `json:"cloud"`
}

// Cloud holds what Google Cloud asks for.
type Cloud struct {
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

// prices is read when the first price is asked for, not at start.
var prices = sync.OnceValue(func() list {
	var l list
	if err := json.Unmarshal(raw, &l); err != nil {
		panic(fmt.Sprintf("price: prices.json: %v", err)) // part of the program, read by its tests
	}
	return l
})

// Date is the day the price list is of.
func Date() string { return prices().Date }

// OfCloud are Google Cloud's prices. What it returns is shared, and not to be
// changed.
func OfCloud() Cloud { return prices().Cloud }

// Estimate is what one call of the model costs, in US dollars; nil for a model
// that is not on the list.
func Estimate(model string, u session.Usage) *float64 {
	m, ok := prices().Models[model]
	if !ok {
		return nil
	}
	r := m.rate
	if m.Above != nil && u.PromptTokens > m.Above.PromptTokens {
		r = m.Above.rate
	}
	cached := min(u.CachedTokens, u.PromptTokens)
	usd := (float64(u.PromptTokens-cached)*r.Input + float64(cached)*r.Cached +
		float64(u.CompletionTokens+u.ThoughtTokens)*r.Output) / 1e6
	usd = math.Round(usd*1e8) / 1e8
	return &usd
}
