// Package limit counts calls a minute and tokens a day, across instances.
//
// What was leased can never exceed the limit, whatever the number of
// instances; most calls need no write. An instance takes permits in batches
// from a counter that all share ([Counters]) and gives them out by itself. The
// batches follow the use: the first of a minute is what this instance used in
// the minute before and a fifth, those beyond it are small and then each twice
// as large. When the counter has no more, the instance remembers it until the
// window ends, so that a refusal costs nothing. What another instance has leased
// and does not use is not available here: many instances with a small limit
// among them may refuse before all of it is used.
//
// A [Rule] is a rate, in clock minutes; [Limiter.Take] gives a [Permit] for one
// call. A [Budget] is a number of tokens in a UTC day; [Limiter.Reserve] sets
// an estimate aside, and [Reservation.Settle] corrects it.
//
// While the counters do not answer, each instance goes on with its share of
// every limit, so that the gate is neither opened nor closed.
package limit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/internal/rescue"
)

// What calls cost, in tenths of a turn.
const (
	Turn int64 = 10
	Get  int64 = 1
)

const (
	// leaseTimeout bounds a call of the counters.
	leaseTimeout = time.Second
	// maxWindows is how many windows an instance remembers. One that is forgotten
	// takes its leases with it, which lets through less, never more.
	maxWindows = 10_000
	// closing is how many leases are returned at a time.
	closing = 16
)

// A Rule lets someone call PerMinute times in a clock minute.
type Rule struct {
	Name      string // "person", "caller": in headers
	Who       string // a hash
	PerMinute int    // turns; 0: no limit
}

// A Budget lets someone spend PerDay tokens in a UTC day.
type Budget struct {
	Name   string
	Who    string // a hash
	PerDay int64  // tokens; 0: no budget
}

// Config is what a [Limiter] needs.
type Config struct {
	Counters     Counters
	MaxInstances int              // how many share a limit; at least 1
	Now          func() time.Time // the clock
	Log          *slog.Logger
}

// A Limiter holds this instance's part of the limits. It is safe for concurrent
// use.
type Limiter struct {
	counters  Counters
	instances int
	now       func() time.Time
	log       *slog.Logger
	windows   *lru.Cache[key, *window]
	outage    outage

	mu     sync.Mutex
	closed bool
	leases sync.WaitGroup
}

// New makes a limiter. Its counters stay the caller's.
func New(c Config) *Limiter {
	windows, err := lru.New[key, *window](maxWindows)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Limiter{
		counters: c.Counters, instances: max(1, c.MaxInstances), now: c.Now, log: c.Log,
		windows: windows, outage: outage{log: c.Log},
	}
}

// A Refusal is the error of a call that a limit does not let through.
type Refusal struct {
	Rule       string        // the name of the rule or budget
	RetryAfter time.Duration // whole seconds
	Limit      int64         // calls a minute or tokens a day
	Daily      bool          // a budget of tokens
	States     []State       // of all limits that were asked for

	at time.Time
}

func (r *Refusal) Error() string {
	if r.Daily {
		return fmt.Sprintf("the budget %q of %d tokens a day is spent", r.Rule, r.Limit)
	}
	return fmt.Sprintf("the limit %q of %d calls a minute is reached", r.Rule, r.Limit)
}

// A Permit lets one call through. It is safe for concurrent use.
type Permit struct {
	limiter *Limiter
	windows []*window
	tenths  int64
	settled atomic.Bool
}

// Take takes a permit for a call that costs tenths of a turn ([Turn], [Get])
// from every rule, or from none. Its error is a [*Refusal], or ctx's when that
// ends while a lease is awaited.
func (l *Limiter) Take(ctx context.Context, rules []Rule, tenths int64) (*Permit, error) {
	windows := l.ruleWindows(rules)
	if err := l.acquire(ctx, windows, tenths); err != nil {
		return nil, err
	}
	return &Permit{limiter: l, windows: windows, tenths: tenths}, nil
}

// Settle replaces what the permit was taken for by what the call cost, in tenths
// of a turn. Only the first time counts.
func (p *Permit) Settle(tenths int64) {
	if p.settled.CompareAndSwap(false, true) {
		release(p.windows, p.tenths-tenths)
	}
}

// Charge counts a call that is never refused: what no lease covers is a debt.
func (l *Limiter) Charge(rules []Rule, tenths int64) {
	release(l.ruleWindows(rules), -tenths)
}

// A Reservation holds tokens of every budget. It is safe for concurrent use.
type Reservation struct {
	windows []*window
	tokens  int64
	settled atomic.Bool
}

// Reserve sets tokens aside in every budget, or in none. Its errors are those
// of [Limiter.Take].
func (l *Limiter) Reserve(ctx context.Context, budgets []Budget, tokens int64) (*Reservation, error) {
	windows := l.budgetWindows(budgets)
	if err := l.acquire(ctx, windows, tokens); err != nil {
		return nil, err
	}
	return &Reservation{windows: windows, tokens: tokens}, nil
}

// Settle replaces the estimate by what was spent. What was spent in excess is a
// debt that the next lease covers first. Only the first time counts.
func (r *Reservation) Settle(actual int64) {
	if r.settled.CompareAndSwap(false, true) {
		release(r.windows, r.tokens-actual)
	}
}

func release(windows []*window, n int64) {
	for _, w := range windows {
		w.give(-n)
	}
}

// Left tells how rules and budgets stand, in this order, without those that
// limit nothing. It asks the counters; if they do not answer, the states are
// what this instance knows.
func (l *Limiter) Left(ctx context.Context, rules []Rule, budgets []Budget) []State {
	windows := append(l.ruleWindows(rules), l.budgetWindows(budgets)...)
	var looks []<-chan struct{}
	for _, w := range windows {
		if done, ok := l.look(ctx, w); ok {
			looks = append(looks, done)
		}
	}
	for _, done := range looks {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	return states(windows)
}

// Degraded tells whether the counters did not answer when last asked. They are
// asked as calls come in, not more often than every 5 seconds.
func (l *Limiter) Degraded() bool { return l.outage.isAway() }

// Close gives unused leases back and leases what is owed, as far as it gets
// before ctx ends. It is for when no calls come any more: later ones are
// refused unless a lease covers them.
func (l *Limiter) Close(ctx context.Context) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		l.leases.Wait() // each is bounded by leaseTimeout
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(closing)
	now := l.now()
	for _, w := range l.windows.Values() {
		if each.Err() != nil {
			break
		}
		if now.Before(w.ends) {
			group.Go(func() error { return l.balance(each, w) })
		}
	}
	err := group.Wait()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.log.Warn("Unused leases of limits were not all given back.", "error", err)
	}
}

// balance makes what the window has leased equal to what it used.
func (l *Limiter) balance(ctx context.Context, w *window) error {
	w.mu.Lock()
	unused, limit := w.granted-w.used, w.limit
	if unused > 0 {
		w.granted = w.used
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	switch {
	case unused > 0:
		return l.counters.Return(ctx, w.counter, unused)
	case unused < 0:
		granted, leased, err := l.counters.Lease(ctx, w.counter, -unused, -unused, limit, w.ends.Add(slack))
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.leaseEnded(granted, leased)
	}
	return nil
}

func (l *Limiter) ruleWindows(rules []Rule) []*window {
	now := l.now()
	windows := make([]*window, 0, len(rules))
	for _, r := range rules {
		if r.PerMinute > 0 {
			windows = append(windows, l.window(minute, r.Name, r.Who, int64(r.PerMinute)*Turn, now))
		}
	}
	return windows
}

func (l *Limiter) budgetWindows(budgets []Budget) []*window {
	now := l.now()
	windows := make([]*window, 0, len(budgets))
	for _, b := range budgets {
		if b.PerDay > 0 {
			windows = append(windows, l.window(day, b.Name, b.Who, b.PerDay, now))
		}
	}
	return windows
}

// window finds or begins the window of now.
func (l *Limiter) window(p *period, name, who string, limit int64, now time.Time) *window {
	k := key{period: p, name: name, who: who, number: now.Unix() / int64(p.length/time.Second)}
	w, ok := l.windows.Get(k)
	if !ok {
		var before int64
		last := k
		last.number--
		if previous, ok := l.windows.Peek(last); ok {
			previous.mu.Lock()
			before = previous.used
			previous.mu.Unlock()
		}
		w = newWindow(k, limit, before, l.instances)
		if first, ok, _ := l.windows.PeekOrAdd(k, w); ok {
			w = first
		}
	}
	w.setLimit(limit)
	return w
}

// acquire takes cost from every window, or from none. Leases that are needed
// run side by side, and only when no window refuses by itself.
func (l *Limiter) acquire(ctx context.Context, windows []*window, cost int64) error {
	done := make([]bool, len(windows))
	undo := func() {
		for i, w := range windows {
			if done[i] {
				w.give(-cost)
			}
		}
	}
	for {
		missing := 0
		for i, w := range windows {
			if done[i] {
				continue
			}
			switch w.take(cost) {
			case taken:
				done[i] = true
			case refused:
				undo()
				return l.refusal(windows, w, w.ends.Sub(l.now()))
			case wanting:
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		var leases []<-chan struct{}
		for i, w := range windows {
			if done[i] {
				continue
			}
			if lease, ok := l.lease(ctx, w, cost); ok {
				leases = append(leases, lease)
				continue
			}
			if l.isClosed() || w.takeShare(cost, l.instances) == refused {
				undo()
				now := l.now()
				return l.refusal(windows, w, min(w.ends.Sub(now), l.outage.next(now)))
			}
			done[i] = true
		}
		for _, lease := range leases {
			select {
			case <-lease:
			case <-ctx.Done():
				undo()
				return fmt.Errorf("waiting for a permit: %w", context.Cause(ctx))
			}
		}
	}
}

func (l *Limiter) refusal(windows []*window, w *window, retryAfter time.Duration) *Refusal {
	s := w.state()
	return &Refusal{
		Rule: s.Name, RetryAfter: wholeSeconds(retryAfter), Limit: s.Limit, Daily: s.Daily,
		States: states(windows), at: l.now(),
	}
}

// ready is a lease that has ended.
var ready = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// lease begins a lease that allows cost to be taken, or joins the one that
// runs, and gives what is closed at its end. It is false where the counters are
// not to be asked.
func (l *Limiter) lease(ctx context.Context, w *window, cost int64) (<-chan struct{}, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leasing != nil {
		return w.leasing, true
	}
	if w.used+cost <= w.held() {
		return ready, true // a lease has just ended
	}
	want, least := w.want(cost)
	if want <= 0 {
		w.exhausted = true
		return ready, true
	}
	return l.ask(ctx, w, want, least)
}

// look asks the counter how much is leased.
func (l *Limiter) look(ctx context.Context, w *window) (<-chan struct{}, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leasing != nil {
		return w.leasing, true
	}
	return l.ask(ctx, w, 0, 0)
}

// ask begins a call of the counters, whose w.mu the caller holds. It outlives
// ctx: what it brings serves the calls that come next.
func (l *Limiter) ask(ctx context.Context, w *window, want, least int64) (<-chan struct{}, bool) {
	if !l.begin() {
		return nil, false
	}
	done := make(chan struct{})
	w.leasing = done
	limit := w.limit
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	go func() {
		defer l.leases.Done()
		defer cancel()
		var granted, leased int64
		err := rescue.Call(func() (err error) {
			granted, leased, err = l.counters.Lease(ctx, w.counter, want, least, limit, w.ends.Add(slack))
			return err
		})
		l.outage.note(l.now(), err)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case err != nil:
		case want == 0:
			w.leased, w.exhausted = leased, leased >= limit
		default:
			w.leaseEnded(granted, leased)
		}
		w.leasing = nil
		close(done)
	}()
	return done, true
}

// begin tells whether the counters may be asked, and counts the call.
func (l *Limiter) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.outage.admits(l.now()) {
		return false
	}
	l.leases.Add(1)
	return true
}

func (l *Limiter) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
