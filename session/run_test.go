package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestIDsOfRuns(t *testing.T) {
	t.Parallel()
	of, turn := session.NewID(), session.NewID()
	if a, b, ok := session.SplitRunID(session.RunID(of, turn)); !ok || a != of || b != turn {
		t.Errorf("%q, %q, %t", a, b, ok)
	}
	for _, id := range []string{"", ".", of, of + ".", "." + turn, of + "." + turn + "." + turn, of + "./" + turn, of + "." + strings.Repeat("a", 65)} {
		if _, _, ok := session.SplitRunID(id); ok {
			t.Errorf("%q is taken for a run's id", id)
		}
	}
}

// A retry finds the record of its key, nobody else's, and no earlier one that has expired.
func TestKeyedRunsAreOfOneOwnerKeyAndGeneration(t *testing.T) {
	t.Parallel()
	ada, bob := session.OwnerOf("caller", "ada"), session.OwnerOf("caller", "bob")
	key, id := session.KeyedRun(ada, "key", 0)
	if again, same := session.KeyedRun(ada, "key", 0); again != key || same != id || key.Owner != ada {
		t.Errorf("a retry finds %v %s, not %v %s", again, same, key, id)
	}
	if _, _, ok := session.SplitRunID(session.RunID(key.ID, id)); !ok {
		t.Errorf("%s %s is not a run's id", key.ID, id)
	}
	for name, of := range map[string]func() (session.Key, string){
		"another owner":      func() (session.Key, string) { return session.KeyedRun(bob, "key", 0) },
		"another key":        func() (session.Key, string) { return session.KeyedRun(ada, "key2", 0) },
		"another generation": func() (session.Key, string) { return session.KeyedRun(ada, "key", 1) },
	} {
		if k, other := of(); k.ID == key.ID || other == id {
			t.Errorf("%s has the same place", name)
		}
	}
}

func TestStatesOfRuns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                 string
		run                  session.Run
		over, lapsed, begins bool
	}{
		{"held, and written a moment ago", session.Run{State: session.Working, Holder: "a", Silent: session.LeaseTime}, false, false, false},
		{"held, and silent for too long", session.Run{State: session.Working, Holder: "a", Silent: session.LeaseTime + 1}, false, true, false},
		{"held by nobody", session.Run{State: session.Working}, false, true, false},
		{"queued a moment ago", session.Run{State: session.Working, Holder: session.Queued}, false, false, true},
		{"queued a while ago", session.Run{State: session.Working, Holder: session.Queued, Silent: 3*time.Second - 1}, false, false, true},
		{"queued so long ago that the first write may come too late", session.Run{State: session.Working, Holder: session.Queued, Silent: 3 * time.Second}, false, false, false},
		{"ended while it was queued", session.Run{State: session.Stopped, Holder: session.Queued}, true, false, false},
		{"waits for a person", session.Run{State: session.Waiting, Silent: time.Hour}, false, false, false},
		{"done", session.Run{State: session.Done, Silent: time.Hour}, true, false, false},
		{"failed", session.Run{State: session.Failed}, true, false, false},
		{"stopped", session.Run{State: session.Stopped}, true, false, false},
	} {
		r := test.run
		if r.Over() != test.over || r.Lapsed() != test.lapsed || r.Begins() != test.begins {
			t.Errorf("%s: over %t, lapsed %t, begins %t", test.name, r.Over(), r.Lapsed(), r.Begins())
		}
	}
}

// A faultyStore calls before and after with each change.
type faultyStore struct {
	session.Store
	before, after func() error
}

func (s *faultyStore) Apply(ctx context.Context, of *session.Session, c session.Change) (*session.Session, error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return nil, err
		}
	}
	after, err := s.Store.Apply(ctx, of, c)
	if err == nil && s.after != nil {
		err = s.after()
	}
	return after, err
}

// once returns a function that calls do the first time.
func once(do func() error) func() error {
	return func() error {
		if do == nil {
			return nil
		}
		f := do
		do = nil
		return f()
	}
}

// Begin writes the first record of a keyed run once, whatever happens to the write.
func TestBeginWhenTheFirstWriteFails(t *testing.T) {
	t.Parallel()
	unavailable := func() error { return fmt.Errorf("lost: %w", session.ErrUnavailable) }
	for _, test := range []struct {
		name          string
		before, after func(t *testing.T, store session.Store, clock *sessiontest.Clock, o *session.Opened, r *session.Run) func() error
		want          error
		stored        bool // by this call
	}{
		{name: "nothing fails", stored: true},
		{name: "the store is away for a moment", before: func(*testing.T, session.Store, *sessiontest.Clock, *session.Opened, *session.Run) func() error {
			return unavailable
		}, stored: true},
		{name: "the reply is lost", after: func(*testing.T, session.Store, *sessiontest.Clock, *session.Opened, *session.Run) func() error {
			return unavailable
		}, want: session.ErrChanged, stored: true},
		{name: "another call has taken the key over", before: func(t *testing.T, store session.Store, clock *sessiontest.Clock, o *session.Opened, _ *session.Run) func() error {
			return func() error {
				clock.Advance(time.Hour)
				if _, err := session.Open(t.Context(), store, o.Session.Key.Owner, "", session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}, nil, clock.Now); err != nil {
					t.Error(err)
				}
				return nil
			}
		}, want: session.ErrTakenOver},
		{name: "another key is claimed in its session", before: func(t *testing.T, store session.Store, clock *sessiontest.Clock, o *session.Opened, _ *session.Run) func() error {
			return func() error {
				_, err := store.Apply(t.Context(), o.Session, session.Change{Key: "k", Entry: &session.KeyEntry{Lease: "l", At: clock.Now(), Until: clock.Now().Add(time.Minute)}})
				return err
			}
		}, stored: true},
		{name: "the same run has a record already", before: func(t *testing.T, store session.Store, _ *sessiontest.Clock, _ *session.Opened, r *session.Run) func() error {
			return func() error {
				other := *r
				other.Holder, other.Epoch = "another", 2
				if _, err := store.SaveRun(t.Context(), &other); err != nil {
					t.Error(err)
				}
				return nil
			}
		}, want: session.ErrChanged},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			clock := sessiontest.NewClock()
			store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
			o, err := session.Open(t.Context(), store, session.OwnerOf("caller", ""), "", session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}, nil, clock.Now)
			if err != nil {
				t.Fatal(err)
			}
			r := &session.Run{Key: o.Session.Key, ID: session.NewID(), State: session.Working, Holder: "holder", Epoch: 1, KeyHash: o.Claim.Hash(), Request: json.RawMessage(`{}`)}
			faulty := &faultyStore{Store: store}
			if test.before != nil {
				faulty.before = once(test.before(t, store, clock, o, r))
			}
			if test.after != nil {
				faulty.after = once(test.after(t, store, clock, o, r))
			}
			_, _, err = session.Begin(t.Context(), faulty, o.Session, o.Claim, r)
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			stored, err := store.LoadRun(t.Context(), r.Key, r.ID)
			if own := err == nil && stored.Holder == "holder"; own != test.stored {
				t.Errorf("this call's record is stored: %t, %v", own, err)
			}
		})
	}
}

// A run whose record was deleted is not begun again, and is not tried again either.
func TestBeginWhereTheRecordWasDeleted(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	r := &session.Run{Key: key, ID: session.NewID(), State: session.Working, Holder: "holder", Request: json.RawMessage(`{}`)}
	if _, err := store.SaveRun(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteAll(t.Context(), key.Owner); err != nil {
		t.Fatal(err)
	}
	o, err := session.Open(t.Context(), store, key.Owner, key.ID, session.Idempotency{Key: "key", Body: "body", Lease: time.Minute, Create: true}, nil, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	faulty := &faultyStore{Store: store, before: func() error { writes++; return nil }}
	if _, _, err := session.Begin(t.Context(), faulty, o.Session, o.Claim, r); !errors.Is(err, session.ErrRunDeleted) || writes != 1 {
		t.Errorf("%v after %d writes, want one", err, writes)
	}
}

// A stop that comes before a run begins to wait is met by it: whoever stopped it was told that
// it stops.
func TestAStopBeforeARunWaits(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	working, err := store.SaveRun(t.Context(), &session.Run{Key: key, ID: session.NewID(), State: session.Working, Holder: "holder", Request: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	stop := *working
	stop.Stop = true
	if _, err := store.SaveRun(t.Context(), &stop); err != nil {
		t.Fatal(err)
	}
	waits := *working
	waits.State, waits.Pending = session.Waiting, []session.Pending{{CallID: "c", Name: "pay", ExpiresAt: time.Now().Add(time.Hour)}}
	turn := sessiontest.Turn("pay")
	turn.ID, turn.FinishReason, turn.Pending = waits.ID, "WAITING", waits.Pending
	if _, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{Run: &waits}); err != nil {
		t.Fatal(err)
	}
	stored, err := store.LoadRun(t.Context(), key, waits.ID)
	if err != nil || stored.State != session.Stopped || len(stored.Pending) > 0 || waits.State != session.Stopped {
		t.Errorf("the record is %+v, and the caller's %s, %v", stored, waits.State, err)
	}
}

// Turns that are no longer in the session's document are found and taken back like others.
func TestArchivedTurns(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	s := session.New(session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()})
	var ids []string
	for n := 1; n <= 230; n++ {
		turn := sessiontest.Turn(fmt.Sprint(n))
		turn.Effects = n == 120
		ids = append(ids, turn.ID)
		if _, err := session.Commit(t.Context(), store, s, turn, session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		var err error
		if s, err = store.Load(t.Context(), s.Key); err != nil {
			t.Fatal(err)
		}
	}
	archived := *s // as a store has it whose documents are full
	archived.Recent = s.Recent[len(s.Recent)-3:]

	for _, n := range []int{1, 50, 51, 100, 227} {
		found, err := session.FindArchived(t.Context(), store, &archived, func(r session.Record) bool { id, err := r.ID(); return err == nil && id == ids[n-1] })
		if query, _ := found.Texts(); err != nil || query != fmt.Sprint(n) {
			t.Errorf("turn %d: %q, %v", n, query, err)
		}
	}
	second := *s // of which one turn is archived
	second.Recent = s.Recent[1:]
	if found, err := session.FindIn(t.Context(), store, &second, ids[0]); err != nil || found.Number != 1 {
		t.Errorf("the only archived turn: %d, %v", found.Number, err)
	}
	for name, match := range map[string]func(session.Record) bool{
		"no turn":       func(session.Record) bool { return false },
		"a recent turn": func(r session.Record) bool { return r.Number == 229 },
	} {
		if _, err := session.FindArchived(t.Context(), store, &archived, match); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}

	for _, n := range []int{1, 227, 228, 229, 230} {
		if found, err := session.FindIn(t.Context(), store, &archived, ids[n-1]); err != nil || found.ID != ids[n-1] || found.Number != n {
			t.Errorf("turn %d, recent or archived: %d, %v", n, found.Number, err)
		}
	}
	if _, err := session.FindArchived(t.Context(), &brokenStore{Store: store, turns: true}, &archived, func(session.Record) bool { return false }); !errors.Is(err, errBroken) {
		t.Errorf("an archive that cannot be read: %v", err)
	}

	for _, test := range []struct {
		first, recent int // turns that the model still knows
		effects       bool
	}{
		{231, 0, false}, {230, 2, false}, {228, 0, false}, {227, 100, false}, {121, 100, false}, {120, 100, true}, {50, 49, true}, {1, 0, true}, {0, 0, false},
	} {
		before, effects, err := session.Before(t.Context(), store, &archived, test.first)
		if test.first < 1 || test.first > 230 {
			if !errors.Is(err, session.ErrReplaced) {
				t.Errorf("before turn %d: %v", test.first, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("before turn %d: %v", test.first, err)
			continue
		}
		if before.Turns != test.first-1 || before.TotalTokens != int64(7*(test.first-1)) || len(before.Recent) != test.recent || effects != test.effects {
			t.Errorf("before turn %d: %d turns, %d tokens, %d recent, effects %t", test.first, before.Turns, before.TotalTokens, len(before.Recent), effects)
		}
		if n := len(before.Recent); n > 0 && before.Recent[n-1].Number != test.first-1 {
			t.Errorf("before turn %d: the last is %d", test.first, before.Recent[n-1].Number)
		}
	}

	last, err := s.WithoutLast()
	if err != nil || last.Turns != 229 || last.TotalTokens != 7*229 || len(s.Recent) != len(last.Recent)+1 {
		t.Errorf("without the last: %+v, %v", last.Meta, err)
	}
}
