// Package models holds what the project knows about Gemini's models: one table,
// models.json, with its date and sources. Requests are built from it, costs are
// estimated with it, and the health of a deployment depends on it.
//
// Models are shut down, and prices change on announced days. So each price has the day
// from which it applies, and each model, if Google has announced one, the earliest day
// on which it may end. A [Table] is immutable. A [Live] holds the current table, which
// a newer one can replace while the process runs.
//
// The table has no entries for models of other vendors or for models released after
// its date. Requests to these carry only settings that every model accepts, and their
// cost is unknown.
package models

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

//go:embed models.json
var builtIn []byte

// A Table is the profiles and prices of models. It must not be modified, and is
// therefore safe for concurrent use.
type Table struct {
	Date    Day      `json:"date"` // of the last comparison with the sources
	Sources []string `json:"sources"`
	// Default and Fallback are used by deployments that do not configure models.
	Default  string `json:"default"`
	Fallback string `json:"fallback"`
	// Retrieval is the price of a thousand queries of Vertex AI Search, in US dollars:
	// that of its Enterprise edition, the dearer one.
	Retrieval *float64          `json:"retrieval_usd,omitempty"`
	Models    map[string]*Model `json:"models"`
}

// A Model is the profile of one model.
type Model struct {
	Prices   []Price   `json:"prices"`             // the earliest first
	Thinking *Thinking `json:"thinking,omitempty"` // nil: not configurable
	Sampling Sampling  `json:"sampling"`
	// LeastOutput is the smallest useful limit on an answer, in tokens: with less,
	// thoughts may use all of it. MaxOutput is the largest limit that the model
	// accepts.
	LeastOutput int `json:"least_output"`
	MaxOutput   int `json:"max_output"`
	// Combines reports whether the model takes Gemini's own tools beside functions, and
	// a schema for the answer beside either. Models before Gemini 3 refuse both.
	Combines  bool     `json:"combines,omitempty"`
	Search    *Search  `json:"search,omitempty"` // nil: the price of Google Search is unknown
	Inputs    []string `json:"inputs"`
	Closed    Day      `json:"closed,omitzero"`     // day from which new projects cannot use it
	Ends      Day      `json:"ends,omitzero"`       // earliest day of its end; zero: not announced
	Successor string   `json:"successor,omitempty"` // recommended by Google
}

// A Price is valid from a day on, in US dollars per million tokens.
type Price struct {
	From Day `json:"from"`
	Rate
	// Above is the price of calls with longer prompts; nil: the same.
	Above *LongContext `json:"above,omitempty"`
}

// A LongContext is the rate of calls with more than PromptTokens.
type LongContext struct {
	PromptTokens int64 `json:"prompt_tokens"`
	Rate
}

// A Search is the price of grounding with Google Search, in US dollars per thousand.
// What is free each day or month is not taken off.
type Search struct {
	USD float64  `json:"usd"`
	Per SearchBy `json:"per"`
}

// A SearchBy is what a search is counted by: the queries that the model makes of it,
// or the prompts that made it search at all.
type SearchBy string

const (
	PerQuery  SearchBy = "query"
	PerPrompt SearchBy = "prompt"
)

// A Rate is in US dollars per million tokens.
type Rate struct {
	Input  float64 `json:"input"`
	Cached float64 `json:"cached"` // input tokens served from a cache
	Output float64 `json:"output"` // includes thoughts
}

// Thinking is how a model's thinking is configured: by level, or by a budget in
// tokens. One of Levels and Budgets is set.
type Thinking struct {
	Levels  []Level       `json:"levels,omitempty"`  // the lowest first
	Budgets map[Level]int `json:"budgets,omitempty"` // tokens for each level
	Default Level         `json:"default,omitempty"` // the model's own default
}

// A Level is an amount of thinking.
type Level string

// levels lists all levels, the lowest first. Most models have only some of them.
var levels = []Level{"minimal", "low", "medium", "high"}

// Low is the default for an agent with tools: with a lower level, models may stop
// before the last of several tool calls.
const Low Level = "low"

// Levels returns all levels, the lowest first.
func Levels() []Level { return slices.Clone(levels) }

// LevelOf returns the level that a budget of thinking in tokens is about.
func LevelOf(budget int) Level {
	switch {
	case budget < 0: // the model decides
		return "medium"
	case budget <= 512:
		return "minimal"
	case budget <= 4096:
		return "low"
	case budget <= 16384:
		return "medium"
	}
	return "high"
}

// Sampling is what a model does with temperature, top-k and top-p.
type Sampling string

const (
	SamplingTaken   Sampling = "taken"
	SamplingIgnored Sampling = "ignored"
)

// A Day is a date in UTC. The zero Day means none.
type Day struct{ begin time.Time }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Day) UnmarshalText(text []byte) (err error) {
	d.begin, err = time.Parse(time.DateOnly, string(text))
	return err
}

// Begin returns the start of the day.
func (d Day) Begin() time.Time { return d.begin }

// IsZero reports whether d is the zero Day.
func (d Day) IsZero() bool { return d.begin.IsZero() }

func (d Day) String() string { return d.begin.Format(time.DateOnly) }

// BuiltIn returns the table that the program was built with. It is parsed on first
// use, because a cold start pays for work at init.
var BuiltIn = sync.OnceValue(func() *Table {
	t, err := Parse(builtIn)
	if err != nil {
		panic(fmt.Sprintf("models: models.json: %v", err)) // models.json is embedded, and tests parse it
	}
	return t
})

// Parse decodes and validates a table.
func Parse(raw []byte) (*Table, error) {
	t := &Table{}
	if err := json.Unmarshal(raw, t, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("reading a table of models: %w", err)
	}
	if t.Retrieval != nil && !isPrice(*t.Retrieval) {
		return nil, errors.New("the price of retrieval is negative or not a number")
	}
	if t.Date.IsZero() || len(t.Sources) == 0 || len(t.Models) == 0 {
		return nil, errors.New("a table of models needs a date, sources and models")
	}
	for _, name := range []string{t.Default, t.Fallback} {
		if t.Models[name] == nil {
			return nil, fmt.Errorf("the table has no entry for its default or fallback %q", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Models)) {
		if err := t.check(name); err != nil {
			return nil, fmt.Errorf("model %q: %w", name, err)
		}
	}
	return t, nil
}

// check returns the first problem of a model's entry.
func (t *Table) check(name string) error {
	m := t.Models[name]
	switch {
	case !validName(name) || name != Normal(name):
		return errors.New("the name is not a model's name without path and version")
	case m == nil:
		return errors.New("has no profile")
	case len(m.Prices) == 0:
		return errors.New("has no price")
	case m.Sampling != SamplingTaken && m.Sampling != SamplingIgnored:
		return fmt.Errorf("sampling is %q, not taken or ignored", m.Sampling)
	case m.LeastOutput < 1 || m.MaxOutput < m.LeastOutput:
		return errors.New("least_output must be above 0 and at most max_output")
	case !slices.Contains(m.Inputs, "text"):
		return errors.New("inputs must include text")
	case m.Search != nil && (!isPrice(m.Search.USD) || m.Search.Per != PerQuery && m.Search.Per != PerPrompt):
		return errors.New("search needs a price per query or prompt")
	case m.Successor != "" && t.Models[m.Successor] == nil:
		return fmt.Errorf("the successor %q is not in the table", m.Successor)
	case m.Successor == "" && !m.Ends.IsZero():
		return errors.New("has an end and no successor")
	}
	for i, p := range m.Prices {
		if p.From.IsZero() || i > 0 && !p.From.begin.After(m.Prices[i-1].From.begin) {
			return errors.New("each price needs a day, later than that of the one before")
		}
		if err := p.check(); err != nil {
			return err
		}
		if p.Above == nil {
			continue
		}
		if err := p.Above.check(); err != nil || p.Above.PromptTokens < 1 {
			return errors.Join(errors.New("the price of long prompts is invalid"), err)
		}
	}
	return m.Thinking.check()
}

func (r Rate) check() error {
	for _, usd := range []float64{r.Input, r.Cached, r.Output} {
		if !isPrice(usd) {
			return errors.New("a price is negative or not a number")
		}
	}
	if r.Cached > r.Input || r.Input > r.Output {
		return errors.New("a price is implausible: cached is at most input, and input at most output")
	}
	return nil
}

func isPrice(usd float64) bool { return usd >= 0 && !math.IsInf(usd, 0) }

func (t *Thinking) check() error {
	if t == nil {
		return nil
	}
	if (len(t.Levels) == 0) == (len(t.Budgets) == 0) {
		return errors.New("thinking needs either levels or budgets")
	}
	have := t.levels()
	if len(have) != len(t.Levels)+len(t.Budgets) || len(t.Levels) > 0 && !slices.Equal(have, t.Levels) {
		return fmt.Errorf("thinking's levels must be some of %v, in this order, each once", levels)
	}
	if t.Default != "" && !slices.Contains(have, t.Default) {
		return fmt.Errorf("thinking's default %q is not one of its levels", t.Default)
	}
	least := -1
	for _, level := range have {
		if t.Budgets != nil && t.Budgets[level] <= least {
			return errors.New("thinking's budgets must rise with the level, from 0")
		}
		least = t.Budgets[level]
	}
	return nil
}

// levels returns t's levels, the lowest first.
func (t *Thinking) levels() []Level {
	var have []Level
	for _, level := range levels {
		if t.has(level) {
			have = append(have, level)
		}
	}
	return have
}

func (t *Thinking) has(level Level) bool {
	_, ok := t.Budgets[level]
	return ok || slices.Contains(t.Levels, level)
}

// Levels returns m's levels, the lowest first.
func (m *Model) Levels() []Level {
	if m == nil || m.Thinking == nil {
		return nil
	}
	return m.Thinking.levels()
}

// Level returns want if m has it, else m's next higher level, else its highest. ""
// requests the lowest level. The result is "" for a model without levels.
func (m *Model) Level(want Level) Level {
	if m == nil || m.Thinking == nil {
		return ""
	}
	var highest Level
	for i, level := range levels {
		if !m.Thinking.has(level) {
			continue
		}
		if i >= slices.Index(levels, want) {
			return level
		}
		highest = level
	}
	return highest
}

// validName reports whether name has the form of a model's name, without path and
// version.
func validName(name string) bool {
	strange := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) }
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, strange) && !strings.ContainsAny(name[:1], "._-")
}

// maxName bounds a model's name, in bytes: an upstream may report anything.
const maxName = 128

// Normal returns a model's name without its path (models/…,
// publishers/google/models/…) and version (-001, @001).
func Normal(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	for _, form := range []string{"-000", "-00-0000", "-00-00"} { // versions, and dates of previews
		if rest, ok := cutDigits(name, form); ok {
			return rest
		}
	}
	return name
}

// cutDigits removes the suffix of name that matches form, in which 0 stands for any
// digit.
func cutDigits(name, form string) (rest string, ok bool) {
	at := len(name) - len(form)
	if at < 1 {
		return "", false
	}
	for i := range len(form) {
		c := name[at+i]
		if form[i] == '0' && (c < '0' || c > '9') || form[i] != '0' && c != form[i] {
			return "", false
		}
	}
	return name[:at], true
}

// Reported returns the model that answered: asked, or, normalized, the one that the
// response reports. A report that is not a valid name is ignored.
func Reported(asked, reported string) (name string, substituted bool) {
	name = Normal(reported)
	switch {
	case !validName(name):
		return asked, false
	case name == Normal(asked):
		return asked, false
	case strings.HasSuffix(asked, "-latest"): // an alias for another model
		return name, false
	}
	return name, true
}

// Model returns the profile of a model, nil if the table has none.
func (t *Table) Model(name string) *Model { return t.Models[Normal(name)] }

// Tokens are what a call is charged for.
type Tokens struct {
	Prompt int64
	Cached int64 // of Prompt
	Output int64 // includes thoughts

	// Searches and Retrievals are the queries that the call made of Google Search and of
	// Vertex AI Search. Code execution and URL context cost tokens only.
	Searches, Retrievals int64
}

// Estimate returns the cost of one call of a model on a day, in US dollars, or nil if
// a price is unknown.
//
// It is not a bill: it ignores discounts, and covers text and searches only.
func (t *Table) Estimate(name string, tokens Tokens, at time.Time) *float64 {
	m := t.Model(name)
	if m == nil {
		return nil
	}
	r := m.rate(tokens.Prompt, at)
	cached := min(tokens.Cached, tokens.Prompt)
	usd := (float64(tokens.Prompt-cached)*r.Input + float64(cached)*r.Cached + float64(tokens.Output)*r.Output) / 1e6
	if tokens.Searches > 0 {
		if m.Search == nil {
			return nil
		}
		counted := tokens.Searches
		if m.Search.Per == PerPrompt {
			counted = 1
		}
		usd += float64(counted) * m.Search.USD / 1e3
	}
	if tokens.Retrievals > 0 {
		if t.Retrieval == nil {
			return nil
		}
		usd += float64(tokens.Retrievals) * *t.Retrieval / 1e3
	}
	usd = math.Round(usd*1e8) / 1e8
	return &usd
}

// rate returns the rate of a call with prompt tokens. The first price also applies
// before its day.
func (m *Model) rate(prompt int64, at time.Time) Rate {
	price := m.Price(at)
	if price.Above != nil && prompt > price.Above.PromptTokens {
		return price.Above.Rate
	}
	return price.Rate
}

// Price returns the price at a time.
func (m *Model) Price(at time.Time) Price {
	price := m.Prices[0]
	for _, p := range m.Prices[1:] {
		if !at.Before(p.From.begin) {
			price = p
		}
	}
	return price
}
