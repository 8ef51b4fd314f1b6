// Package limit enforces calls per minute and tokens per day across instances.
//
// What instances lease never exceeds the limit, for any number of instances, yet most
// calls need no write. Each limited subject (an end user, a caller, the service) has
// one account per day that all instances share; see [Counters]. An instance leases
// from the account in advance and serves calls from its lease: permits in batches
// sized by use, the first of a minute being the use of the minute before plus a fifth;
// tokens in blocks of a thousandth of the day's budget, or of one reservation if that
// is more. One write renews everything the instance holds of an account and reports
// what it has spent.
//
// What an instance holds counts as used. If it crashes, what it held at its last
// report counts as spent. That is little, because it reports about once a minute and
// returns any excess at once. An update states totals, not differences, so the next
// update replaces one whose response was lost, and nothing is leased twice.
//
// A [Rule] is a rate in clock minutes; [Limiter.Take] returns a [Permit] for one call.
// A [Budget] is a number of tokens per UTC day; [Limiter.Reserve] reserves an
// estimate, and [Reservation.Settle] replaces it by the actual use.
//
// While the counters are unavailable, each instance uses its share of what was left,
// so that limits are neither lifted nor closed.
package limit

import (
	"cmp"
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

// Costs of calls, in tenths of a turn.
const (
	Turn int64 = 10
	Get  int64 = 1
)

const (
	// maxWait is how long a call waits for the counters.
	maxWait = time.Second
	// updateTimeout bounds a call of the counters. It exceeds maxWait: a late lease
	// still serves the calls that follow.
	updateTimeout = 5 * time.Second
	// renewEvery is how long spending may stay unreported while the instance has
	// requests. For an account held by many instances it is a second for each of them,
	// so that a Firestore document gets about one write per second.
	renewEvery = time.Minute
	// maxSubjects is how many subjects an instance tracks. Above it, each new one
	// replaces the least recently used subject that holds and owes nothing.
	maxSubjects = 10_000
	// maxUnreported is how many more there may be while those to be replaced report
	// their debts; after that, new subjects are refused.
	maxUnreported = 1000
	// maxFlush bounds the accounts renewed after one request.
	maxFlush = 4
	// maxParallelCloses is how many accounts are updated in parallel when the instance ends.
	maxParallelCloses = 16
	// maxModels bounds the models counted separately in an account.
	maxModels = 16
)

// A Rule allows PerMinute calls in a clock minute.
type Rule struct {
	Name      string // see [Limits]; used in headers
	Who       string // a hash
	PerMinute int    // turns; 0: no limit
}

// A Budget allows PerDay tokens in a UTC day.
type Budget struct {
	Name   string
	Who    string // a hash
	PerDay int64  // tokens; 0: no limit, use is only counted
}

// Config configures a [Limiter].
type Config struct {
	Counters     Counters
	MaxInstances int              // instances that share a limit; at least 1
	Now          func() time.Time // the clock
	Log          *slog.Logger
}

// A Limiter enforces limits on this instance. It is safe for concurrent use.
type Limiter struct {
	counters  Counters
	instances int
	now       func() time.Time
	log       *slog.Logger
	outage    outage
	expected  atomic.Int64 // tokens of the last reservation

	mu       sync.Mutex
	closed   bool
	updates  sync.WaitGroup
	subjects map[key]*subject
	recent   *list.List // of *subject, most recently used first
	queue    queue      // subjects with something to report
}

// New returns a Limiter. The caller keeps ownership of the counters.
func New(c Config) *Limiter {
	return &Limiter{
		counters: c.Counters, instances: max(1, c.MaxInstances), now: c.Now, log: c.Log,
		outage:   outage{log: c.Log},
		subjects: map[key]*subject{}, recent: list.New(),
	}
}

// A Refusal is the error of a call that a limit refused.
type Refusal struct {
	Rule       string        // name of the rule or budget
	RetryAfter time.Duration // whole seconds
	Limit      int64         // calls per minute or tokens per day
	Daily      bool          // the limit is a budget of tokens
	States     []State       // of all limits that applied

	at time.Time
}

func (r *Refusal) Error() string {
	if r.Daily {
		return fmt.Sprintf("the budget %q of %d tokens a day is spent", r.Rule, r.Limit)
	}
	return fmt.Sprintf("the limit %q of %d calls a minute is reached", r.Rule, r.Limit)
}

// A claim is a call's demand on one subject: calls of the minute or tokens of the day.
type claim struct {
	subject *subject
	daily   bool
	minute  int64 // in which the permit was taken
}

// A Permit allows one call. It is safe for concurrent use.
type Permit struct {
	limiter *Limiter
	claims  []claim
	tenths  int64
	settled atomic.Bool
	room    [usualClaims]claim
}

// usualClaims is how many claims most calls have: of an end user and its caller. Permits and
// reservations have room for them.
const usualClaims = 2

// Take takes a permit for a call that costs tenths of a turn ([Turn], [Get]), from
// every rule or from none. The error is a [*Refusal], or ctx's if it ends while Take
// waits for a lease.
func (l *Limiter) Take(ctx context.Context, rules []Rule, tenths int64) (*Permit, error) {
	p := &Permit{limiter: l, tenths: tenths}
	var err error
	if p.claims, err = l.ruleClaims(ctx, p.room[:0], rules); err != nil {
		return nil, err
	}
	if err := l.acquire(ctx, p.claims, tenths); err != nil {
		return nil, err
	}
	return p, nil
}

// Settle replaces the permit's cost by the actual one, in tenths of a turn. Only the
// first call has an effect.
func (p *Permit) Settle(tenths int64) {
	if p.settled.CompareAndSwap(false, true) {
		p.limiter.giveCalls(p.claims, p.tenths-tenths)
	}
}

// Charge counts a call that is never refused. What no lease covers is a debt, and the
// counter may become negative.
func (l *Limiter) Charge(ctx context.Context, rules []Rule, tenths int64) {
	claims, _ := l.ruleClaims(ctx, nil, rules) // none if there is no room to count
	l.giveCalls(claims, -tenths)
}

// giveCalls returns tenths to the minutes they were taken from. tenths may be
// negative.
func (l *Limiter) giveCalls(claims []claim, tenths int64) {
	for _, c := range claims {
		s := c.subject
		s.mu.Lock()
		if s.calls.minute == c.minute {
			s.calls.used = max(0, s.calls.used-tenths) // a debt goes with the minute's next lease
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
	room    [usualClaims]claim
}

// Reserve reserves tokens in every budget, or in none. Its errors are those of
// [Limiter.Take].
func (l *Limiter) Reserve(ctx context.Context, budgets []Budget, tokens int64) (*Reservation, error) {
	r := &Reservation{limiter: l, tokens: tokens}
	var err error
	if r.claims, err = l.budgetClaims(ctx, r.room[:0], budgets); err != nil {
		return nil, err
	}
	l.expected.Store(tokens)
	if err := l.acquire(ctx, r.claims, tokens); err != nil {
		return nil, err
	}
	return r, nil
}

// Settle replaces the estimate by the actual use, by model. Use beyond the reservation
// is a debt that the next lease covers first. Only the first call has an effect.
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
			if s.usage == nil {
				s.usage = map[string]Spend{}
			}
			s.usage[model] = s.usage[model].plus(used)
			r.limiter.scheduleReport(s)
		}
		r.limiter.scheduleReturn(s)
		s.mu.Unlock()
	}
}

// otherModels counts the models beyond maxModels.
const otherModels = "other"

// scheduleReport records that s has something to report. The caller holds s.mu.
func (l *Limiter) scheduleReport(s *subject) {
	s.unreported = true
	l.schedule(s, l.now().Add(max(renewEvery, time.Duration(s.others)*time.Second)))
}

// scheduleReturn schedules a report of s if it holds more than an instance may keep. The
// caller holds s.mu.
func (l *Limiter) scheduleReturn(s *subject) {
	t := &s.tokens
	if _, kept := t.shares(); t.waiting == 0 && min(t.ceiling, t.limit)-t.spent-t.inFlight > kept {
		l.schedule(s, l.now())
	}
}

// schedule schedules a report of s at due or earlier. The caller holds s.mu.
func (l *Limiter) schedule(s *subject, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.add(s, due)
}

// Due reports whether [Limiter.Flush] has anything to do.
func (l *Limiter) Due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.queue.due(l.now())
}

// Flush reports to the accounts that are due, a few per call, and returns what this
// instance holds in excess. It waits at most maxWait. Call it after a request was
// answered, while the instance still has CPU.
func (l *Limiter) Flush(ctx context.Context) {
	var updates []<-chan struct{}
	for range maxFlush {
		l.mu.Lock()
		s := l.queue.take(l.now())
		l.mu.Unlock()
		if s == nil {
			break
		}
		s.mu.Lock()
		update := (<-chan struct{})(s.updating)
		if update != nil {
			l.schedule(s, l.now().Add(maxWait)) // a running update may not include all of it
		} else if update = l.update(ctx, s, ask{}); update == nil {
			l.schedule(s, l.now().Add(pause))
		}
		s.mu.Unlock()
		updates = append(updates, update)
	}
	wait(ctx, updates)
}

// wait waits for updates, at most maxWait; a nil one is passed over. It returns false on
// timeout or when ctx ends.
func wait(ctx context.Context, updates []<-chan struct{}) bool {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for _, update := range updates {
		if update == nil {
			continue
		}
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

// A Report is the state of limits and the first subject's use today.
type Report struct {
	States []State
	Usage  map[string]Spend // by model
}

// Report returns the state of rules and budgets in this order, without those that have
// no limit, and today's use of the first subject. It reads that subject's account. The
// others are read only if this instance has no recent state of them.
func (l *Limiter) Report(ctx context.Context, rules []Rule, budgets []Budget) (Report, error) {
	claims, err := l.ruleClaims(ctx, nil, rules)
	if err == nil {
		claims, err = l.budgetClaims(ctx, claims, budgets)
	}
	if err != nil {
		return Report{}, err
	}
	var report Report
	now := l.now()
	var group errgroup.Group
	seen := map[*subject]bool{}
	for i, c := range claims {
		s := c.subject
		s.mu.Lock()
		heard := now.Sub(s.renewed) < 2*renewEvery
		s.mu.Unlock()
		if seen[s] || i > 0 && heard {
			continue
		}
		seen[s] = true
		group.Go(func() error {
			account, err := l.look(ctx, s)
			if i == 0 {
				report.Usage = l.usage(s, account)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Report{}, err
	}
	report.States = appendStates(make([]State, 0, len(claims)), claims)
	return report, nil
}

// appendStates appends the states of what claims are on, without those that have no limit.
func appendStates(all []State, claims []claim) []State {
	for _, c := range claims {
		if state := c.subject.state(c.daily); state.Limit > 0 {
			all = append(all, state)
		}
	}
	return all
}

// look reads the account of s.
func (l *Limiter) look(caller context.Context, s *subject) (account Account, err error) {
	if !l.begin() {
		return Account{}, errUnavailable
	}
	defer l.updates.Done()
	ctx, cancel := context.WithTimeout(caller, maxWait)
	defer cancel()
	err = rescue.Call(func() (err error) {
		account, err = l.counters.Look(ctx, s.account)
		return err
	})
	// A caller that disconnects reports nothing about the counters: it could limit everybody
	// else to this instance's share.
	if caller.Err() == nil {
		l.outage.note(l.now(), err)
	}
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.recordAccount(account, l.now())
	}
	return account, err
}

// usage returns the use of s's account, including what this instance has not reported
// yet.
func (l *Limiter) usage(s *subject, a Account) map[string]Spend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sum(a.used(s.instance), s.usage)
}

// errUnavailable is returned instead of calling counters that failed recently.
var errUnavailable = errors.New("the rate-limit counters are unavailable")

// Degraded reports whether the counters failed when last called. They are called as
// requests come in, at most every 5 seconds while they fail.
func (l *Limiter) Degraded() bool { return l.outage.isDown() }

// Close returns what is held and reports what was spent, as far as possible before ctx
// ends. Call it when no more calls are expected; later ones are refused unless a lease
// covers them.
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
	group.SetLimit(maxParallelCloses)
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
		l.log.Warn("Some unused rate-limit leases could not be returned.", "error", err)
	}
}

// leave updates the account of s so that this instance holds nothing.
func (l *Limiter) leave(ctx context.Context, s *subject) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	s.mu.Lock()
	u := s.compose(l.now(), ask{leave: true})
	s.mu.Unlock()
	return rescue.Call(func() error {
		_, err := l.counters.Update(ctx, s.account, u)
		return err
	})
}

// ruleClaims appends a claim for each rule that limits anything. If there is no room for
// another subject, the call is refused rather than let through uncounted.
func (l *Limiter) ruleClaims(ctx context.Context, claims []claim, rules []Rule) ([]claim, error) {
	now := l.now()
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

// budgetClaims appends a claim for each budget. A limit that has changed since the last
// answer makes what was heard from the counters worthless: they are asked again.
func (l *Limiter) budgetClaims(ctx context.Context, claims []claim, budgets []Budget) ([]claim, error) {
	now := l.now()
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

// subject returns the subject for now's day, creating it if needed; nil if there is no
// room.
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

// makeRoom drops the least recently used subject if it holds and owes nothing.
// Otherwise it makes that subject report first, so that it can be dropped later, and
// waits for it only if the overflow of maxUnreported is used up too. It returns false
// if there is no room. No debt is ever dropped.
func (l *Limiter) makeRoom(ctx context.Context, now time.Time) bool {
	crowded := false
	for range maxFlush {
		l.mu.Lock()
		oldest, _ := l.recent.Back().Value.(*subject)
		crowded = len(l.subjects) >= maxSubjects+maxUnreported
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
			update = l.update(ctx, oldest, ask{leave: true})
		}
		oldest.mu.Unlock()
		switch {
		case !crowded: // checked again when it is the oldest again
			l.mu.Lock()
			l.recent.MoveToFront(oldest.recent)
			l.mu.Unlock()
		case update == nil || !wait(ctx, []<-chan struct{}{update}):
			return false
		}
	}
	return !crowded
}

// forget removes s. The caller holds mu.
func (l *Limiter) forget(s *subject) {
	l.recent.Remove(s.recent)
	delete(l.subjects, s.key)
	l.queue.drop(s)
}

// acquire takes cost from every claim, or from none. It first tries what this instance
// holds. If any claim is refused by what is known, no update is made; else all updates
// needed run in parallel and the claims are tried again. A claim whose update fails or
// takes longer than maxWait uses this instance's share.
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
			if !done[i] {
				updates, waiting = append(updates, l.lease(ctx, c, cost)), append(waiting, i)
			}
		}
		wait(ctx, updates)
		for j, i := range waiting {
			if updates[j] != nil {
				l.endWait(claims[i], cost)
			}
		}
		if ctx.Err() != nil {
			undo()
			return fmt.Errorf("waiting for a permit: %w", context.Cause(ctx))
		}
		for j, i := range waiting {
			c := claims[i]
			if updates[j] != nil && isClosed(updates[j]) {
				continue // tried again with the new lease
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

var errSlow = fmt.Errorf("no answer within %v", maxWait)

// isClosed reports whether c is closed, without waiting.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// take takes cost from what this instance has leased of a claim's subject.
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

// takeShare takes cost from this instance's share of the limit, for the time in which the
// counters do not answer. What it takes is reported once they do.
func (l *Limiter) takeShare(c claim, cost int64) outcome {
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	outcome := s.takeShare(c.daily, cost, l.instances)
	if outcome == taken {
		l.scheduleReport(s)
	}
	return outcome
}

// undo returns what a claim took for a call that is refused.
func (l *Limiter) undo(c claim, cost int64) {
	if !c.daily {
		l.giveCalls([]claim{c}, cost)
		return
	}
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.inFlight = max(0, s.tokens.inFlight-cost)
	l.scheduleReturn(s)
}

// refusal returns the refusal by c's limit, with the states of all claims for the headers
// of the answer. A wait never goes beyond the limit's own reset.
func (l *Limiter) refusal(claims []claim, c claim, retryAfter time.Duration) *Refusal {
	now := l.now()
	s := c.subject.state(c.daily)
	reset := s.ResetsAt.Sub(now)
	return &Refusal{
		Rule: s.Name, RetryAfter: wholeSeconds(min(cmp.Or(max(retryAfter, 0), reset), reset)), Limit: s.Limit, Daily: s.Daily,
		States: appendStates(make([]State, 0, len(claims)), claims), at: now,
	}
}

// lease starts an update that allows cost to be taken, or joins the running one, and
// returns a channel that is closed when it ends. The call counts as waiting until
// endWait. The channel is nil if the counters must not be called.
func (l *Limiter) lease(ctx context.Context, c claim, cost int64) <-chan struct{} {
	s := c.subject
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.updating != nil && l.outage.isDown() {
		return nil // already awaited by other calls, and slow
	}
	if c.daily {
		s.tokens.waiting += cost
	}
	update := (<-chan struct{})(s.updating)
	if update == nil {
		a := ask{tokens: cost}
		if !c.daily {
			a = ask{calls: cost, expects: l.expected.Load()}
		}
		update = l.update(ctx, s, a)
	}
	if update == nil && c.daily {
		s.tokens.waiting -= cost
	}
	return update
}

// endWait ends what lease started: the call no longer waits.
func (l *Limiter) endWait(c claim, cost int64) {
	if !c.daily {
		return
	}
	c.subject.mu.Lock()
	defer c.subject.mu.Unlock()
	c.subject.tokens.waiting -= cost
}

// update starts a call of the counters and returns a channel that is closed when it ends;
// nil if the counters must not be called. It outlives ctx, because its lease serves later
// calls too. The caller holds s.mu.
func (l *Limiter) update(ctx context.Context, s *subject, a ask) <-chan struct{} {
	if !l.begin() {
		return nil
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
			s.recordAnswer(u, account, l.now())
			if !s.unreported { // else it is in the queue since
				l.unschedule(s)
			}
			l.scheduleReturn(s)
		} else if s.unreported {
			l.scheduleReport(s)
		}
		s.updating = nil
		close(done)
	}()
	return done
}

// unschedule takes s out of the queue of reports.
func (l *Limiter) unschedule(s *subject) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.drop(s)
}

// begin reports whether the counters may be called, and counts the call.
func (l *Limiter) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.outage.admits(l.now()) {
		return false
	}
	l.updates.Add(1)
	return true
}

// isClosed reports whether l is closed: then nothing is leased any more.
func (l *Limiter) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
