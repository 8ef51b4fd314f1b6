package models

import (
	"cmp"
	"fmt"
	"time"
)

// NearEnd is how long before a model's end its deployment counts as degraded.
const NearEnd = 30 * 24 * time.Hour

// An Ending is a model that ends soon or has ended.
type Ending struct {
	Model     string
	Ends      Day
	Successor string
	Passed    bool
}

// Endings returns those of the models that end at the latest within a time after
// now, in their order.
func (t *Table) Endings(names []string, now time.Time, within time.Duration) []Ending {
	var all []Ending
	for _, name := range names {
		m := t.Model(name)
		if m == nil || m.Ends.IsZero() || now.Add(within).Before(m.Ends.begin) {
			continue
		}
		all = append(all, Ending{Model: name, Ends: m.Ends, Successor: m.Successor, Passed: !now.Before(m.Ends.begin)})
	}
	return all
}

// Successor returns the model that follows on a model, "" where t knows none.
func (t *Table) Successor(name string) string {
	if m := t.Model(name); m != nil {
		return m.Successor
	}
	return ""
}

// String is a sentence for operators.
func (e Ending) String() string {
	word := "ends"
	if e.Passed {
		word = "ended"
	}
	return fmt.Sprintf("The model %s %s on %s at the earliest; its successor is %s.", e.Model, word, e.Ends, cmp.Or(e.Successor, "not known"))
}
