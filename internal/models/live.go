package models

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// A Live holds the current table: initially the built-in one. It is safe for
// concurrent use. A nil Live always has the built-in table.
type Live struct{ table atomic.Pointer[Table] }

// Table returns the current table.
func (l *Live) Table() *Table {
	if l == nil {
		return BuiltIn()
	}
	if t := l.table.Load(); t != nil {
		return t
	}
	return BuiltIn()
}

// ErrSuperseded is that of a table that the built-in one has caught up with, as it
// does when a service is upgraded after an operator brought the table.
var ErrSuperseded = errors.New("the built-in table of models is as new")

// Offer replaces the current table by the one in raw if that is valid, has a later
// date, and has an entry for each of names that the current one has. Otherwise the
// current table stays, and the error is why: [ErrSuperseded] is no fault.
func (l *Live) Offer(raw []byte, names []string) error {
	offered, err := Parse(raw)
	if err != nil {
		return err
	}
	current := l.table.Load()
	used := l.Table()
	if !offered.Date.begin.After(BuiltIn().Date.begin) && used == BuiltIn() {
		return ErrSuperseded
	}
	if !offered.Date.begin.After(used.Date.begin) {
		return fmt.Errorf("a table of %s does not replace the one of %s", offered.Date, used.Date)
	}
	for _, name := range names {
		if offered.Model(name) == nil && used.Model(name) != nil {
			return fmt.Errorf("the table of %s has no entry for %s, which is in use", offered.Date, name)
		}
	}
	if !l.table.CompareAndSwap(current, offered) {
		return fmt.Errorf("the table of %s came while another was being taken", offered.Date)
	}
	return nil
}

// Withdraw makes the built-in table the current one again.
func (l *Live) Withdraw() { l.table.Store(nil) }
