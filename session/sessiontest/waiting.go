package sessiontest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

// Runs that wait for a person, and what a tool that changes the world leaves in them.

// waitingTurn returns the turn of a run that waits.
//
// Its id and epoch are the run's: by them the turn that goes on later is recognized as the same
// run's.
func waitingTurn(r *session.Run) session.Turn {
	turn := Turn("waits")
	turn.ID, turn.FinishReason, turn.Pending, turn.Epoch = r.ID, "WAITING", r.Pending, r.Epoch
	return turn
}

// waitingRun returns a record that waits and is not stored. Its arguments hold the first integer
// that a float64 cannot, which a person approves and a tool is then called with.
func waitingRun(clock *Clock, key session.Key, life time.Duration) *session.Run {
	r := newRun(key)
	r.State, r.Holder, r.Checkpoint = session.Waiting, "", json.RawMessage(`{"step":1}`)
	r.Pending = []session.Pending{{CallID: "c", Name: "pay", Args: map[string]any{"n": json.Number("9007199254740993")}, Question: "Pay?", ExpiresAt: clock.Now().Add(life).UTC()}}
	return r
}

// wait stores a run that waits, with its turn. The two are one commit, as a run's end is.
func wait(t *testing.T, store session.Store, clock *Clock, key session.Key, life time.Duration) *session.Run {
	t.Helper()
	r := waitingRun(clock, key, life)
	base, err := begin(t, store, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), store, base, waitingTurn(r), session.Conditions{Run: r}); err != nil {
		t.Fatal(err)
	}
	return loadRun(t, store, r)
}

// answered returns r as it is once a person has answered.
//
// The epoch grows: whoever held the run before the answer is fenced.
func answered(r *session.Run, by string) *session.Run {
	next := *r
	next.State, next.Holder, next.Pending = session.Working, by, nil
	next.Answers = map[string]session.Answer{"1/c": {Approve: true, Reason: "because", By: by, At: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}}
	next.Epoch++
	return &next
}

// denied returns r as it is once another turn has followed.
func denied(r *session.Run) *session.Run {
	next := *r
	next.State, next.Pending = session.Stopped, nil
	next.Answers = map[string]session.Answer{"1/c": {Reason: "denied"}}
	return &next
}

// runWaits: what a person is asked, the answer, and the ledger of effects are read as they were
// written, digit by digit, up to a result of 64 KiB; the record is kept until the approval
// expires, and for a day from the answer on. It catches a store that decodes numbers to
// float64, and would have a person approve one amount and pay another.
func runWaits(t *testing.T, store session.Store, clock *Clock) {
	r := wait(t, store, clock, newKey(), 72*time.Hour)
	if got := r.Pending[0].Args["n"]; fmt.Sprint(got) != "9007199254740993" {
		t.Errorf("the arguments have %v", got)
	}
	if want := r.Pending[0].ExpiresAt; r.ExpiresAt.Before(want) {
		t.Errorf("the record expires at %v, before the approval at %v", r.ExpiresAt, want)
	}
	r = saveRun(t, store, answered(r, "me"))
	sameRun(t, loadRun(t, store, r), r)
	if r.ExpiresAt.After(clock.Now().Add(session.RunLife)) {
		t.Errorf("a record that waits no longer expires at %v", r.ExpiresAt)
	}
	next := *r
	next.Effects = map[string]session.Effect{"one": {Name: "pay", Step: 1}, "two": {Name: "pay", Step: 1, Call: 1}}
	r = saveRun(t, store, &next)
	sameRun(t, loadRun(t, store, r), r)
	next = *r
	next.Effects = maps.Clone(r.Effects)
	next.Effects["one"] = session.Effect{Name: "pay", Step: 1, Done: true, Result: json.RawMessage(`{"id":9007199254740993,"text":"` + strings.Repeat("x", 64<<10) + `"}`)}
	r = saveRun(t, store, &next)
	sameRun(t, loadRun(t, store, r), r)
}

// runAnsweredOnce: an approval is a conditional write, so of twenty clicks one begins the tool.
func runAnsweredOnce(t *testing.T, store session.Store, clock *Clock) {
	r := wait(t, store, clock, newKey(), time.Hour)
	var group sync.WaitGroup
	var entered atomic.Int32
	for i := range 20 {
		group.Go(func() {
			_, err := store.SaveRun(t.Context(), answered(r, fmt.Sprint(i)))
			switch {
			case err == nil:
				entered.Add(1)
			case !errors.Is(err, session.ErrChanged):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := loadRun(t, store, r); entered.Load() != 1 || got.Epoch != r.Epoch+1 || got.State != session.Working {
		t.Errorf("%d answers were entered: %+v", entered.Load(), got)
	}
}

// runGoesOn: the turn that waited and the one that goes on have one id, so looking for the id
// does not show whether a lost write was done; the epoch does. It catches a commit that takes
// the waiting turn for its own, after which the answer would never be stored.
func runGoesOn(t *testing.T, store session.Store, clock *Clock) {
	for _, lost := range []bool{false, true} {
		key := newKey()
		add(t, store, key, "zero")
		r := saveRun(t, store, answered(wait(t, store, clock, key, time.Hour), "me"))
		turn := Turn("goes on")
		turn.ID, turn.Epoch = r.ID, r.Epoch
		done := *r
		done.State = session.Done
		under := store
		if lost {
			under = &lateStore{Store: store, change: func() {}}
		}
		meta, err := session.Commit(t.Context(), under, load(t, store, key), turn, session.Conditions{Replace: r.ID, Run: &done})
		if err != nil || meta.Turns != 2 {
			t.Fatalf("lost response %t: number %d, %v", lost, meta.Turns, err)
		}
		last, _, err := load(t, store, key).Last()
		if err != nil || last.FinishReason != "STOP" || last.ID != r.ID || last.Epoch != r.Epoch {
			t.Errorf("lost response %t: the turn is %+v, %v", lost, last, err)
		}
		if got := loadRun(t, store, r); got.State != session.Done || got.Turn != 2 {
			t.Errorf("lost response %t: the record is %+v", lost, got)
		}
	}
	// A holder that was fenced replaces nothing.
	key := newKey()
	r := saveRun(t, store, answered(wait(t, store, clock, key, time.Hour), "me"))
	taken := *loadRun(t, store, r)
	taken.Epoch++
	saveRun(t, store, &taken)
	turn := Turn("fenced")
	turn.ID, turn.Epoch = r.ID, r.Epoch
	if _, err := session.Commit(t.Context(), store, load(t, store, key), turn, session.Conditions{Replace: r.ID, Run: r}); !errors.Is(err, session.ErrFenced) {
		t.Errorf("a fenced holder: %v", err)
	}
	if last, _, err := load(t, store, key).Last(); err != nil || last.FinishReason != "WAITING" {
		t.Errorf("after a fenced holder: %+v, %v", last, err)
	}
}

// runMissed: the turn that waited has left its place while its run went on. By their id, the
// turn that follows would be taken for stored, and the run would stay at work for ever; by id and
// epoch it is found only if it was.
func runMissed(t *testing.T, store session.Store, clock *Clock) {
	for name, leave := range map[string]func(session.Key){
		"it was replaced": func(key session.Key) { mustReplace(t, store, key, "other") },
		"it was archived": func(key session.Key) {
			for i := range 8 {
				add(t, store, key, large(i))
			}
		},
	} {
		for _, lost := range []bool{false, true} { // the write was made before, and got no answer
			key := newKey()
			add(t, store, key, "zero")
			r := saveRun(t, store, answered(wait(t, store, clock, key, time.Hour), "me"))
			base, turn := load(t, store, key), Turn("goes on")
			turn.ID, turn.Epoch = r.ID, r.Epoch
			done := *r
			done.State = session.Done
			under := store
			if lost {
				under = &lateStore{Store: store, change: func() { leave(key) }}
			} else {
				leave(key)
			}
			meta, err := session.Commit(t.Context(), under, base, turn, session.Conditions{Replace: r.ID, Run: &done})
			switch state := loadRun(t, store, r).State; {
			case lost && (err != nil || meta.Turns != 2 || state != session.Done):
				t.Errorf("%s after the commit: number %d, %v, and its run is %s", name, meta.Turns, err, state)
			case !lost && (!errors.Is(err, session.ErrReplaced) || state != session.Working):
				t.Errorf("%s before the commit: %v, and its run is %s", name, err, state)
			}
		}
	}
}

// runDenied: whoever asks something else has declined what waits. The turn and the denial are
// one write: a turn without it would leave an approval open that a later click still executes.
// A record that was answered or removed since is ErrChanged, and the turn is not stored.
func runDenied(t *testing.T, store session.Store, clock *Clock) {
	for _, test := range []struct {
		name    string
		between func(*session.Run)
		want    error
		state   session.RunState // "": the record is gone
	}{
		{"undisturbed", nil, nil, session.Stopped},
		{"it was approved", func(r *session.Run) { saveRun(t, store, answered(r, "me")) }, session.ErrChanged, session.Working},
		{"another turn came first", func(r *session.Run) { add(t, store, r.Key, "first") }, session.ErrChanged, session.Waiting},
	} {
		key := newKey()
		r := wait(t, store, clock, key, time.Hour)
		s := load(t, store, key)
		if test.between != nil {
			test.between(r)
		}
		before, turn := load(t, store, key).Turns, Turn("another")
		_, err := store.Apply(t.Context(), s, session.Change{Turn: &turn, Denied: denied(r)})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if got := loadRun(t, store, r).State; got != test.state {
			t.Errorf("%s: the record is %s, want %s", test.name, got, test.state)
		}
		if appended := load(t, store, key).Turns > before; appended != (test.want == nil) {
			t.Errorf("%s: appended %t", test.name, appended)
		}
	}
	// The record is gone, and the session is not.
	key := newKey()
	add(t, store, key, "zero")
	gone, turn := saveRun(t, store, newRun(newKey())), Turn("another")
	mustGo := *gone
	if err := store.DeleteAll(t.Context(), gone.Key.Owner); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Apply(t.Context(), load(t, store, key), session.Change{Turn: &turn, Denied: denied(&mustGo)}); !errors.Is(err, session.ErrChanged) {
		t.Errorf("a record that is gone: %v", err)
	}
	if n := load(t, store, key).Turns; n != 1 {
		t.Errorf("a record that is gone: %d turns", n)
	}
}

// runDeniedByCommit is the same through Commit, which looks again at what waits before each
// write: an approval that came first stands, and the turn follows it. A failed look is tried
// again, since a turn must not be stored on the assumption that nothing waits.
func runDeniedByCommit(t *testing.T, store session.Store, clock *Clock) {
	for _, test := range []struct {
		name     string
		between  func(*session.Run) // at the first look at what waits
		lost     bool               // the first write has no response
		state    session.RunState
		turns    int
		deniedBy int // looks
	}{
		{"undisturbed", nil, false, session.Stopped, 2, 1},
		{"its write has no response", nil, true, session.Stopped, 2, 1},
		{"it was approved", func(r *session.Run) { saveRun(t, store, answered(r, "me")) }, false, session.Working, 2, 2},
	} {
		key := newKey()
		r := wait(t, store, clock, key, time.Hour)
		under, looks := store, 0
		if test.lost {
			under = &lateStore{Store: store, change: func() {}}
		}
		deny := func(ctx context.Context, s *session.Session) (*session.Run, error) {
			looks++
			last, _, err := s.Last()
			if err != nil {
				return nil, err
			}
			found, err := store.LoadRun(ctx, key, last.ID)
			if err != nil || found.State != session.Waiting {
				return nil, err
			}
			if looks == 1 && test.between != nil {
				test.between(found)
			}
			return denied(found), nil
		}
		if _, err := session.Commit(t.Context(), under, load(t, store, key), Turn("another"), session.Conditions{Deny: deny}); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := loadRun(t, store, r).State; got != test.state || looks != test.deniedBy {
			t.Errorf("%s: the record is %s after %d looks, want %s after %d", test.name, got, looks, test.state, test.deniedBy)
		}
		if n := load(t, store, key).Turns; n != test.turns {
			t.Errorf("%s: %d turns, want %d", test.name, n, test.turns)
		}
	}
	// What waits cannot be read at first.
	key, tries := newKey(), 0
	r := wait(t, store, clock, key, time.Hour)
	deny := func(context.Context, *session.Session) (*session.Run, error) {
		if tries++; tries == 1 {
			return nil, fmt.Errorf("no answer: %w", session.ErrUnavailable)
		}
		return denied(r), nil
	}
	if _, err := session.Commit(t.Context(), store, load(t, store, key), Turn("another"), session.Conditions{Deny: deny}); err != nil || loadRun(t, store, r).State != session.Stopped {
		t.Errorf("after a failed look: %v, %d tries", err, tries)
	}
	// A turn that waits is stored, although its write got no answer and it was denied since.
	key = newKey()
	r = waitingRun(clock, key, time.Hour)
	late := &lateStore{Store: store, change: func() { saveRun(t, store, denied(loadRun(t, store, r))) }}
	if meta, err := session.Commit(t.Context(), late, session.New(key), waitingTurn(r), session.Conditions{Run: r}); err != nil || meta.Turns != 1 {
		t.Errorf("denied before it was heard of: turn %d, %v", meta.Turns, err)
	}
}

// runKeepsSession: an approval of 72 hours outlives a session of one. The session and its
// archived turns are kept until then and no longer. It catches a store that keeps the document
// and lets its archives expire.
func runKeepsSession(t *testing.T, store session.Store, clock *Clock) {
	key, large := newKey(), strings.Repeat("x", 100<<10)
	for i := range 9 { // more than a document holds
		add(t, store, key, fmt.Sprintf("%d %s", i, large))
	}
	r := wait(t, store, clock, key, 72*TTL)
	clock.Advance(71 * TTL)
	if n := load(t, store, key).Turns; n != 10 {
		t.Fatalf("%d turns", n)
	}
	loadRun(t, store, r)
	if got := queries(t, store, key); len(got) != 10 || !strings.HasPrefix(got[0], "0 ") {
		t.Errorf("%d turns can be read", len(got))
	}
	clock.Advance(2 * TTL)
	if _, err := store.Load(t.Context(), key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("after the approval's time: %v", err)
	}
}
