package limit

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"sync"
	"time"

	"example.com/gatehouse/session"
)

// slack is how long an account outlives its day, because clocks differ.
const slack = time.Hour

// A key identifies a subject's day. Unix time has no leap seconds, so its multiples of
// 60 and 86,400 s are clock minutes and UTC days.
type key struct {
	name string
	who  string
	day  int64 // counted from 1970
}

const (
	secondsOfMinute = 60
	secondsOfDay    = 24 * 60 * 60
)

// account returns the name of the subject's account. It is safe as a document id,
// which must not have the form __…__, and does not reveal whose it is.
func (k key) account() string {
	text := strconv.Quote(k.name) + strconv.Quote(k.who) + strconv.FormatInt(k.day, 10)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// A subject is this instance's part of one account.
type subject struct {
	key     key
	account string
	ends    time.Time // end of the day

	// Guarded by the Limiter's mu.
	recent *list.Element
	due    time.Time // when it must be reported
	queued bool
	place  int // index in the queue

	mu     sync.Mutex
	calls  calls
	tokens tokens

	usage      map[string]Spend // of this holding, by model; nobody else has this map
	reported   map[string]Spend // the part of usage in the last confirmed update
	instance   string           // name of this holding
	seq        int64
	renewed    time.Time // when the last update was confirmed
	others     int       // instances with a holding at that time
	updating   chan struct{}
	unreported bool // something was spent since the last confirmed update
}

// calls counts tenths of turns in one clock minute.
type calls struct {
	limit  int64
	minute int64
	used   int64 // may exceed leased: a debt
	leased int64
	all    int64     // leased by all instances, as last seen
	heard  time.Time // zero: not in this minute
	batch  int64     // size of the next lease
	step   int64     // size of leases beyond the expected use
}

// tokens counts the tokens of the day.
type tokens struct {
	limit    int64
	spent    int64 // of this holding
	inFlight int64 // reserved
	ceiling  int64 // leased; spent and inFlight above it are a debt
	left     int64 // what anybody could still lease, as last seen
	heard    time.Time
	waiting  int64 // requested by calls that wait for a lease
}

const (
	// heardFor is how long an instance refuses calls by the last known state before it
	// checks whether others have returned something.
	heardFor = 10 * time.Second
	// coldBatch: a lease of a rate is a twelfth of the limit, but above coldBatch at
	// most half of what an even distribution over all instances would be, so that
	// instances which lease more than they need leave something to others. What an
	// instance that crashes had not spent stays leased until the minute ends, so a dozen or
	// more crashes within a minute can refuse calls that the limit allows. Smaller first
	// leases would cost each new instance several writes of the one account.
	coldBatch = 20 * Turn
	// leasesOfDay: a lease is this fraction of a day's budget, or one reservation if
	// that is more.
	leasesOfDay = 1000
	// keptOfDay: an instance may keep this fraction of a day's budget unspent, beyond
	// what running calls need; it returns the excess at once. After thirty crashes,
	// and with nine instances holding it at the end of the day, nine tenths of the
	// budget could be used.
	keptOfDay = 400
)

func newSubject(k key) *subject {
	return &subject{
		key: k, account: k.account(), instance: session.NewID(),
		ends: time.Unix((k.day+1)*secondsOfDay, 0).UTC(),
	}
}

// roll starts the minute of now, if it has not started. The first batch depends on the
// use in the minute before. The caller holds mu.
func (s *subject) roll(now time.Time, limit int64, instances int) {
	c := &s.calls
	minute := now.Unix() / secondsOfMinute
	if c.minute == minute && c.limit == limit {
		return
	}
	if c.minute == minute { // the limit was changed during the minute
		c.limit, c.heard = limit, time.Time{}
		return
	}
	var before int64
	if c.minute == minute-1 {
		before = c.used
	}
	*c = calls{limit: limit, minute: minute}
	c.step = max(Turn, min(limit/12, max(limit/int64(2*instances), coldBatch)))
	c.batch = max(c.step, min(before+before/5, limit/3))
}

type outcome int

const (
	taken   outcome = iota
	wanting         // a lease is needed first
	refused
)

// takeCalls takes cost from this instance's lease. The caller holds mu and has called
// roll.
func (s *subject) takeCalls(cost int64, now time.Time) outcome {
	c := &s.calls
	switch {
	case c.used+cost <= min(c.leased, c.limit):
		c.used += cost
		return taken
	case cost > c.limit, now.Sub(c.heard) < heardFor && c.used+cost > c.leased+c.limit-c.all:
		return refused
	}
	return wanting
}

// takeTokens reserves cost from this instance's lease. The caller holds mu.
func (s *subject) takeTokens(cost int64, now time.Time) outcome {
	t := &s.tokens
	switch {
	case t.limit == 0:
		return taken
	case now.Before(s.renewed.Add(leaseLife)) && t.spent+t.inFlight+cost <= min(t.ceiling, t.limit):
		t.inFlight += cost
		return taken
	case cost > t.limit, now.Sub(t.heard) < heardFor && t.spent+t.inFlight+cost > t.ceiling+t.left:
		return refused
	}
	return wanting
}

// takeShare takes cost while the counters are unavailable: from the lease and from
// this instance's share of what was left when last seen. Use beyond the lease is a
// debt. The caller holds mu.
func (s *subject) takeShare(daily bool, cost int64, instances int) outcome {
	n := int64(instances)
	if daily {
		t := &s.tokens
		left := t.limit
		if !t.heard.IsZero() {
			left = max(0, t.left)
		}
		if t.spent+t.inFlight+cost > t.ceiling+left/n {
			return refused
		}
		t.inFlight += cost
		return taken
	}
	c := &s.calls
	turns := max(0, (c.limit-c.all)/Turn)
	if c.used+cost > min(c.leased+(turns+n-1)/n*Turn, c.limit) {
		return refused
	}
	c.used += cost
	return taken
}

// An ask is what an update requests in addition to its report.
type ask struct {
	calls   int64 // tenths of turns that a call waits for
	tokens  int64 // tokens that a call waits for
	expects int64 // tokens that the call will reserve next
	leave   bool  // the holding ends
}

// compose returns the update that reports this holding and requests a. What the update
// returns is no longer used from now on. The caller holds mu.
func (s *subject) compose(now time.Time, a ask) Update {
	s.renew(now)
	s.seq++
	t, c := &s.tokens, &s.calls
	u := Update{
		Instance: s.instance, Seq: s.seq, At: now, Expires: s.ends.Add(slack),
		PerDay: t.limit, Spent: t.spent, InFlight: t.inFlight, Least: t.inFlight, Usage: maps.Clone(s.usage),
		PerMinute: c.limit, Minute: c.minute, Calls: max(c.leased, c.used),
	}
	lease, kept := t.shares()
	spare := max(0, t.ceiling-t.spent-t.inFlight)
	switch wanted := max(a.tokens, t.waiting); {
	case t.limit == 0 || a.leave:
		u.Want = t.inFlight
	case a.tokens > 0:
		u.Want, u.Least = t.inFlight+max(wanted, min(spare+max(wanted, lease), kept)), t.inFlight+a.tokens
	case a.expects > spare && a.expects <= kept:
		u.Want = t.inFlight + min(spare+max(a.expects, lease), kept)
	case spare > kept:
		u.Want = t.inFlight + lease
	default:
		u.Want = t.inFlight + spare
	}
	t.ceiling = min(t.ceiling, t.spent+u.Want)
	if a.leave {
		u.Calls, u.Leave = c.used, true
	}
	c.leased = min(c.leased, u.Calls)
	if a.calls > 0 {
		// Where many instances share the limit, a 24th would be more than is left to each.
		u.MoreLeast = whole(max(c.used+a.calls-u.Calls, min(c.limit/24, c.step)))
		u.More = max(u.MoreLeast, whole(c.batch))
	}
	return u
}

// shares returns the tokens of a lease, unless a call needs more, and the most that
// may be kept.
func (t *tokens) shares() (lease, kept int64) {
	return max(1, t.limit/leasesOfDay), max(1, t.limit/keptOfDay)
}

// whole rounds tenths up to whole turns.
func whole(tenths int64) int64 { return (tenths + Turn - 1) / Turn * Turn }

// renew starts another holding when this one is about to expire: the others will count
// all of it as spent, so only what was spent beyond it carries over. The caller holds
// mu.
func (s *subject) renew(now time.Time) {
	if !s.renewed.IsZero() && now.After(s.renewed.Add(leaseLife+forgetAfter*3/4)) {
		s.begin(s.tokens.ceiling, s.reported, 0)
	}
}

// begin starts another holding. It takes over what exceeds the tokens, use and calls
// charged to this one. The caller holds mu.
func (s *subject) begin(spent int64, used map[string]Spend, calls int64) {
	s.instance, s.seq, s.renewed, s.reported = session.NewID(), 0, time.Time{}, nil
	s.tokens.spent = max(0, s.tokens.spent-spent)
	s.tokens.ceiling = 0
	left := map[string]Spend{}
	for model, all := range s.usage {
		if had := used[model]; all != had {
			left[model] = Spend{Tokens: all.Tokens - had.Tokens, CostUSD: all.CostUSD - had.CostUSD}
		}
	}
	s.usage = left
	s.calls.used = max(0, s.calls.used-calls)
	s.calls.leased = max(0, s.calls.leased-calls)
}

// recordAnswer records the result of u. The caller holds mu.
func (s *subject) recordAnswer(u Update, a Account, now time.Time) {
	mine := a.Shares[u.Instance]
	s.renewed, s.others, s.reported = now, a.live(now), u.Usage
	t := &s.tokens
	if t.limit > 0 {
		t.ceiling = mine.Spent + mine.Held
		t.left, t.heard = t.limit-a.Charged(), now
	}
	if t.spent == u.Spent && maps.Equal(s.usage, u.Usage) {
		s.unreported = false
	}
	c := &s.calls
	if u.Leave {
		defer s.begin(u.Spent+u.InFlight, u.Usage, u.Calls)
	}
	if c.minute != u.Minute {
		return
	}
	c.leased, c.all, c.heard = mine.Calls, a.Calls(u.Minute), now
	if u.More > 0 {
		if c.batch <= c.step {
			c.step = min(2*c.step, c.limit/3)
		}
		c.batch = c.step
	}
}

// recordAccount records the state of the account. The caller holds mu.
func (s *subject) recordAccount(a Account, now time.Time) {
	mine := a.Shares[s.instance]
	// This instance's part is taken from its own counts, which are newer.
	s.tokens.left, s.tokens.heard = s.tokens.limit-(a.Charged()-mine.Spent-mine.Held)-s.tokens.ceiling, now
	c := &s.calls
	theirs := a.Calls(c.minute)
	if mine.Minute == c.minute {
		theirs -= mine.Calls
	}
	c.all, c.heard = theirs+max(c.leased, c.used), now
}

// clean reports whether the subject can be dropped without losing anything. The caller
// holds mu.
func (s *subject) clean(now time.Time) bool {
	t, c := &s.tokens, &s.calls
	held := t.limit > 0 && t.ceiling > t.spent && now.Before(s.ends)
	counted := c.minute == now.Unix()/secondsOfMinute && c.leased != c.used
	return s.updating == nil && t.inFlight == 0 && t.waiting == 0 && !s.unreported && !held && !counted
}

// state returns the state of one of the subject's limits, as shown to its owner.
func (s *subject) state(daily bool) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if daily {
		t := &s.tokens
		left := t.limit
		if !t.heard.IsZero() {
			left = t.left
		}
		left += t.ceiling - t.spent - t.inFlight
		return State{Name: s.key.name, Daily: true, ResetsAt: s.ends, Limit: t.limit, Left: min(max(0, left), t.limit)}
	}
	c := &s.calls
	left := min(c.leased, c.limit) - c.used + max(0, c.limit-c.all)
	return State{
		Name: s.key.name, ResetsAt: time.Unix((c.minute+1)*secondsOfMinute, 0).UTC(),
		Limit: c.limit / Turn, Left: min(max(0, left), c.limit) / Turn,
	}
}
