package models

import (
	"cmp"
	"fmt"
	"time"
)

// NearEnd is how long before a model's end a deployment that uses it is degraded.
const NearEnd = 30 * 24 * time.Hour

// An Ending is a model that has ended or ends soon.
type Ending struct {
	Model     string
	Ends      Day
	Successor string
	Passed    bool
}

// Endings returns those of the named models that end at most within after now, in the
// order of names.
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

// Successor returns the successor of a model, "" if none is known.
func (t *Table) Successor(name string) string {
	if m := t.Model(name); m != nil {
		return m.Successor
	}
	return ""
}

// String returns a sentence for operators.
func (e Ending) String() string {
	word := "ends"
	if e.Passed {
		word = "ended"
	}
	return fmt.Sprintf("The model %s %s on %s at the earliest; its successor is %s.", e.Model, word, e.Ends, cmp.Or(e.Successor, "not known"))
}
