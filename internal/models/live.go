package models

import (
	"fmt"
	"sync/atomic"
)

// A Live holds the table in use: at first the one that the program was built
// with. It is safe for concurrent use. A nil Live has that one only.
type Live struct{ table atomic.Pointer[Table] }

// Table returns the table in use.
func (l *Live) Table() *Table {
	if l == nil {
		return BuiltIn()
	}
	if t := l.table.Load(); t != nil {
		return t
	}
	return BuiltIn()
}

// Offer replaces the table by the one that raw holds, when that has proved
// itself: it can be read, is of a later day than the one in use, and has an entry
// for each of the models that the one in use knows of names. Otherwise the one in
// use stays, and the error says why.
func (l *Live) Offer(raw []byte, names []string) error {
	offered, err := Parse(raw)
	if err != nil {
		return err
	}
	current := l.table.Load()
	used := l.Table()
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

// Withdraw puts the built-in table to use again.
func (l *Live) Withdraw() { l.table.Store(nil) }
