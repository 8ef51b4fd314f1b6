package explore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/session"
)

// What is left out of the store on purpose must be found.

// A faulty store changes what passes it.
type faulty struct {
	session.Store
	read   func(*session.Run)
	apply  func(session.Store, *session.Session, *session.Change)
	save   func(session.Store, *session.Run)
	delete func(session.Store, session.Key) error
	owner  func(*session.User)
}

func (f *faulty) LoadUser(ctx context.Context, owner session.Owner) (*session.User, error) {
	u, err := f.Store.LoadUser(ctx, owner)
	if err == nil && f.owner != nil {
		changed := *u
		u = &changed
		f.owner(u)
	}
	return u, err
}

func (f *faulty) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	r, err := f.Store.LoadRun(ctx, key, id)
	if err == nil && f.read != nil {
		f.read(r)
	}
	return r, err
}

func (f *faulty) Apply(ctx context.Context, base *session.Session, c session.Change) (*session.Session, error) {
	if f.apply != nil {
		changed := *base
		base = &changed
		f.apply(f.Store, base, &c)
	}
	return f.Store.Apply(ctx, base, c)
}

func (f *faulty) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if f.save != nil {
		changed := *r
		r = &changed
		f.save(f.Store, r)
	}
	return f.Store.SaveRun(ctx, r)
}

func (f *faulty) Delete(ctx context.Context, key session.Key) error {
	if f.delete != nil {
		return f.delete(f.Store, key)
	}
	return f.Store.Delete(ctx, key)
}

// unconditional makes r overwrite what is stored.
func unconditional(store session.Store, r *session.Run) {
	if stored, err := store.LoadRun(background, r.Key, r.ID); err == nil {
		r.Revision = stored.Revision
	}
}

type lossy struct{ limit.Counters }

func (l lossy) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	u.Spent /= 2
	return l.Counters.Update(ctx, name, u)
}

var faults = []struct {
	name string
	scenario
	faulty faulty
	counts func(limit.Counters) limit.Counters
}{
	{
		name:     "a commit that does not look whether the session has changed",
		scenario: scenario{question: talk, existing: true, visits: []visit{{asks, 0}, {writes, 1}}},
		faulty: faulty{apply: func(store session.Store, s *session.Session, c *session.Change) {
			if stored, err := store.Load(background, s.Key); err == nil && c.Turn != nil {
				s.Revision = stored.Revision
			}
		}},
	},
	{
		name:     "a commit that does not look whether the record has changed",
		scenario: scenario{question: pay, visits: []visit{{asks, 0}, {watches, 1}}, waits: 3, faults: 1},
		faulty: faulty{apply: func(store session.Store, _ *session.Session, c *session.Change) {
			if c.Run != nil {
				run := *c.Run
				c.Run = &run
				unconditional(store, c.Run)
			}
		}},
	},
	{
		name:     "a commit without the record",
		scenario: scenario{question: pay, visits: []visit{{asks, 0}, {watches, 1}}, waits: 3},
		faulty:   faulty{apply: func(_ session.Store, _ *session.Session, c *session.Change) { c.Run = nil }},
	},
	{
		name:     "a holder that does not look whether it is fenced",
		scenario: scenario{question: talk, streamed: true, visits: []visit{{asks, 0}, {watches, 1}}, waits: 3, faults: 1},
		faulty:   faulty{save: unconditional},
	},
	{
		name:     "a claim that does not look whether another was first",
		scenario: scenario{question: pay, keyed: true, visits: []visit{{asks, 0}, {retries, 1}}},
		faulty: faulty{apply: func(store session.Store, s *session.Session, c *session.Change) {
			if stored, err := store.Load(background, s.Key); err == nil && c.Entry != nil && c.Turn == nil {
				s.Revision = stored.Revision
			}
		}},
	},
	{
		name:     "a ledger that forgets what began",
		scenario: scenario{question: fire, keyed: true, visits: []visit{{asks, 0}, {retries, 1}}, waits: 2, faults: 1},
		faulty:   faulty{read: func(r *session.Run) { r.Effects = map[string]session.Effect{} }},
	},
	{
		name:     "an approval that does not look whether there was an answer",
		scenario: scenario{question: send, visits: []visit{{asks, 0}, {approves, 0}, {denies, 1}}},
		faulty: faulty{save: func(store session.Store, r *session.Run) {
			if len(r.Answers) > 0 && r.State == session.Working {
				unconditional(store, r)
			}
		}},
	},
	{
		name:     "a deletion that leaves no mark",
		scenario: scenario{question: talk, keyed: true, visits: []visit{{asks, 0}, {deletes, 0}, {retries, 1}}},
		faulty: faulty{
			delete: func(store session.Store, key session.Key) error {
				s, err := store.Load(background, key)
				if err != nil || !s.Exists() {
					return errors.Join(err, session.ErrNotFound)
				}
				_, err = store.Apply(background, s, session.Change{Remove: true})
				return err
			},
		},
	},
	{
		name:     "a deletion of all that forgets its time",
		scenario: scenario{question: talk, streamed: true, visits: []visit{{asks, 0}, {clears, 1}, {watches, 1}}, waits: 4, faults: 1},
		faulty:   faulty{owner: func(u *session.User) { u.DeletedAt = time.Time{} }},
	},
	{
		name:     "a record that forgets what is void",
		scenario: scenario{question: talk, streamed: true, keyed: true, visits: []visit{{asks, 0}, {watches, 1}}, waits: 3, faults: 1},
		faulty:   faulty{save: func(_ session.Store, r *session.Run) { r.Resets = nil }},
	},
	{
		name:     "a takeover that forgets the stop",
		scenario: scenario{question: talk, streamed: true, visits: []visit{{asks, 0}, {stops, 1}, {watches, 1}, {resumes, 0}}, waits: 4, faults: 3},
		faulty:   faulty{save: func(_ session.Store, r *session.Run) { r.Stop = r.Stop && r.Epoch == 0 }},
	},
	{
		name:     "a budget that forgets a half",
		scenario: scenario{question: talk, visits: []visit{{asks, 0}, {writes, 1}}},
		counts:   func(c limit.Counters) limit.Counters { return lossy{c} },
	},
}

// TestFaultsAreFound explores a store that lacks something until something is violated,
// and does so again by the same seed. Without the fault, nothing is violated.
func TestFaultsAreFound(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := f.scenario
			s.name, s.counts = f.name, f.counts
			s.fault = func(store session.Store) session.Store {
				broken := f.faulty
				broken.Store = store
				return &broken
			}
			most := number(t, "EXPLORE_FAULTS", 3000, 3000)
			for seed := range uint64(most) {
				s.recovers = int(seed % 2)
				w := execute(t, s, newRandom(seed))
				if len(w.wrong) == 0 {
					continue
				}
				again := newRandom(seed)
				again.aloud = true
				if second := execute(t, s, again); fmt.Sprint(kinds(second.wrong)) != fmt.Sprint(kinds(w.wrong)) {
					t.Errorf("seed %d violated %q, and then %q", seed, w.wrong, second.wrong)
				}
				whole := s
				whole.fault, whole.counts = nil, nil
				for seed := range seed + 1 {
					if w := execute(t, whole, newRandom(seed)); len(w.wrong) > 0 {
						t.Errorf("without the fault, seed %d violates %q", seed, w.wrong)
					}
				}
				t.Logf("found by seed %d: %s", seed, w.wrong[0])
				return
			}
			t.Errorf("not found in %d executions", most)
		})
	}
}

func kinds(wrong []string) (all []string) {
	for _, violation := range wrong {
		all = append(all, kindOf(violation))
	}
	return all
}
