// Package limit counts calls a minute and tokens a day, across instances.
//
// What was leased can never exceed the limit, whatever the number of instances;
// most calls need no write. Each subject that is limited (an end user, a caller, the
// service) has one account a day that all instances share ([Counters]). An instance
// leases from it and gives out what it leased by itself: permits in batches that
// follow the use, the first of a minute being what it used in the minute before and
// a fifth; tokens in blocks of a thousandth of the day's budget, or of one
// reservation, where that is more. One write renews all that it holds of an account,
// and says what it has spent.
//
// What an instance holds counts as used. When it ends without a word, what it had
// left at its last report stays spent, which is next to nothing: it reports about
// once a minute, and gives back at once what it has much of. An update says how
// things are and not how they changed, so that one whose answer was lost is replaced
// by the next, and nothing is leased twice.
//
// A [Rule] is a rate, in clock minutes; [Limiter.Take] returns a [Permit] for one
// call. A [Budget] is a number of tokens in a UTC day; [Limiter.Reserve] sets an
// estimate aside, and [Reservation.Settle] corrects it.
//
// While the counters do not answer, each instance goes on with its share of what was
// left, so that the gate is neither opened nor closed.
package limit

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/internal/rescue"
)

// What calls cost, in tenths of a turn.
const (
	Turn int64 = 10
	Get  int64 = 1
)

const (
	// patience is how long a call waits for the counters.
	patience = time.Second
	// updateTimeout bounds a call of the counters: one that nobody waits for any
	// more may still bring its lease to those that come next.
	updateTimeout = 5 * time.Second
	// renewEvery is how long what was spent may stay unreported while the instance
	// has requests; of an account that many instances hold it is a second for each,
	// so that Firestore sees about one write a second to one document.
	renewEvery = time.Minute
	// maxSubjects is how many subjects an instance remembers. Beyond, one is forgotten
	// for each that comes: the least recently used that holds and owes nothing.
	maxSubjects = 10_000
	// maxUnreported is how many more there may be while those beyond report what they
	// hold and owe; further subjects are refused.
	maxUnreported = 1000
	// flushed is how many accounts are renewed after one request, at most.
	flushed = 4
	// closing is how many accounts are updated at a time when the instance ends.
	closing = 16
	// maxModels bounds the models whose use is told apart in an account.
	maxModels = 16
)

// A Rule lets someone call PerMinute times in a clock minute.
type Rule struct {
	Name      string // "end_user", "caller": in headers
	Who       string // a hash
	PerMinute int    // turns; 0: no limit
}

// A Budget lets someone spend PerDay tokens in a UTC day.
type Budget struct {
	Name   string
	Who    string // a hash
	PerDay int64  // tokens; 0: no budget, what is spent is only added up
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
	outage    outage
	expected  atomic.Int64 // tokens: the last reservation

	mu       sync.Mutex
	closed   bool
	updates  sync.WaitGroup
	subjects map[key]*subject
	recent   *list.List // of *subject, the last used first
	queue    queue      // of those with something to report
}

// New makes a limiter. Its counters stay the caller's.
func New(c Config) *Limiter {
	return &Limiter{
		counters: c.Counters, instances: max(1, c.MaxInstances), now: c.Now, log: c.Log,
		outage:   outage{log: c.Log},
		subjects: map[key]*subject{}, recent: list.New(),
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

// A claim is what a call wants of one subject: calls of the minute or tokens of the
// day.
type claim struct {
	subject *subject
	daily   bool
	minute  int64 // that a permit was taken in
}

// A Permit lets one call through. It is safe for concurrent use.
type Permit struct {
	limiter *Limiter
	claims  []claim
	tenths  int64
	settled atomic.Bool
}

// Take takes a permit for a call that costs tenths of a turn ([Turn], [Get]) from
// every rule, or from none. Its error is a [*Refusal], or ctx's when that ends while
// a lease is awaited.
func (l *Limiter) Take(ctx context.Context, rules []Rule, tenths int64) (*Permit, error) {
	claims, err := l.ruleClaims(ctx, rules)
	if err != nil {
		return nil, err
	}
	if err := l.acquire(ctx, claims, tenths); err != nil {
		return nil, err
	}
	return &Permit{limiter: l, claims: claims, tenths: tenths}, nil
}

// Settle replaces what the permit was taken for by what the call cost, in tenths
// of a turn. Only the first time counts.
func (p *Permit) Settle(tenths int64) {
	if p.settled.CompareAndSwap(false, true) {
		p.limiter.giveCalls(p.claims, p.tenths-tenths)
	}
}

// Charge counts a call that is never refused: what no lease covers is a debt, and the
// counter may go below zero.
func (l *Limiter) Charge(ctx context.Context, rules []Rule, tenths int64) {
	if claims, err := l.ruleClaims(ctx, rules); err == nil {
		l.giveCalls(claims, -tenths)
	}
}

// giveCalls gives tenths back to the minutes they were taken from; they may be fewer
// than none.
func (l *Limiter) giveCalls(claims []claim, tenths int64) {
	for _, c := range claims {
		s := c.subject
		s.mu.Lock()
		if s.calls.minute == c.minute {
			s.calls.used = max(0, s.calls.used-tenths)
			if s.calls.used > s.calls.leased && tenths < 0 {
				l.owes(s)
			}
		}
		s.mu.Unlock()
	}
}

// A Reservation holds tokens of every budget. It is safe for concurrent use.
type Reservation struct {
	limiter *Limiter
	claims  []claim
	tokens  int64
	settled atomic.Bool
}

// Reserve sets tokens aside in every budget, or in none. Its errors are those of
// [Limiter.Take].
func (l *Limiter) Reserve(ctx context.Context, budgets []Budget, tokens int64) (*Reservation, error) {
	claims, err := l.budgetClaims(ctx, budgets)
	if err != nil {
		return nil, err
	}
	l.expected.Store(tokens)
	if err := l.acquire(ctx, claims, tokens); err != nil {
		return nil, err
	}
	return &Reservation{limiter: l, claims: claims, tokens: tokens}, nil
}

// Settle replaces the estimate by what was spent, by model. What was spent in excess
// is a debt that the next lease covers first. Only the first time counts.
func (r *Reservation) Settle(spent map[string]Spend) {
	if !r.settled.CompareAndSwap(false, true) {
		return
	}
	for _, c := range r.claims {
		s := c.subject
		s.mu.Lock()
		s.tokens.inFlight = max(0, s.tokens.inFlight-r.tokens)
		for model, used := range spent {
			if used == (Spend{}) {
				continue
			}
			s.tokens.spent += used.Tokens
			if _, known := s.usage[model]; !known && len(s.usage) >= maxModels {
				model = otherModels
			}
			s.usage = sum(s.usage, map[string]Spend{model: used})
			r.limiter.owes(s)
		}
		r.limiter.holdsTooMuch(s)
		s.mu.Unlock()
	}
}

// otherModels stands for the models beyond maxModels.
const otherModels = "other"

// owes notes that s has something to report. The caller holds s.mu.
func (l *Limiter) owes(s *subject) {
	s.unreported = true
	l.schedule(s, l.now().Add(max(renewEvery, time.Duration(s.others)*time.Second)))
}

// holdsTooMuch has s give back what it holds beyond what an instance may keep. The
// caller holds s.mu.
func (l *Limiter) holdsTooMuch(s *subject) {
	t := &s.tokens
	if _, kept := t.shares(); t.limit > 0 && t.waiting == 0 && min(t.ceiling, t.limit)-t.spent-t.inFlight > kept {
		l.schedule(s, l.now())
	}
}

// schedule has s reported at due, unless it is to be sooner. The caller holds s.mu.
func (l *Limiter) schedule(s *subject, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.add(s, due)
}

// Due reports whether an account is to be renewed, so that [Limiter.Flush] has
// something to do.
func (l *Limiter) Due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.queue.due(l.now())
}

// Flush reports what was spent to the accounts that are due, a few at a time, and
// gives back what this instance holds too much of. It waits for that a second at
// most. Call it when a request has been answered: at other times an instance may have
// no CPU.
func (l *Limiter) Flush(ctx context.Context) {
	var updates []<-chan struct{}
	for range flushed {
		l.mu.Lock()
		s := l.queue.take(l.now())
		l.mu.Unlock()
		if s == nil {
			break
		}
		s.mu.Lock()
		update, ok := (<-chan struct{})(s.updating), true
		if update == nil {
			update, ok = l.update(ctx, s, ask{})
		} else {
			l.schedule(s, l.now().Add(patience)) // what runs may not have all of it
		}
		if !ok {
			l.schedule(s, l.now().Add(pause))
		}
		s.mu.Unlock()
		if ok {
			updates = append(updates, update)
		}
	}
	wait(ctx, updates)
}

// wait waits for updates, for as long as a call has patience. It is false when one
// has not ended by then, or ctx has.
func wait(ctx context.Context, updates []<-chan struct{}) bool {
	if len(updates) == 0 {
		return true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, update := range updates {
		select {
		case <-update:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// A Report is how limits stand, and what was used today of the first subject.
type Report struct {
	States []State
	Usage  map[string]Spend // by model
}

// Report returns how rules and budgets stand, in this order, without those that limit
// nothing, and what the first subject used today. It reads that one's account; the
// others are as this instance last heard of them, or are read where it has not heard
// of them lately.
func (l *Limiter) Report(ctx context.Context, rules []Rule, budgets []Budget) (Report, error) {
	claims, err := l.ruleClaims(ctx, rules)
	if err != nil {
		return Report{}, err
	}
	daily, err := l.budgetClaims(ctx, budgets)
	if err != nil {
		return Report{}, err
	}
	claims = append(claims, daily...)
	var report Report
	now := l.now()
	var group errgroup.Group
	seen := map[*subject]bool{}
	for i, c := range claims {
		s := c.subject
		s.mu.Lock()
		heard := !s.renewed.IsZero() && now.Sub(s.renewed) < 2*renewEvery
		s.mu.Unlock()
		if seen[s] || i > 0 && heard {
			continue
		}
		seen[s] = true
		group.Go(func() error {
			account, err := l.look(ctx, s)
			if err == nil && i == 0 {
				report.Usage = l.usage(s, account)
			}
			return err
		})
	}
	err = group.Wait()
	for _, c := range claims {
		if state := c.subject.state(c.daily); state.Limit > 0 {
			report.States = append(report.States, state)
		}
	}
	return report, err
}

// look reads the account of s.
func (l *Limiter) look(ctx context.Context, s *subject) (account Account, err error) {
	if !l.begin() {
		return Account{}, errAway
	}
	defer l.updates.Done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = rescue.Call(func() (err error) {
		account, err = l.counters.Look(ctx, s.account)
		return err
	})
	l.outage.note(l.now(), err)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.looked(account, l.now())
	}
	return account, err
}

// usage returns what was used of the account of s, this instance's own also as far as
// it is not reported yet.
func (l *Limiter) usage(s *subject, a Account) map[string]Spend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sum(a.used(s.instance), s.usage)
}

// errAway is the error of who asks while the counters are left alone.
var errAway = errors.New("the counters of limits do not answer")

// Degraded reports whether the counters did not answer when last asked. They are
// asked as calls come in, not more often than every 5 seconds.
func (l *Limiter) Degraded() bool { return l.outage.isAway() }

// Close gives what is held back and reports what was spent, as far as it gets before
// ctx ends. It is for when no calls come any more: later ones are refused unless a
// lease covers them.
func (l *Limiter) Close(ctx context.Context) {
	l.mu.Lock()
	l.closed = true
	all := make([]*subject, 0, len(l.subjects))
	for _, s := range l.subjects {
		all = append(all, s)
	}
	l.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		l.updates.Wait() // each is bounded by updateTimeout
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(closing)
	for _, s := range all {
		if each.Err() != nil {
			break
		}
		s.mu.Lock()
		clean := s.clean(l.now())
		s.mu.Unlock()
		if !clean {
			group.Go(func() error { return l.leave(each, s) })
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

// leave updates the account of s so that it holds nothing.
func (l *Limiter) leave(ctx context.Context, s *subject) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.mu.Lock()
	u := s.compose(l.now(), ask{leave: true})
	s.mu.Unlock()
	return rescue.Call(func() error {
		account, err := l.counters.Update(ctx, s.account, u)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answered(u, account, l.now())
		}
		return err
	})
}

func (l *Limiter) ruleClaims(ctx context.Context, rules []Rule) ([]claim, error) {
	now := l.now()
	claims := make([]claim, 0, len(rules))
	for _, r := range rules {
		if r.PerMinute <= 0 {
			continue
		}
		s := l.subject(ctx, r.Name, r.Who, now)
		if s == nil {
			return nil, &Refusal{Rule: r.Name, RetryAfter: pause, Limit: int64(r.PerMinute), at: now}
		}
		s.mu.Lock()
		s.roll(now, int64(r.PerMinute)*Turn, l.instances)
		claims = append(claims, claim{subject: s, minute: s.calls.minute})
		s.mu.Unlock()
	}
	return claims, nil
}

func (l *Limiter) budgetClaims(ctx context.Context, budgets []Budget) ([]claim, error) {
	now := l.now()
	claims := make([]claim, 0, len(budgets))
	for _, b := range budgets {
		s := l.subject(ctx, b.Name, b.Who, now)
		if s == nil {
			return nil, &Refusal{Rule: b.Name, RetryAfter: pause, Limit: b.PerDay, Daily: true, at: now}
		}
		s.mu.Lock()
		if t := &s.tokens; t.limit != b.PerDay {
			t.limit, t.heard = b.PerDay, time.Time{}
		}
		s.mu.Unlock()
		claims = append(claims, claim{subject: s, daily: true})
	}
	return claims, nil
}

// subject finds or begins the subject of now's day; nil when there is no room for it.
func (l *Limiter) subject(ctx context.Context, name, who string, now time.Time) *subject {
	k := key{name: name, who: who, day: now.Unix() / secondsOfDay}
	l.mu.Lock()
	s, ok := l.subjects[k]
	if ok {
		l.recent.MoveToFront(s.recent)
	}
	full := len(l.subjects) >= maxSubjects
	l.mu.Unlock()
	if ok {
		return s
	}
	if full && !l.makeRoom(ctx, now) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.subjects[k]; ok {
		return s
	}
	s = newSubject(k)
	s.recent = l.recent.PushFront(s)
	l.subjects[k] = s
	return s
}

// makeRoom forgets a subject: of the least recently used the first that holds and owes
// nothing. Those that do give it back and report it first, so that room is made for
// them later; while there is none it waits for that. It is false when there is no
// room: nothing that is owed is forgotten.
func (l *Limiter) makeRoom(ctx context.Context, now time.Time) bool {
	for try := 0; ; try++ {
		l.mu.Lock()
		oldest, _ := l.recent.Back().Value.(*subject)
		crowded := len(l.subjects) >= maxSubjects+maxUnreported
		l.mu.Unlock()

		oldest.mu.Lock()
		update := (<-chan struct{})(oldest.updating)
		if oldest.clean(now) {
			l.mu.Lock()
			if l.subjects[oldest.key] == oldest {
				l.forget(oldest)
			}
			l.mu.Unlock()
			oldest.mu.Unlock()
			return true
		}
		if update == nil {
			// Not in a call's context: what it owes is not that call's.
			update, _ = l.update(context.WithoutCancel(ctx), oldest, ask{leave: true})
		}
		oldest.mu.Unlock()
		switch {
		case crowded && (update == nil || try >= flushed || !wait(ctx, []<-chan struct{}{update})):
			return false
		case !crowded && try >= flushed:
			return true
		case !crowded: // it is asked about again when its turn comes
			l.mu.Lock()
			l.recent.MoveToFront(oldest.recent)
			l.mu.Unlock()
		}
	}
}

// forget drops s. The caller holds mu.
func (l *Limiter) forget(s *subject) {
	l.recent.Remove(s.recent)
	delete(l.subjects, s.key)
	l.queue.drop(s)
}

// acquire takes cost from every claim, or from none. Updates that are needed run side
// by side, and only when no claim is refused by what is known.
func (l *Limiter) acquire(ctx context.Context, claims []claim, cost int64) error {
	done := make([]bool, len(claims))
	undo := func() {
		for i, c := range claims {
			if done[i] {
				l.undo(c, cost)
			}
		}
	}
	for {
		missing := 0
		for i, c := range claims {
			if done[i] {
				continue
			}
			switch l.take(&claims[i], cost) {
			case taken:
				done[i] = true
			case refused:
				undo()
				return l.refusal(claims, c, 0)
			case wanting:
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		var updates []<-chan struct{}
		var waiting []int
		for i, c := range claims {
			if done[i] {
				continue
			}
			if update, ok := l.lease(ctx, c, cost); ok {
				updates, waiting = append(updates, update), append(waiting, i)
				continue
			}
			waiting = append(waiting, i)
			updates = append(updates, nil)
		}
		var awaited []<-chan struct{}
		for _, update := range updates {
			if update != nil {
				awaited = append(awaited, update)
			}
		}
		answered := wait(ctx, awaited)
		for j, i := range waiting {
			if updates[j] != nil {
				l.waited(claims[i], cost)
			}
		}
		if ctx.Err() != nil {
			undo()
			return fmt.Errorf("waiting for a permit: %w", context.Cause(ctx))
		}
		for j, i := range waiting {
			c := claims[i]
			if updates[j] != nil && (answered || isClosed(updates[j])) {
				continue // tried again with what it brought
			}
			if updates[j] != nil {
				l.outage.note(l.now(), errSlow)
			}
			if l.isClosed() || l.takeShare(c, cost) == refused {
				undo()
				return l.refusal(claims, c, l.outage.next(l.now()))
			}
			done[i] = true
		}
	}
}

var errSlow = fmt.Errorf("no answer within %v", patience)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (l *Limiter) take(c *claim, cost int64) outcome {
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.daily {
		return s.takeTokens(cost, l.now())
	}
	c.minute = s.calls.minute
	return s.takeCalls(cost, l.now())
}

func (l *Limiter) takeShare(c claim, cost int64) outcome {
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	outcome := s.takeShare(c.daily, cost, l.instances)
	if outcome == taken {
		l.owes(s)
	}
	return outcome
}

// undo gives back what a claim took for a call that is not let through.
func (l *Limiter) undo(c claim, cost int64) {
	if !c.daily {
		l.giveCalls([]claim{c}, cost)
		return
	}
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.inFlight = max(0, s.tokens.inFlight-cost)
	l.holdsTooMuch(s)
}

func (l *Limiter) refusal(claims []claim, c claim, retryAfter time.Duration) *Refusal {
	now := l.now()
	s := c.subject.state(c.daily)
	if retryAfter <= 0 {
		retryAfter = s.ResetsAt.Sub(now)
	}
	var states []State
	for _, other := range claims {
		if state := other.subject.state(other.daily); state.Limit > 0 {
			states = append(states, state)
		}
	}
	return &Refusal{
		Rule: s.Name, RetryAfter: wholeSeconds(min(retryAfter, s.ResetsAt.Sub(now))), Limit: s.Limit, Daily: s.Daily,
		States: states, at: now,
	}
}

// ready is an update that has ended.
var ready = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// lease begins an update that allows cost to be taken, or joins the one that runs,
// and returns what is closed at its end; the call then counts among those that wait,
// until waited. It is false where the counters are not to be asked.
func (l *Limiter) lease(ctx context.Context, c claim, cost int64) (<-chan struct{}, bool) {
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.updating != nil && l.outage.isAway() {
		return nil, false // it is waited for already, and takes too long
	}
	if c.daily {
		s.tokens.waiting += cost
	}
	update, ok := (<-chan struct{})(s.updating), true
	if s.updating == nil {
		a := ask{tokens: cost}
		if !c.daily {
			a = ask{calls: cost, expects: l.expected.Load()}
		}
		update, ok = l.update(ctx, s, a)
	}
	if !ok && c.daily {
		s.tokens.waiting -= cost
	}
	return update, ok
}

// waited counts a call out that has waited for a lease.
func (l *Limiter) waited(c claim, cost int64) {
	if !c.daily {
		return
	}
	c.subject.mu.Lock()
	defer c.subject.mu.Unlock()
	c.subject.tokens.waiting -= cost
}

// update begins a call of the counters, whose s.mu the caller holds. It outlives ctx:
// what it brings serves the calls that come next.
func (l *Limiter) update(ctx context.Context, s *subject, a ask) (<-chan struct{}, bool) {
	if !l.begin() {
		return nil, false
	}
	done := make(chan struct{})
	s.updating = done
	u := s.compose(l.now(), a)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), updateTimeout)
	go func() {
		defer l.updates.Done()
		defer cancel()
		var account Account
		err := rescue.Call(func() (err error) {
			account, err = l.counters.Update(ctx, s.account, u)
			return err
		})
		l.outage.note(l.now(), err)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			s.answered(u, account, l.now())
			if s.unreported {
				l.owes(s)
			} else {
				l.unschedule(s)
			}
			l.holdsTooMuch(s)
		} else if s.unreported {
			l.owes(s)
		}
		s.updating = nil
		close(done)
	}()
	return done, true
}

func (l *Limiter) unschedule(s *subject) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.drop(s)
}

// begin reports whether the counters may be asked, and counts the call.
func (l *Limiter) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.outage.admits(l.now()) {
		return false
	}
	l.updates.Add(1)
	return true
}

func (l *Limiter) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
