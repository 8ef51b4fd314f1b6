package price

import (
	"math"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

func TestEstimate(t *testing.T) {
	cases := []struct {
		name  string
		model string
		usage session.Usage
		want  float64
	}{
		{"prompt and completion", "gemini-2.5-flash", session.Usage{PromptTokens: 412, CompletionTokens: 133}, 0.0004561},
		{"thoughts are output", "gemini-2.5-flash", session.Usage{ThoughtTokens: 1_000_000}, 2.5},
		{"cached tokens are cheaper", "gemini-2.5-flash", session.Usage{PromptTokens: 1_000_000, CachedTokens: 400_000}, 0.6*0.3 + 0.4*0.03},
		{"more cached than prompt is not negative", "gemini-2.5-flash", session.Usage{PromptTokens: 10, CachedTokens: 20}, 10 * 0.03 / 1e6},
		{"a long prompt costs more", "gemini-2.5-pro", session.Usage{PromptTokens: 200_001}, 0.5000025},
		{"the offline stand-in is free", "offline", session.Usage{PromptTokens: 5, CompletionTokens: 5}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Estimate(c.model, c.usage)
			if got == nil || math.Abs(*got-c.want) > 1e-8 {
				t.Errorf("Estimate = %v, want %v", got, c.want)
			}
		})
	}
	if got := Estimate("no-such-model", session.Usage{PromptTokens: 1}); got != nil {
		t.Errorf("a model without a price costs %v", *got)
	}
}

func TestListIsComplete(t *testing.T) {
	if _, err := time.Parse(time.DateOnly, Date()); err != nil {
		t.Errorf("date: %v", err)
	}
	if _, ok := prices().Models["gemini-2.5-flash"]; !ok {
		t.Error("the default model has no price")
	}
	for name, m := range prices().Models {
		if m.Cached > m.Input || m.Input > m.Output {
			t.Errorf("%s: implausible rates %+v", name, m.rate)
		}
	}
}

func TestCloudPricesAreComplete(t *testing.T) {
	c := OfCloud()
	if _, err := time.Parse(time.DateOnly, c.Date); err != nil || c.Source == "" || c.Unit == "" {
		t.Errorf("date %q (%v), source %q, unit %q", c.Date, err, c.Source, c.Unit)
	}
	if len(c.Prices) == 0 {
		t.Fatal("no prices")
	}
	for name, item := range c.Prices {
		if item.USD <= 0 || item.Free < 0 || item.Of == "" {
			t.Errorf("%s: %+v", name, item)
		}
	}
}
