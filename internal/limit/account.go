package limit

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// An Account is what is stored of a subject (an end user, a caller, the service) for
// one UTC day: what instances have leased and spent. It is a value: nothing changes
// it but [Account.Apply], which returns another.
type Account struct {
	// Spent are the tokens charged to instances that are no longer listed, and
	// Usage what they used, by model.
	Spent int64            `json:"spent,omitempty"`
	Usage map[string]Spend `json:"usage,omitempty"`

	Shares map[string]Holding `json:"shares,omitempty"` // by instance
}

// A Holding is what one instance has of an account. All of it counts as used by
// everybody else: what the instance still holds when it ends without a word is
// spent.
type Holding struct {
	Seq    int64 `json:"seq"`              // of its last update
	Until  int64 `json:"until"`            // in seconds since 1970: after it the instance gives nothing out without renewing
	Spent  int64 `json:"spent,omitempty"`  // tokens
	Held   int64 `json:"held,omitempty"`   // tokens it may spend beyond those
	Minute int64 `json:"minute,omitempty"` // the clock minute that Calls are of, from 1970 on
	Calls  int64 `json:"calls,omitempty"`  // tenths of turns leased in it

	Usage map[string]Spend `json:"usage,omitempty"` // by model
	Left  bool             `json:"left,omitempty"`  // the instance uses another from now on
}

// A Spend is what was spent on a model.
type Spend struct {
	Tokens  int64   `json:"tokens"`
	CostUSD float64 `json:"cost_usd"` // 0 for a model without a price
}

// An Update is what an instance says of its holding: what it has spent in all, and
// what it would like to hold. It says how things are, not how they changed, so that
// an update whose answer was lost needs no second look: the next one replaces it.
type Update struct {
	Instance string
	Seq      int64 // each update's is greater than the one before: a late one changes nothing
	At       time.Time
	Expires  time.Time // the account may be forgotten then
	Leave    bool      // this is the last update of this name

	PerDay   int64 // tokens; 0: no limit
	Spent    int64 // tokens, in all
	InFlight int64 // tokens reserved by calls under way: they stay held in any case
	Want     int64 // tokens to hold
	Least    int64 // to hold: if there are fewer, InFlight
	Usage    map[string]Spend

	PerMinute int64 // tenths of turns; 0: no limit
	Minute    int64
	Calls     int64 // tenths of turns held already
	More      int64 // to be leased beyond
	MoreLeast int64 // the least of them that is worth a lease
}

const (
	// leaseLife is how long an instance gives out what it holds without renewing.
	leaseLife = 5 * time.Minute
	// forgetAfter is how long after its end a holding stays listed. An instance that
	// comes back within it says what it has spent, and gets the rest back.
	forgetAfter = 2 * time.Hour
	// renewedBy is by how much, in seconds, a holding that is as it was must go on
	// longer to be worth a write.
	renewedBy = 10 * 60
	// maxHoldings bounds how many are listed.
	maxHoldings = 500
)

// Apply returns a as u leaves it, and whether that is another account than a as far
// as anybody but u's instance can tell.
func (a Account) Apply(u Update) (next Account, changed bool) {
	before, listed := a.Shares[u.Instance]
	if listed && before.Seq >= u.Seq {
		return a, false
	}
	next = Account{Spent: a.Spent, Usage: a.Usage, Shares: maps.Clone(a.Shares)}
	if next.Shares == nil {
		next.Shares = map[string]Holding{}
	}
	delete(next.Shares, u.Instance)
	next.forget(u.At)
	after := Holding{
		Left: u.Leave, Seq: u.Seq, Until: u.At.Add(leaseLife).Unix(), Spent: u.Spent, Held: u.InFlight, Usage: u.Usage, Minute: u.Minute, Calls: u.Calls,
	}
	if u.PerDay > 0 {
		if held := min(u.Want, u.PerDay-next.Charged()-u.Spent); held >= u.Least {
			after.Held = max(held, u.InFlight)
		}
	}
	if u.PerMinute > 0 {
		after.Calls += Share(u.More, u.MoreLeast, u.PerMinute-next.Calls(u.Minute)-u.Calls)
	}
	next.Shares[u.Instance] = after
	same := listed && before.Left == after.Left && after.Until-before.Until < renewedBy && before.Spent == after.Spent && before.Held == after.Held && maps.Equal(before.Usage, after.Usage) &&
		(before.Minute == after.Minute && before.Calls == after.Calls || after.Calls == 0 && before.Minute != after.Minute)
	empty := !listed && after.Spent == 0 && after.Held == 0 && after.Calls == 0 && len(after.Usage) == 0
	return next, !same && !empty
}

// forget folds the holdings away that ended long ago, or, beyond the most that are
// listed, first.
func (a *Account) forget(now time.Time) {
	old := now.Add(-forgetAfter).Unix()
	for instance, h := range a.Shares {
		if h.Until < old || h.Left && h.Minute < now.Unix()/secondsOfMinute {
			a.fold(instance, h)
		}
	}
	if len(a.Shares) < maxHoldings {
		return
	}
	byAge := slices.SortedFunc(maps.Keys(a.Shares), func(x, y string) int {
		return cmp.Or(cmp.Compare(a.Shares[x].Until, a.Shares[y].Until), cmp.Compare(x, y))
	})
	for _, instance := range byAge[:len(byAge)-maxHoldings+1] {
		a.fold(instance, a.Shares[instance])
	}
}

func (a *Account) fold(instance string, h Holding) {
	a.Spent += h.Spent + h.Held
	a.Usage = sum(a.Usage, h.Usage)
	delete(a.Shares, instance)
}

// Charged returns the tokens that are spent or may be.
func (a Account) Charged() int64 {
	n := a.Spent
	for _, h := range a.Shares {
		n += h.Spent + h.Held
	}
	return n
}

// Calls returns the tenths of turns that are leased in a clock minute.
func (a Account) Calls(minute int64) (n int64) {
	for _, h := range a.Shares {
		if h.Minute == minute {
			n += h.Calls
		}
	}
	return n
}

// used returns what was used by model, as far as it was reported, but for instance.
func (a Account) used(instance string) map[string]Spend {
	all := maps.Clone(a.Usage)
	for other, h := range a.Shares {
		if other != instance {
			all = sum(all, h.Usage)
		}
	}
	return all
}

// live returns how many instances hold something that has not ended.
func (a Account) live(now time.Time) (n int) {
	for _, h := range a.Shares {
		if h.Until > now.Unix() {
			n++
		}
	}
	return n
}

// sum returns a map of what is in a and b, which it leaves as they are.
func sum(a, b map[string]Spend) map[string]Spend {
	if len(b) == 0 {
		return a
	}
	all := make(map[string]Spend, len(a)+len(b))
	maps.Copy(all, a)
	for model, more := range b {
		s := all[model]
		all[model] = Spend{Tokens: s.Tokens + more.Tokens, CostUSD: s.CostUSD + more.CostUSD}
	}
	return all
}

// Share returns how much a lease gets of the units that are left: what it wants, but
// of more than the least that it needs at once no more than half of what is left, so
// that an instance which leases ahead leaves something to those that need it. It is
// a multiple of least where it is not all that is wanted or left.
func Share(want, least, left int64) int64 {
	if want <= 0 || left <= 0 {
		return 0
	}
	least = max(1, least)
	return min(want, left, max(least, left/2/least*least))
}
