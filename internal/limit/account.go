package limit

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// An Account is what is stored for a subject (an end user, a caller, or the service)
// for one UTC day: what instances have leased and spent. It is immutable:
// [Account.Apply] returns a new one.
type Account struct {
	// Spent is the number of tokens charged to instances that are no longer listed,
	// and Usage what they used, by model.
	Spent int64            `json:"spent,omitempty"`
	Usage map[string]Spend `json:"usage,omitempty"`

	Shares map[string]Holding `json:"shares,omitempty"` // by instance
}

// A Holding is one instance's part of an account. Other instances count all of it as
// used: what an instance still holds when it crashes is treated as spent.
type Holding struct {
	Seq    int64 `json:"seq"`              // of the last update
	Until  int64 `json:"until"`            // seconds since 1970; later, the instance must renew before it uses any of it
	Spent  int64 `json:"spent,omitempty"`  // tokens
	Held   int64 `json:"held,omitempty"`   // tokens that may be spent in addition
	Minute int64 `json:"minute,omitempty"` // the clock minute of Calls, counted from 1970
	Calls  int64 `json:"calls,omitempty"`  // tenths of turns leased in that minute

	Usage map[string]Spend `json:"usage,omitempty"` // by model
	Left  bool             `json:"left,omitempty"`  // the instance continues under another name
}

// A Spend is what was spent on one model.
type Spend struct {
	Tokens  int64   `json:"tokens"`
	CostUSD float64 `json:"cost_usd"` // 0 for a model without a price
}

func (s Spend) plus(more Spend) Spend {
	return Spend{Tokens: s.Tokens + more.Tokens, CostUSD: s.CostUSD + more.CostUSD}
}

// An Update is an instance's report on its holding: what it has spent in total and
// what it wants to hold. It states totals, not differences, so that an update whose
// response was lost needs no repair: the next one replaces it.
type Update struct {
	Instance string
	Seq      int64 // increases with every update: an older one has no effect
	At       time.Time
	Expires  time.Time // when the account may be deleted
	Leave    bool      // the last update under this name

	PerDay   int64 // tokens; 0: no limit
	Spent    int64 // tokens, in total
	InFlight int64 // tokens reserved by running calls, which stay held in any case
	Want     int64 // tokens to hold
	Least    int64 // the smallest useful amount: if less is left, only InFlight is held
	Usage    map[string]Spend

	PerMinute int64 // tenths of turns; 0: no limit
	Minute    int64
	Calls     int64 // tenths of turns already held
	More      int64 // additional tenths to lease
	MoreLeast int64 // the smallest useful part of More
}

const (
	// leaseLife is how long an instance may use a holding without renewing it.
	leaseLife = 5 * time.Minute
	// forgetAfter is how long a holding stays listed after leaseLife has passed. An
	// instance that reports within it is charged only what it has spent.
	forgetAfter = 2 * time.Hour
	// renewedBy is by how many seconds a renewal must extend an otherwise unchanged
	// holding to be worth a write.
	renewedBy = 10 * 60
	// maxHoldings bounds the holdings listed in one account.
	maxHoldings = 500
)

// Apply returns a after u, and whether it differs from a for anybody but u's instance.
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

// forget charges holdings to the account and removes them: those that expired long ago
// and, if there are still too many, the oldest.
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

// Charged returns the tokens spent plus those held, which may have been spent.
func (a Account) Charged() int64 {
	n := a.Spent
	for _, h := range a.Shares {
		n += h.Spent + h.Held
	}
	return n
}

// Calls returns the tenths of turns leased in a clock minute.
func (a Account) Calls(minute int64) (n int64) {
	for _, h := range a.Shares {
		if h.Minute == minute {
			n += h.Calls
		}
	}
	return n
}

// used returns the reported use by model of all instances except one.
func (a Account) used(instance string) map[string]Spend {
	all := maps.Clone(a.Usage)
	for other, h := range a.Shares {
		if other != instance {
			all = sum(all, h.Usage)
		}
	}
	return all
}

// live returns the number of instances with a holding that has not expired.
func (a Account) live(now time.Time) (n int) {
	for _, h := range a.Shares {
		if h.Until > now.Unix() {
			n++
		}
	}
	return n
}

// sum returns the sum of a and b; it modifies neither.
func sum(a, b map[string]Spend) map[string]Spend {
	if len(b) == 0 {
		return a
	}
	all := make(map[string]Spend, len(a)+len(b))
	maps.Copy(all, a)
	for model, more := range b {
		all[model] = all[model].plus(more)
	}
	return all
}

// Share returns how much a lease gets of what is left: what it wants, but no more than
// half of what is left beyond the least it needs, so that instances that lease in
// advance leave something to others. The result is a multiple of least, unless it is
// all that is wanted or left.
func Share(want, least, left int64) int64 {
	least = max(1, least)
	return max(0, min(want, left, max(least, left/2/least*least)))
}
