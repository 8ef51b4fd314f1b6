package models

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func day(t testing.TB, text string) time.Time {
	t.Helper()
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, model string
		tokens      Tokens
		day         string
		want        float64
	}{
		{"prompt and completion", "gemini-3.5-flash-lite", Tokens{Prompt: 412, Output: 133}, "2026-11-26", 0.0004561},
		{"cached tokens are cheaper", "gemini-3.5-flash-lite", Tokens{Prompt: 1_000_000, Cached: 400_000}, "2026-11-26", 0.6*0.3 + 0.4*0.03},
		{"more cached than prompt is not negative", "gemini-3.5-flash-lite", Tokens{Prompt: 10, Cached: 20}, "2026-11-26", 10 * 0.03 / 1e6},
		{"a long prompt", "gemini-2.5-pro", Tokens{Prompt: 200_001}, "2026-11-26", 0.5000025},
		{"the longest short prompt", "gemini-2.5-pro", Tokens{Prompt: 200_000}, "2026-11-26", 0.25},
		{"a version of a model", "publishers/google/models/gemini-3.5-flash-lite-001", Tokens{Output: 1_000_000}, "2026-11-26", 2.5},
		{"the last day of an introductory price", "gemini-4-argon", Tokens{Prompt: 1_000_000}, "2026-11-30", 2},
		{"the first day of the price after it", "gemini-4-argon", Tokens{Prompt: 1_000_000}, "2026-12-01", 4},
		{"a price that changes with the year", "gemini-3.8-flash", Tokens{Output: 1_000_000}, "2026-12-31", 3.75},
		{"the year after it", "gemini-3.8-flash", Tokens{Output: 1_000_000}, "2027-01-01", 7.5},
		{"before the first price", "gemini-3.8-flash", Tokens{Output: 1_000_000}, "2020-01-01", 3.75},
		{"each query of a search", "gemini-3.5-flash-lite", Tokens{Prompt: 1_000_000, Searches: 3}, "2026-11-26", 0.3 + 3*0.014},
		{"a search that is charged by the prompt", "gemini-2.5-flash", Tokens{Searches: 3}, "2026-11-26", 0.035},
		{"queries of Vertex AI Search", "gemini-3.5-flash-lite", Tokens{Retrievals: 2}, "2026-11-26", 0.008},
		{"the offline stand-in searches for nothing", "offline", Tokens{Searches: 2}, "2026-11-26", 0},
		{"the offline stand-in is free", "offline", Tokens{Prompt: 5, Output: 5}, "2026-11-26", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := BuiltIn().Estimate(tt.model, tt.tokens, day(t, tt.day))
			if got == nil || math.Abs(*got-tt.want) > 1e-8 {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	if got := BuiltIn().Estimate("gemini-9", Tokens{Prompt: 1}, time.Now()); got != nil {
		t.Errorf("a model that is not in the table costs %v", *got)
	}
}

func TestTheCostOfSearchesWithoutAPriceIsUnknown(t *testing.T) {
	t.Parallel()
	table, err := Parse(edited(t, func(m map[string]any) {
		delete(m, "retrieval_usd")
		delete(model(m, inUse), "search")
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []Tokens{{Searches: 1}, {Retrievals: 1}} {
		if usd := table.Estimate(inUse, tokens, time.Now()); usd != nil {
			t.Errorf("%+v cost %v", tokens, *usd)
		}
	}
}

func TestReported(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, asked, reported, want string
		substituted                 bool
	}{
		{"the same", "gemini-3.5-flash-lite", "gemini-3.5-flash-lite", "gemini-3.5-flash-lite", false},
		{"a version of it", "gemini-3.5-flash-lite", "gemini-3.5-flash-lite-001", "gemini-3.5-flash-lite", false},
		{"with a version, answered without", "gemini-3.5-flash-lite-001", "gemini-3.5-flash-lite", "gemini-3.5-flash-lite-001", false},
		{"a version in Vertex AI's form", "gemini-3.5-flash-lite", "gemini-3.5-flash-lite@default", "gemini-3.5-flash-lite", false},
		{"a path", "gemini-3.5-flash-lite", "models/gemini-3.5-flash-lite", "gemini-3.5-flash-lite", false},
		{"a publisher's path", "publishers/google/models/gemini-3.5-flash-lite", "gemini-3.5-flash-lite", "publishers/google/models/gemini-3.5-flash-lite", false},
		{"a dated preview", "gemini-3.1-pro-preview", "gemini-3.1-pro-preview-02-2026", "gemini-3.1-pro-preview", false},
		{"another", "gemini-2.5-flash", "gemini-3.5-flash-lite", "gemini-3.5-flash-lite", true},
		{"a version of another", "gemini-2.5-flash", "models/gemini-3.5-flash-lite-002", "gemini-3.5-flash-lite", true},
		{"what an alias stands for", "gemini-flash-latest", "gemini-3.8-flash", "gemini-3.8-flash", false},
		{"nothing", "gemini-2.5-flash", "", "gemini-2.5-flash", false},
		{"no name", "gemini-2.5-flash", "<script>", "gemini-2.5-flash", false},
		{"a line's end", "gemini-2.5-flash", "gemini\n", "gemini-2.5-flash", false},
		{"a name that is too long", "gemini-2.5-flash", strings.Repeat("a", 129), "gemini-2.5-flash", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if name, substituted := Reported(tt.asked, tt.reported); name != tt.want || substituted != tt.substituted {
				t.Errorf("%q, %t; want %q, %t", name, substituted, tt.want, tt.substituted)
			}
		})
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, model string
		want, got   Level
	}{
		{"one that the model has", "gemini-3.5-flash-lite", "low", "low"},
		{"the lowest", "gemini-3.5-flash-lite", "", "minimal"},
		{"the lowest of a model without minimal", "gemini-3.8-flash", "", "low"},
		{"the next higher", "gemini-3.8-flash", "minimal", "low"},
		{"the next higher but one", "gemini-3-pro-preview", "medium", "high"},
		{"a model with budgets", "gemini-2.5-flash", "minimal", "minimal"},
		{"a model that does not think", "offline", "low", ""},
		{"a model that is not in the table", "gemini-9", "low", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := BuiltIn().Model(tt.model).Level(tt.want); got != tt.got {
				t.Errorf("%q, want %q", got, tt.got)
			}
		})
	}
}

func TestEndings(t *testing.T) {
	t.Parallel()
	names := []string{"gemini-9", "gemini-2.5-flash-001", "gemini-3.8-flash", "gemini-3.1-flash-lite"}
	for _, tt := range []struct {
		name, today string
		want        string
	}{
		{"long before", "2026-10-31", ""},
		{"30 days before", "2026-11-01", "The model gemini-2.5-flash-001 ends on 2026-12-01 at the earliest; its successor is gemini-3.5-flash-lite."},
		{"the day before", "2026-11-30", "The model gemini-2.5-flash-001 ends on 2026-12-01 at the earliest; its successor is gemini-3.5-flash-lite."},
		{"the day", "2026-12-01", "The model gemini-2.5-flash-001 ended on 2026-12-01 at the earliest; its successor is gemini-3.5-flash-lite."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, e := range BuiltIn().Endings(names, day(t, tt.today), NearEnd) {
				got = append(got, e.String())
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// edited returns the built-in table after edit, as JSON.
func edited(t testing.TB, edit func(table map[string]any)) []byte {
	t.Helper()
	var table map[string]any
	if err := json.Unmarshal(builtIn, &table); err != nil {
		t.Fatal(err)
	}
	edit(table)
	raw, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func model(table map[string]any, name string) map[string]any {
	return table["models"].(map[string]any)[name].(map[string]any)
}

const inUse = "gemini-3.5-flash-lite"

func TestBadTables(t *testing.T) {
	t.Parallel()
	first := func(table map[string]any) map[string]any {
		return model(table, inUse)["prices"].([]any)[0].(map[string]any)
	}
	bad := map[string][]byte{
		"nothing": nil, "not JSON": []byte("date: 2027-01-01"), "another thing": []byte(`[]`), "an empty object": []byte(`{}`),
		"two tables":                []byte(string(builtIn) + string(builtIn)),
		"a model twice":             []byte(strings.Replace(string(builtIn), `"models": {`, `"models": {"offline": {},`, 1)),
		"no date":                   edited(t, func(m map[string]any) { delete(m, "date") }),
		"a date that is none":       edited(t, func(m map[string]any) { m["date"] = "soon" }),
		"no sources":                edited(t, func(m map[string]any) { m["sources"] = []string{} }),
		"a member of no meaning":    edited(t, func(m map[string]any) { m["comment"] = "?" }),
		"a default without entry":   edited(t, func(m map[string]any) { m["default"] = "gemini-9" }),
		"a fallback without entry":  edited(t, func(m map[string]any) { m["fallback"] = "" }),
		"a model that is null":      edited(t, func(m map[string]any) { m["models"].(map[string]any)["gemini-9"] = nil }),
		"a name that is a path":     edited(t, func(m map[string]any) { m["models"].(map[string]any)["models/x"] = model(m, inUse) }),
		"a name with a version":     edited(t, func(m map[string]any) { m["models"].(map[string]any)["x-001"] = model(m, inUse) }),
		"no price":                  edited(t, func(m map[string]any) { model(m, inUse)["prices"] = []any{} }),
		"a price of no day":         edited(t, func(m map[string]any) { delete(first(m), "from") }),
		"a negative price":          edited(t, func(m map[string]any) { first(m)["cached"] = -1 }),
		"an implausible price":      edited(t, func(m map[string]any) { first(m)["input"] = 99 }),
		"prices out of order":       edited(t, func(m map[string]any) { p := first(m); model(m, inUse)["prices"] = []any{p, p} }),
		"long prompts from 0":       edited(t, func(m map[string]any) { first(m)["above"] = map[string]any{"input": 1, "output": 2} }),
		"no word on sampling":       edited(t, func(m map[string]any) { delete(model(m, inUse), "sampling") }),
		"no room":                   edited(t, func(m map[string]any) { model(m, inUse)["least_output"] = 0 }),
		"more room than there is":   edited(t, func(m map[string]any) { model(m, inUse)["max_output"] = 1 }),
		"a search without unit":     edited(t, func(m map[string]any) { model(m, inUse)["search"] = map[string]any{"usd": 14} }),
		"a search that pays":        edited(t, func(m map[string]any) { model(m, inUse)["search"].(map[string]any)["usd"] = -1 }),
		"a retrieval that pays":     edited(t, func(m map[string]any) { m["retrieval_usd"] = -1 }),
		"no text":                   edited(t, func(m map[string]any) { model(m, inUse)["inputs"] = []string{"image"} }),
		"a successor without entry": edited(t, func(m map[string]any) { model(m, inUse)["successor"] = "gemini-9" }),
		"an end without successor":  edited(t, func(m map[string]any) { model(m, inUse)["ends"] = "2028-01-01" }),
		"thinking of no kind":       edited(t, func(m map[string]any) { model(m, inUse)["thinking"] = map[string]any{} }),
		"thinking of both kinds": edited(t, func(m map[string]any) {
			model(m, inUse)["thinking"] = map[string]any{"levels": []string{"low"}, "budgets": map[string]any{"low": 1}}
		}),
		"a level of no meaning": edited(t, func(m map[string]any) { model(m, inUse)["thinking"] = map[string]any{"levels": []string{"most"}} }),
		"levels out of order": edited(t, func(m map[string]any) {
			model(m, inUse)["thinking"] = map[string]any{"levels": []string{"high", "low"}}
		}),
		"a default that is no level of it": edited(t, func(m map[string]any) {
			model(m, inUse)["thinking"] = map[string]any{"levels": []string{"low"}, "default": "high"}
		}),
		"budgets that fall": edited(t, func(m map[string]any) {
			model(m, inUse)["thinking"] = map[string]any{"budgets": map[string]any{"low": 5, "high": 4}}
		}),
	}
	for name, raw := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse(raw); err == nil {
				t.Error("taken")
			}
			var live Live
			if err := live.Offer(raw, nil); err == nil || live.Table() != BuiltIn() {
				t.Errorf("offered, %v: in use is the table of %s", err, live.Table().Date)
			}
		})
	}
}

func TestOffer(t *testing.T) {
	t.Parallel()
	later := func(m map[string]any) { m["date"] = "2099-01-01" }
	for _, tt := range []struct {
		name  string
		edit  func(map[string]any)
		taken bool
	}{
		{"a later one", later, true},
		{"one of the same day", func(map[string]any) {}, false},
		{"an earlier one", func(m map[string]any) { m["date"] = "2026-01-01" }, false},
		{"a later one without a model that is in use", func(m map[string]any) {
			later(m)
			delete(m["models"].(map[string]any), "gemini-3.6-flash")
		}, false},
		{"a later one without a model that nobody uses", func(m map[string]any) {
			later(m)
			delete(m["models"].(map[string]any), "gemini-3.7-flash")
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var live Live
			err := live.Offer(edited(t, tt.edit), []string{"gemini-3.6-flash", "gemini-9"})
			if (err == nil) != tt.taken || (live.Table() != BuiltIn()) != tt.taken {
				t.Errorf("taken: %t, want %t: %v", live.Table() != BuiltIn(), tt.taken, err)
			}
		})
	}
	if (*Live)(nil).Table() != BuiltIn() {
		t.Error("without a Live another table is in use")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(builtIn)
	f.Add([]byte(`{"date":"2026-01-01","models":{"a":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, err := Parse(raw)
		if err != nil {
			return
		}
		for name, m := range table.Models {
			if table.Estimate(name, Tokens{Prompt: 1, Output: 1}, time.Now()) == nil || m.Level("low") == "" != (m.Thinking == nil) {
				t.Errorf("%s: unusable %+v", name, m)
			}
		}
	})
}
