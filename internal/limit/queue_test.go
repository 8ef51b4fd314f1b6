package limit

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Subjects come out of the queue in the order in which they are due, once each, and only
// when they are.
func TestTheOrderOfReports(t *testing.T) {
	t.Parallel()
	var q queue
	subjects := make([]*subject, 8)
	at := func(i int) time.Time { return noon.Add(time.Duration(i) * time.Second) }
	for i, due := range []int{5, 2, 7, 1, 6, 3, 0, 4} {
		subjects[due] = &subject{key: key{name: string(rune('a' + i))}}
		q.add(subjects[due], at(due+10))
	}
	q.add(subjects[6], at(0))  // earlier than before
	q.add(subjects[3], at(30)) // later: as it was
	q.drop(subjects[5])
	q.drop(subjects[5])
	if s := q.take(at(0).Add(-1)); s != nil {
		t.Errorf("%v is taken before it is due", s.key)
	}
	if !q.due(at(0)) || q.due(at(0).Add(-1)) {
		t.Error("due at the wrong time")
	}
	for i, want := range []int{6, 0, 1, 2, 3, 4, 7} {
		if s := q.take(at(17)); s != subjects[want] {
			t.Errorf("take %d is not subject %d", i, want)
		}
	}
	if q.due(at(100)) || q.take(at(100)) != nil {
		t.Error("the queue is not empty")
	}
}

// What was spent is reported a minute later, or a second for each instance that shares the
// account; what exceeds what may be kept is returned at once.
func TestWhenASubjectReports(t *testing.T) {
	t.Parallel()
	l := New(Config{Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)})
	for others, want := range map[int]time.Duration{0: time.Minute, 60: time.Minute, 61: 61 * time.Second} {
		s := &subject{others: others}
		if l.scheduleReport(s); !s.unreported || !s.due.Equal(noon.Add(want)) {
			t.Errorf("of %d instances: due %v", others, s.due)
		}
	}
	for name, tt := range map[string]struct {
		tokens tokens
		want   bool
	}{
		"as much as may be kept":        {tokens{limit: 1_000_000, ceiling: 2600, spent: 60, inFlight: 40}, false},
		"a token more":                  {tokens{limit: 1_000_000, ceiling: 2601, spent: 60, inFlight: 40}, true},
		"a call waits for it":           {tokens{limit: 1_000_000, ceiling: 9000, waiting: 1}, false},
		"no limit":                      {tokens{ceiling: 9000}, false},
		"a limit that was lowered":      {tokens{limit: 1000, ceiling: 9000, spent: 998}, false},
		"the same, with more to return": {tokens{limit: 1000, ceiling: 9000, spent: 997}, true},
	} {
		s := &subject{tokens: tt.tokens}
		if l.scheduleReturn(s); s.queued != tt.want || tt.want && !s.due.Equal(noon) {
			t.Errorf("%s: queued %t, due %v", name, s.queued, s.due)
		}
	}
}

// Counters that have failed are called once in five seconds, until one call succeeds, and
// each change is logged once.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	o := outage{log: slog.New(slog.NewTextHandler(&logged, nil))}
	failed := errors.New("x")
	if first, again := o.admits(noon), o.admits(noon); !first || !again || o.isDown() {
		t.Error("the counters are not called while they answer")
	}
	o.note(noon, nil)
	o.note(noon, failed)
	o.note(noon.Add(time.Second), failed)
	at := noon.Add(6 * time.Second)
	if o.admits(at.Add(-1)) || o.next(noon) != 6*time.Second || !o.isDown() {
		t.Errorf("called again in %v", o.next(noon))
	}
	if !o.admits(at) || o.admits(at) || o.admits(at.Add(5*time.Second-1)) || !o.admits(at.Add(5*time.Second)) {
		t.Error("called not once in five seconds")
	}
	o.note(at, nil)
	if first, again := o.admits(at), o.admits(at); !first || !again || o.isDown() {
		t.Error("the counters are not called once they answer")
	}
	if strings.Count(logged.String(), "level=WARN") != 1 || strings.Count(logged.String(), "level=INFO") != 1 {
		t.Errorf("logged %s", &logged)
	}
}

// A subject that is forgotten is reported no more.
func TestAForgottenSubjectIsNotDue(t *testing.T) {
	t.Parallel()
	l := New(Config{Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)})
	s := l.subject(t.Context(), "caller", "c", noon)
	l.scheduleReport(s)
	if l.forget(s); len(l.queue) != 0 || len(l.subjects) != 0 || l.recent.Len() != 0 {
		t.Errorf("%d are in the queue, %d and %d are remembered", len(l.queue), len(l.subjects), l.recent.Len())
	}
}

// A permit is of the minute in which it was taken, which another call may have begun while
// this one waited.
func TestTheMinuteOfAPermit(t *testing.T) {
	t.Parallel()
	l := New(Config{Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)})
	s := &subject{calls: calls{limit: 600, minute: minute, leased: 10}}
	c := claim{subject: s, minute: minute - 1}
	if outcome := l.take(&c, 10); outcome != taken || c.minute != minute {
		t.Errorf("outcome %d, of minute %d", outcome, c.minute-minute)
	}
}

// respond is counters that do what they are made of, and then count for one instance.
type respond func(context.Context) error

func (f respond) Update(ctx context.Context, _ string, u Update) (Account, error) {
	if err := f(ctx); err != nil {
		return Account{}, err
	}
	a, _ := Account{}.Apply(u)
	return a, nil
}

func (f respond) Look(ctx context.Context, _ string) (Account, error) { return Account{}, f(ctx) }

// A call waits until its reservation is answered, however that ends: what nobody waits for
// any more is no demand.
func TestNobodyWaitsAfterAReservation(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, tt := range map[string]struct {
		counters respond
		patience time.Duration
	}{
		"an answer":                       {func(context.Context) error { return nil }, time.Minute},
		"counters that fail":              {func(context.Context) error { return errors.New("x") }, time.Minute},
		"counters that do not answer":     {hang, time.Minute},
		"a call that ends while it waits": {hang, 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := New(Config{Counters: tt.counters, MaxInstances: 2, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
				for range 3 {
					ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
					_, _ = l.Reserve(ctx, []Budget{{Name: "caller", Who: "c", PerDay: 1000}}, 10)
					cancel()
					for _, s := range l.subjects {
						if s.mu.Lock(); s.tokens.waiting != 0 {
							t.Errorf("%d tokens are waited for", s.tokens.waiting)
						}
						s.mu.Unlock()
					}
				}
				l.Close(t.Context())
			})
		})
	}
}
