package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"sync"
	"time"
)

// A period is how a kind of limit is counted.
type period struct {
	name   string
	length time.Duration
	unit   int64 // what one of the limit's own units is counted as; leases are whole ones
	daily  bool
}

var (
	minute = &period{name: "minute", length: time.Minute, unit: Turn}
	day    = &period{name: "day", length: 24 * time.Hour, unit: 1, daily: true}
)

// slack is how long a counter outlives its window, for clocks that differ.
const slack = 5 * time.Minute

// A key names a window. Unix time has no leap seconds, so that its multiples of
// a minute and of a day are clock minutes and UTC days.
type key struct {
	period *period
	name   string
	who    string
	number int64 // of the period, from 1970 on
}

// counter is the name of the window's counter: safe for a document's id, and
// nothing that tells who it is about.
func (k key) counter() string {
	text := strconv.Quote(k.period.name) + strconv.Quote(k.name) + strconv.Quote(k.who) + strconv.FormatInt(k.number, 10)
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// A window is what this instance holds of one limit in one period.
type window struct {
	key     key
	counter string
	ends    time.Time

	mu        sync.Mutex
	limit     int64 // in units of the period's unit
	granted   int64 // leased by this instance
	used      int64 // let through by this instance; above granted it is a debt
	leased    int64 // by all instances, as last heard
	batch     int64 // the size of the next lease
	step      int64 // the size of those beyond what was foreseen
	exhausted bool  // the counter has no more
	leasing   chan struct{}
}

// coldBatch is up to what the first lease of a rate may be a twelfth of the
// limit however many instances there are: below 20 calls a minute it is the
// only one. Larger ones are half of what an even distribution would give, so
// that instances which lease more than they need leave something to the others.
const coldBatch = 20 * Turn

// newWindow makes a window whose first batch follows what was used in the
// window before.
func newWindow(k key, limit, before int64, instances int) *window {
	w := &window{
		key: k, counter: k.counter(), limit: limit,
		ends: time.Unix((k.number+1)*int64(k.period.length/time.Second), 0).UTC(),
	}
	if k.period.daily {
		w.batch = limit / 100
	} else {
		w.step = max(k.period.unit, min(limit/12, max(limit/int64(2*instances), coldBatch)))
		w.batch = max(w.step, min(before+before/5, limit/3))
	}
	return w
}

// setLimit follows a limit that was changed while the window runs.
func (w *window) setLimit(limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit != limit {
		w.limit, w.exhausted = limit, false
	}
}

type outcome int

const (
	taken   outcome = iota
	wanting         // a lease is needed first
	refused
)

// take takes cost from what this instance holds.
func (w *window) take(cost int64) outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.used+cost <= w.held():
		w.used += cost
		return taken
	case w.exhausted, cost > w.limit:
		return refused
	}
	return wanting
}

// takeShare takes cost while the counters are away: within this instance's
// share of the limit, of which what it used before counts, and not beyond what
// is known to be left. What it used in excess of its leases is a debt.
func (w *window) takeShare(cost int64, instances int) outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	turns := w.limit / w.key.period.unit
	share := (turns + int64(instances) - 1) / int64(instances) * w.key.period.unit
	allowed := max(w.held(), min(share, w.granted+w.limit-w.leased))
	if w.used+cost > allowed {
		return refused
	}
	w.used += cost
	return taken
}

// held is what was leased, as far as the limit allows.
func (w *window) held() int64 { return min(w.granted, w.limit) }

// want is how much to lease, and the least of it that is worth a lease and by which
// cost can be taken: whole units, and not beyond the limit.
func (w *window) want(cost int64) (want, least int64) {
	whole := func(n int64) int64 {
		unit := w.key.period.unit
		return (n + unit - 1) / unit * unit
	}
	least = whole(max(w.used+cost-w.granted, w.limit/24))
	return min(max(least, whole(w.batch)), w.limit-w.leased), least
}

// leaseEnded takes in what the counter answered to a lease.
func (w *window) leaseEnded(granted, leased int64) {
	w.granted += granted
	w.leased = leased
	w.exhausted = granted == 0 || leased >= w.limit
	if !w.key.period.daily {
		if w.batch <= w.step {
			w.step = min(2*w.step, w.limit/3)
		}
		w.batch = w.step
	}
}

// give changes what was used by n, which is negative for a refund.
func (w *window) give(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used = max(0, w.used+n)
}

// state is the window as its owner may see it.
func (w *window) state() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.held() - w.used
	if !w.exhausted {
		left += max(0, w.limit-w.leased)
	}
	unit := w.key.period.unit
	return State{
		Name: w.key.name, Daily: w.key.period.daily, ResetsAt: w.ends,
		Limit: w.limit / unit, Left: max(0, left) / unit,
	}
}
