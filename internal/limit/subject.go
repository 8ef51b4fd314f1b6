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

// slack is how long an account outlives its day, for clocks that differ.
const slack = time.Hour

// A key names a subject's day. Unix time has no leap seconds, so that its multiples
// of a minute and of a day are clock minutes and UTC days.
type key struct {
	name string
	who  string
	day  int64 // from 1970 on
}

const (
	secondsOfMinute = 60
	secondsOfDay    = 24 * 60 * 60
)

// account is the name of the subject's account: safe for a document's id, which may
// not be __…__ in base64url, and nothing that shows who it is about.
func (k key) account() string {
	text := strconv.Quote(k.name) + strconv.Quote(k.who) + strconv.FormatInt(k.day, 10)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// A subject is what this instance holds of one account.
type subject struct {
	key     key
	account string
	ends    time.Time // the day

	// Guarded by the Limiter's mu.
	recent *list.Element
	due    time.Time // when what is owed is to be reported
	queued bool
	place  int // in the queue

	mu     sync.Mutex
	calls  calls
	tokens tokens

	usage      map[string]Spend // by this holding, by model
	reported   map[string]Spend // of that, as it was last answered
	instance   string           // this holding's name
	seq        int64
	renewed    time.Time // when the last update was answered
	others     int       // instances that held something then
	updating   chan struct{}
	unreported bool // something was spent since the last update that was answered
}

// calls are in tenths of turns, of one clock minute.
type calls struct {
	limit  int64
	minute int64
	used   int64 // above leased it is a debt
	leased int64
	all    int64     // leased by all instances, as last heard
	heard  time.Time // zero: not in this minute
	batch  int64     // the size of the next lease
	step   int64     // the size of those beyond what was foreseen
}

// tokens are of the day.
type tokens struct {
	limit    int64
	spent    int64 // by this holding
	inFlight int64 // reserved
	ceiling  int64 // what was leased: spent and in flight above it are a debt
	left     int64 // to be leased by anybody, as last heard
	heard    time.Time
	waiting  int64 // wanted by calls that wait for a lease
}

const (
	// heardFor is how long an instance refuses calls by what it has heard before it
	// asks again whether others have given something back.
	heardFor = 10 * time.Second
	// coldBatch is up to what the first lease of a rate may be a twelfth of the
	// limit however many instances there are: below 20 calls a minute it is the
	// only one. Larger ones are half of what an even distribution would give, so
	// that instances which lease more than they need leave something to the others.
	coldBatch = 20 * Turn
	// leasesOfDay is the share of a day's budget that a lease is, unless one
	// reservation is more.
	leasesOfDay = 1000
	// keptOfDay is the share of a day's budget that an instance may keep of what it
	// leased and has not spent, beside what calls under way need: what is above it is
	// given back at once. Thirty instances that end without a word, and nine that hold
	// it when the day ends, leave nine tenths of a budget.
	keptOfDay = 400
)

func newSubject(k key) *subject {
	return &subject{
		key: k, account: k.account(), instance: session.NewID(),
		ends: time.Unix((k.day+1)*secondsOfDay, 0).UTC(),
	}
}

// roll begins the minute of now, if it has not begun. The first batch follows what
// was used in the minute before. The caller holds mu.
func (s *subject) roll(now time.Time, limit int64, instances int) {
	c := &s.calls
	minute := now.Unix() / secondsOfMinute
	if c.minute == minute && c.limit == limit {
		return
	}
	if c.minute == minute { // a limit that was changed while the minute runs
		c.limit, c.heard = limit, time.Time{}
		return
	}
	before := int64(0)
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

// takeCalls takes cost from what this instance holds. The caller holds mu, and has
// rolled the minute.
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

// takeTokens reserves cost from what this instance holds. The caller holds mu.
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

// takeShare takes cost while the counters are away: from what this instance holds and
// its share of what was left as it last heard. What it uses beyond its leases is a
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
	turns := max(0, c.limit-c.all) / Turn
	if c.used+cost > min(c.leased+(turns+n-1)/n*Turn, c.limit) {
		return refused
	}
	c.used += cost
	return taken
}

// An ask is what an update is for, beside reporting.
type ask struct {
	calls   int64 // tenths of turns that a call waits for
	tokens  int64 // that a call waits for
	expects int64 // tokens that the call will reserve next
	leave   bool  // the holding ends
}

// compose makes the update that says how things are and asks for more. What it gives
// back is given up at once. The caller holds mu.
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
		u.MoreLeast = whole(max(c.used+a.calls-u.Calls, c.limit/24))
		u.More = max(u.MoreLeast, whole(c.batch))
	}
	return u
}

// shares returns how many tokens a lease has, unless a call needs more, and how many
// may be kept.
func (t *tokens) shares() (lease, kept int64) {
	return max(1, t.limit/leasesOfDay), max(1, t.limit/keptOfDay)
}

// whole rounds tenths up to turns.
func whole(tenths int64) int64 { return (tenths + Turn - 1) / Turn * Turn }

// renew begins another holding when this one is about to be forgotten by the others,
// who then take all of it for spent. What was spent beyond it goes on. The caller
// holds mu.
func (s *subject) renew(now time.Time) {
	if !s.renewed.IsZero() && now.After(s.renewed.Add(leaseLife+forgetAfter*3/4)) {
		s.begin(s.tokens.ceiling, s.reported, 0)
	}
}

// begin begins another holding, which has what this one has beyond the tokens, the use
// and the calls that this one is charged. The caller holds mu.
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

// answered takes in what u came to. The caller holds mu.
func (s *subject) answered(u Update, a Account, now time.Time) {
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

// looked takes in how the account stands. The caller holds mu.
func (s *subject) looked(a Account, now time.Time) {
	mine := a.Shares[s.instance]
	// What this instance holds by its own account is what counts for it.
	s.tokens.left, s.tokens.heard = s.tokens.limit-(a.Charged()-mine.Spent-mine.Held)-s.tokens.ceiling, now
	c := &s.calls
	theirs := a.Calls(c.minute)
	if mine.Minute == c.minute {
		theirs -= mine.Calls
	}
	c.all, c.heard = theirs+max(c.leased, c.used), now
}

// clean reports whether nothing would be lost if the subject were forgotten. The
// caller holds mu.
func (s *subject) clean(now time.Time) bool {
	t, c := &s.tokens, &s.calls
	held := t.limit > 0 && t.ceiling > t.spent && now.Before(s.ends)
	counted := c.minute == now.Unix()/secondsOfMinute && c.leased != c.used
	return s.updating == nil && t.inFlight == 0 && t.waiting == 0 && !s.unreported && !held && !counted
}

// state is how one of the subject's limits stands, as its owner may see it.
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
