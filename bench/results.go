package main

import (
	"runtime"
	"slices"
	"strconv"
	"time"
)

// Results are everything that was measured, as the JSON file has it.
type Results struct {
	Machine    Machine           `json:"machine"`
	Options    Options           `json:"options"`
	Binaries   map[string]int64  `json:"binaries"`       // bytes
	Units      map[string]string `json:"units"`          // of the figures
	Runs       []Run             `json:"runs,omitempty"` // in the order they were made
	Comparison []Comparison      `json:"comparison"`
	Documents  []Touched         `json:"documents,omitempty"`
	Instances  []Instances       `json:"instances,omitempty"`
	Peers      *Peers            `json:"peers,omitempty"`
}

// A Machine is what was measured on.
type Machine struct {
	Date        time.Time `json:"date"`
	OS          string    `json:"os"`
	Arch        string    `json:"arch"`
	Kernel      string    `json:"kernel"`
	CPU         string    `json:"cpu"`
	Cores       int       `json:"cores"`
	MemoryBytes int64     `json:"memory_bytes"`
	Go          string    `json:"go"`
	LoadBefore  float64   `json:"load_average_before"` // the machine's other work, if any
}

func machine() Machine {
	m := Machine{
		Date: time.Now().UTC().Truncate(time.Second), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Cores: runtime.NumCPU(), Go: runtime.Version(), LoadBefore: loadAverage(),
	}
	hardware(&m)
	return m
}

// A Run is one scenario on one server, once. The limit is run beside each other
// server, right before it or right after.
type Run struct {
	Scenario string  `json:"scenario"`
	Target   string  `json:"target"`
	Beside   string  `json:"beside,omitempty"` // of the limit: the server that it was run for
	Round    int     `json:"round"`
	Figures  Figures `json:"figures"`
}

// A Comparison is one figure of one server beside the limit's.
type Comparison struct {
	Scenario string    `json:"scenario"`
	Target   string    `json:"target"`
	Figure   string    `json:"figure"`
	By       string    `json:"by"`       // "ratio", "difference" or "value"
	Limit    float64   `json:"limit"`    // median
	Ours     float64   `json:"ours"`     // median
	ByRound  []float64 `json:"by_round"` // ours with the limit's beside it
	Median   float64   `json:"median"`   // of by_round
	Budget   string    `json:"budget,omitempty"`
	Met      *bool     `json:"met,omitempty"`
}

// compare sets each server's figures beside the limit's of the same pair.
func (r *Results) compare(all []scenario, targets []target) {
	figure := func(scenario, target, beside, name string) (values []float64) {
		for _, run := range r.Runs {
			if value, ok := run.Figures[name]; ok && run.Scenario == scenario && run.Target == target && run.Beside == beside {
				values = append(values, value)
			}
		}
		return values
	}
	for _, s := range all {
		for _, t := range targets {
			if t.name == limit.name {
				continue
			}
			for _, m := range metrics {
				bounds, ours := figure(s.name, limit.name, t.name, m.name), figure(s.name, t.name, "", m.name)
				if len(bounds) == 0 || len(ours) != len(bounds) {
					continue
				}
				c := Comparison{Scenario: s.name, Target: t.name, Figure: m.name, By: m.compare.String(), Limit: median(bounds), Ours: median(ours)}
				for i := range ours {
					if value, ok := m.compare.with(bounds[i], ours[i]); ok {
						c.ByRound = append(c.ByRound, value)
					}
				}
				c.Median = median(c.ByRound)
				if b, ok := s.budgets[m.name]; ok && t.held {
					met := b.met(c.Median)
					c.Budget, c.Met = b.text, &met
				}
				r.Comparison = append(r.Comparison, c)
			}
		}
	}
}

// keep writes what the page and the simulation read: everything but the peers, the single
// runs, and each pair's comparison in six digits, which are all that is shown.
func (r *Results) keep(file string) error {
	kept := *r
	kept.Runs, kept.Peers, kept.Comparison = nil, nil, slices.Clone(r.Comparison)
	for i, c := range kept.Comparison {
		c.ByRound = slices.Clone(c.ByRound)
		for j, x := range c.ByRound {
			c.ByRound[j] = sixDigits(x)
		}
		kept.Comparison[i] = c
	}
	return write(file, kept)
}

func sixDigits(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
	if err != nil {
		return x
	}
	return y
}

func (c comparison) String() string { return [...]string{"ratio", "difference", "value"}[c] }
