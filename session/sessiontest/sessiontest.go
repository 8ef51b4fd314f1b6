// Package sessiontest has the tests that every session.Store must pass: the promises
// of package session, as named cases.
//
// Cases call a store through [session.Commit], [session.Open] and their like, which are the
// same for every store, or write with Apply where the condition of one write is what they are
// about. So where one store passes a case and another fails, the fault is the other's: a
// condition that it does not check, a field that it does not restore, a document that outlives
// its time.
//
// Two kinds of trouble are made here and need no support of the store. A response is lost by a
// Store around the one under test, which does the write, or does not, and returns
// [session.ErrUnavailable]: all that a caller learns of a broken connection. Time passes only
// by a [Clock], so that a case can look at a session months later.
package sessiontest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"example.com/gatehouse/session"
)

// TTL is how long the stores under test keep a session.
const TTL = time.Hour

// A Clock is a clock that the test sets. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock at a fixed time.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}
}

// Now returns the time and advances the clock by a millisecond, so that no two turns
// have the same time.
//
// Stores order sessions by the time of their last turn. Two turns at one instant would be
// listed in an order that the tests could not predict.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

// Advance moves the clock forward by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Turn returns a turn whose question is query.
//
// It holds what a store is tempted to drop: a thought, which no client is shown, and a
// signature, without which Gemini refuses the call that it belongs to in the next prompt. Its 7
// tokens are what the cases count.
func Turn(query string) session.Turn {
	contents, _ := json.Marshal([]any{
		map[string]any{"role": "user", "parts": []any{map[string]any{"text": query}}},
		map[string]any{"role": "model", "parts": []any{
			map[string]any{"text": "thinking", "thought": true},
			map[string]any{"text": "answer to " + query, "thoughtSignature": "c2ln"},
		}},
	})
	return session.Turn{
		ID: session.NewID(), Contents: contents, Model: "test", FinishReason: "STOP", RequestID: "request",
		ToolCalls: []session.ToolCall{{Name: "tool", OK: true, DurationMS: 3}},
		Usage:     session.Usage{PromptTokens: 3, CompletionTokens: 4, TotalTokens: 7, Source: "model"},
		CreatedAt: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC),
	}
}

// Run tests the stores that open returns, each of them empty. They must use the given
// clock and keep sessions for [TTL].
func Run(t *testing.T, open func(t testing.TB, clock *Clock) session.Store) {
	cases := []struct {
		name string
		test func(t *testing.T, store session.Store, clock *Clock)
	}{
		{"a first turn makes the session", firstTurn},
		{"turns come back in order, byte for byte", order},
		{"an unknown session is not found", unknown},
		{"another owner's session is not found", isolation},
		{"a turn on an outdated session is refused", conditional},
		{"two first turns of one session: one makes it, one is refused", twoFirsts},
		{"writers on one session at once lose nothing", writers},
		{"a turn that is stored already is not stored again", storedAlready},
		{"a turn whose write got no answer is stored once", lostAnswer},
		{"a turn whose write got no response, while others change the session", lostResponseThenChange},
		{"a turn under a condition on the number of turns", afterTurn},
		{"a deleted session stays deleted for a turn that was running", deletedDuringTurn},
		{"a session is deleted once", deletion},
		{"all of an owner's sessions are deleted, nobody else's", deleteAll},
		{"an expired session is absent", expiry},
		{"a turn makes its session live on", renewal},
		{"sessions are listed page by page, the newest first", listing},
		{"a cursor of another store is refused", badCursor},
		{"turns are paged", paging},
		{"a context that has ended ends the call", cancelled},
		{"a session is renamed, and keeps the title", renaming},
		{"the last turn is replaced, and keeps its number", replacing},
		{"what was said of a turn goes with it", replacingFeedback},
		{"a turn is replaced only while it is the last", replacingLate},
		{"a replacement whose write got no answer is stored once", replacingLostAnswer},
		{"many replacements at once: one replaces", replacingRace},
		{"several turns are replaced by one, with their state and tokens", replacingSeveral},
		{"several turns are replaced only while they are the last", replacingSeveralLate},
		{"a first turn beside a claim that goes away is stored", claimReleased},
		{"feedback is kept with a turn of one's own", feedback},
		{"feedback that fills a session's document", feedbackFills},
		{"feedback on turns that have left the document", feedbackOnSmallTurns},
		{"a key: taken, in progress, and replayed once its turn is stored", keyLife},
		{"a key in a session and the same key for a new one are two", keyScopes},
		{"a key with another body is refused", keyMismatch},
		{"a key that was given back is free at once", keyReleased},
		{"a hold that has lapsed is taken over, and its turn is stored once", keyTakenOver},
		{"a key whose writes got no answers brings about one turn", keyLostAnswers},
		{"a claim without a turn is not a session", onlyClaimed},
		{"a deleted session of a key answers not found for a day", keyDeleted},
		{"a key can create another session after a day", keyReusedAfterADay},
		{"a key is remembered for a day where sessions are not", keyOutlivesSession},
		{"a key in the place of a deleted session begins another", keyAfterDeletion},
		{"a key whose turn was replaced does not answer with another's", keyOfReplacedTurn},
		{"a condition on the number of turns is judged after the replay", keyAfterTurn},
		{"many calls with one key at once: one turn", keyRace},
		{"a turn changes the session's state, and what replaces it begins before that", sessionState},
		{"turns at once that change the session's state", sessionStateRace},
		{"the record of a run grows, and comes back as it was written", runGrows},
		{"a record is written only while it is as it was read", runPrecondition},
		{"a turn and its run's record are written together or not at all", runWithTurn},
		{"the end of a run, and what may come between", runCommit},
		{"a key of a run with a record is held as long as that", runBegins},
		{"runs are listed page by page, the newest first", runList},
		{"the runs of a deleted session are gone", runDeleted},
		{"a session that has only the record of its first run is deleted once", runDeletedFirst},
		{"a record that comes after a deletion of all is nobody's", runLate},
		{"a record larger than a document", runLarge},
		{"whether the holder of a run lives", runLapses},
		{"what a run waits for, its answers and its effects come back as they were written", runWaits},
		{"of many answers at once, one is entered", runAnsweredOnce},
		{"a turn that waits is replaced by the same run's turn, once", runGoesOn},
		{"a turn that waited and has left its place is not its run's end", runMissed},
		{"what waits is denied with the turn that follows, or not at all", runDenied},
		{"a turn that follows one that waits denies it, with anything in between", runDeniedByCommit},
		{"a session lives as long as what waits in it", runKeepsSession},
		{"a session's state is bounded", sessionStateBound},
		{"a user's state: updates at once lose nothing", userState},
		{"a user's state whose write got no answer is written once", userStateLost},
		{"a user's state is deleted with all sessions, and stays deleted", userStateDeleted},
		{"a user's state is bounded", userStateBound},
		{"the store answers a ping", func(t *testing.T, s session.Store, _ *Clock) {
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			// A clock and a store for each case, so that one that advances by a year expires
			// nothing of another's.
			clock := NewClock()
			c.test(t, open(t, clock), clock)
		})
	}
	t.Run("any sequence of calls agrees with a plain map", func(t *testing.T) {
		// One store for all sequences, of which rapid makes a hundred by default, and more to
		// shorten one that fails: opening a store may be slow. Each sequence has owners that no
		// other has.
		clock := NewClock()
		store := open(t, clock)
		rapid.Check(t, func(rt *rapid.T) { model(rt, store) })
	})
}

func newKey() session.Key {
	return session.Key{Owner: session.OwnerOf("caller-"+session.NewID(), ""), ID: session.NewID()}
}

// begin returns the session that a request begins with: what is stored, or a new one.
func begin(t *testing.T, store session.Store, key session.Key) (*session.Session, error) {
	s, err := store.Load(t.Context(), key)
	if errors.Is(err, session.ErrNotFound) {
		return session.New(key), nil
	}
	return s, err
}

// add commits a turn, loading the session first as a request does.
func add(t *testing.T, store session.Store, key session.Key, query string) session.Meta {
	t.Helper()
	base, err := begin(t, store, key)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := session.Commit(t.Context(), store, base, Turn(query), session.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

// appendTurn appends a turn to s with a single write.
func appendTurn(t *testing.T, store session.Store, s *session.Session, query string) (*session.Session, error) {
	t.Helper()
	turn := Turn(query)
	return store.Apply(t.Context(), s, session.Change{Turn: &turn})
}

// queries returns a session's questions.
func queries(t *testing.T, store session.Store, key session.Key) []string {
	t.Helper()
	_, records, err := store.Turns(t.Context(), key, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, r := range records {
		turn, err := r.Turn()
		if err != nil {
			t.Fatal(err)
		}
		if turn.Number != i+1 {
			t.Errorf("turn at place %d has number %d", i+1, turn.Number)
		}
		query, _ := turn.Texts()
		out = append(out, query)
	}
	return out
}

// firstTurn: Commit returns the Meta that the next Load reads, which is what a client has been
// answered. It catches a store that sets times when it writes and not in what it returns, or
// that rounds them only in one of the two.
func firstTurn(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	meta := add(t, store, key, "  What is\nthis?  ")
	got, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(meta, got.Meta); diff != "" {
		t.Errorf("what Commit says differs from what Load says (-commit +load):\n%s", diff)
	}
	if meta.ID != key.ID || meta.Turns != 1 || meta.TotalTokens != 7 || meta.Title != "What is this?" {
		t.Errorf("meta = %+v", meta)
	}
	if !meta.ExpiresAt.Equal(meta.UpdatedAt.Add(TTL)) || !meta.CreatedAt.Equal(meta.UpdatedAt) {
		t.Errorf("times = %v, %v, %v", meta.CreatedAt, meta.UpdatedAt, meta.ExpiresAt)
	}
}

// order: a turn is read as it was written. It catches a store that decodes and encodes what it
// is to keep, which changes the bytes of the contents, and one that returns turns in a map's
// order.
func order(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	want := Turn("one")
	if _, err := session.Commit(t.Context(), store, session.New(key), want, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	add(t, store, key, "two")
	add(t, store, key, "three")
	s, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Recent[0].Turn()
	if err != nil {
		t.Fatal(err)
	}
	want.Number = 1
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the turn changed (-stored +read):\n%s", diff)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("turns = %q", got)
	}
}

// unknown: nothing under a key is ErrNotFound for what needs a session, and no error for what
// is about everything of an owner, so that a deletion can be repeated.
func unknown(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	_, err := store.Load(t.Context(), key)
	wantError(t, "Load", err, session.ErrNotFound)
	_, _, err = store.Turns(t.Context(), key, 0, 10)
	wantError(t, "Turns", err, session.ErrNotFound)
	wantError(t, "Delete", store.Delete(t.Context(), key), session.ErrNotFound)
	if err := store.DeleteAll(t.Context(), key.Owner); err != nil {
		t.Errorf("DeleteAll of nothing: %v", err)
	}
	list, next, err := store.List(t.Context(), key.Owner, 10, "")
	if err != nil || len(list) != 0 || next != "" {
		t.Errorf("List = %v, %q, %v", list, next, err)
	}
}

// isolation: the id of a session is of no use to another owner, neither to read nor to delete,
// and both may have a session of the same id. Owners are compared as a whole: the empty one and
// one that only begins like the right one find nothing. It catches a store that looks a session
// up by its id.
func isolation(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "mine")
	run := saveRun(t, store, newRun(key))
	for _, owner := range []session.Owner{"", session.OwnerOf("somebody", ""), session.OwnerOf("", "somebody"), key.Owner + "x"} {
		other := session.Key{Owner: owner, ID: key.ID}
		_, err := store.Load(t.Context(), other)
		wantError(t, "Load", err, session.ErrNotFound)
		_, _, err = store.Turns(t.Context(), other, 0, 10)
		wantError(t, "Turns", err, session.ErrNotFound)
		wantError(t, "Delete", store.Delete(t.Context(), other), session.ErrNotFound)
		if err := store.DeleteAll(t.Context(), owner); err != nil {
			t.Errorf("DeleteAll: %v", err)
		}
		if list, _, err := store.List(t.Context(), owner, 10, ""); err != nil || len(list) != 0 {
			t.Errorf("List = %v, %v", list, err)
		}
		add(t, store, other, "theirs") // same id, another owner
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("turns = %q", got)
	}
	loadRun(t, store, run)
}

// conditional: a write on an outdated snapshot is refused. It catches a store that compares the
// number of turns, or nothing, and writes over the turn that came first.
func conditional(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	s, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendTurn(t, store, s, "two"); err != nil {
		t.Fatal(err)
	}
	_, err = appendTurn(t, store, s, "two again")
	wantError(t, "Apply", err, session.ErrChanged)
}

// twoFirsts: absence is a condition, too. It catches a store that creates a session by an
// unconditional write.
func twoFirsts(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	if _, err := appendTurn(t, store, session.New(key), "one"); err != nil {
		t.Fatal(err)
	}
	_, err := appendTurn(t, store, session.New(key), "two")
	wantError(t, "Apply", err, session.ErrChanged)
}

// writers: every turn of writers at once is stored once, in the order of its writer, and Onto
// was called with the very session that the turn follows. It catches a store that reads and
// writes in two steps.
func writers(t *testing.T, store session.Store, clock *Clock) {
	const writers, each = 4, 5
	key := newKey()
	var group errgroup.Group
	for w := range writers {
		group.Go(func() error {
			for i := range each {
				base, err := begin(t, store, key)
				if err != nil {
					return err
				}
				var onto *session.Session
				meta, err := session.Commit(t.Context(), store, base, Turn(fmt.Sprintf("%d/%d", w, i)), session.Conditions{
					Onto: func(s *session.Session) { onto = s },
				})
				if err != nil {
					return err
				}
				if onto.Turns != meta.Turns-1 || onto.Turns > 0 && onto.Recent[len(onto.Recent)-1].Number != onto.Turns {
					t.Errorf("turn %d was appended to a session of %d turns", meta.Turns, onto.Turns)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	Interleaved(t, queries(t, store, key), writers, each)
}

// Interleaved checks that got holds each turn "w/i" of each writer w exactly once, and
// each writer's turns in order.
func Interleaved(t testing.TB, got []string, writers, each int) {
	t.Helper()
	next := make([]int, writers)
	for _, query := range got {
		var w, i int
		if _, err := fmt.Sscanf(query, "%d/%d", &w, &i); err != nil || w < 0 || w >= writers {
			t.Fatalf("a turn of nobody's: %q", query)
		}
		if i != next[w] {
			t.Errorf("writer %d: turn %d where %d was due", w, i, next[w])
		}
		next[w] = i + 1
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %d: %d turns of %d", w, n, each)
		}
	}
}

// storedAlready: a commit that is repeated from its beginning, with the same turn on the
// snapshot from before, returns the turn that is there, also after another one followed.
func storedAlready(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	turn := Turn("one")
	if _, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	add(t, store, key, "two")
	// Repeat the call, as after a lost response.
	meta, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{})
	if err != nil || meta.Turns != 1 {
		t.Errorf("Commit again = turn %d, %v; want turn 1", meta.Turns, err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("turns = %q", got)
	}
}

// lossyStore fails its first writes with ErrUnavailable, whether or not they happened.
type lossyStore struct {
	session.Store
	lose []bool // for each of the next writes: whether it happens
}

func (f *lossyStore) write(do func() error) error {
	if len(f.lose) == 0 {
		return do()
	}
	happens := f.lose[0]
	f.lose = f.lose[1:]
	if happens {
		if err := do(); err != nil {
			return err
		}
	}
	return fmt.Errorf("no answer: %w", session.ErrUnavailable)
}

func (f *lossyStore) Apply(ctx context.Context, s *session.Session, c session.Change) (after *session.Session, err error) {
	err = f.write(func() error {
		after, err = f.Store.Apply(ctx, s, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

func (f *lossyStore) ApplyUser(ctx context.Context, u *session.User, c session.UserChange) error {
	return f.write(func() error { return f.Store.ApplyUser(ctx, u, c) })
}

// lostAnswer: writes whose responses are lost, done or not in any order, leave one turn. Only
// reading the session again distinguishes the two. It catches a store whose Load does not see
// its own write at once.
func lostAnswer(t *testing.T, store session.Store, clock *Clock) {
	for _, lose := range [][]bool{{true}, {false}, {false, true}, {true, true}, {false, false, true}} {
		key := newKey()
		f := &lossyStore{Store: store, lose: slices.Clone(lose)}
		if meta, err := session.Commit(t.Context(), f, session.New(key), Turn("one"), session.Conditions{}); err != nil || meta.Turns != 1 {
			t.Errorf("%v: first turn = %d, %v", lose, meta.Turns, err)
		}
		f.lose = slices.Clone(lose)
		base, err := store.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if meta, err := session.Commit(t.Context(), f, base, Turn("two"), session.Conditions{}); err != nil || meta.Turns != 2 {
			t.Errorf("%v: second turn = %d, %v", lose, meta.Turns, err)
		}
		if got := queries(t, store, key); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("%v: turns = %q", lose, got)
		}
	}
}

// afterTurn: a condition on the number of turns holds for the session that is written to, not
// for the one that was loaded. It catches a commit that appends after the turn that came first,
// where the caller has asked not to.
func afterTurn(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	zero, one, two := 0, 1, 2
	if _, err := session.Commit(t.Context(), store, session.New(key), Turn("no"), session.Conditions{AfterTurn: &one}); !errors.Is(err, session.ErrTurnCount) {
		t.Errorf("after turn 1 of a new session: %v", err)
	}
	if _, err := session.Commit(t.Context(), store, session.New(key), Turn("one"), session.Conditions{AfterTurn: &zero}); err != nil {
		t.Fatal(err)
	}
	stale, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	add(t, store, key, "two")
	_, err = session.Commit(t.Context(), store, stale, Turn("too late"), session.Conditions{AfterTurn: &one})
	wantError(t, "Commit after turn 1", err, session.ErrTurnCount)
	fresh, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), store, fresh, Turn("three"), session.Conditions{AfterTurn: &two}); err != nil {
		t.Errorf("Commit after turn 2: %v", err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("turns = %q", got)
	}
}

// deletedDuringTurn: a turn that was running when its session was deleted never brings the
// session back, whether it would be the first one or a later one, and is not appended to a
// session that began in its place. It catches a store that deletes without leaving a tombstone,
// and one that takes a tombstone for absence.
func deletedDuringTurn(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	base, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, err = session.Commit(t.Context(), store, base, Turn("two"), session.Conditions{})
	wantError(t, "Commit", err, session.ErrNotFound)
	wantAbsent(t, store, key)
	// A first turn that started before the deletion does not recreate it either.
	_, err = session.Commit(t.Context(), store, session.New(key), Turn("another one"), session.Conditions{})
	wantError(t, "a first turn's Commit", err, session.ErrNotFound)
	wantAbsent(t, store, key)
	// One that starts afterwards starts a new session.
	mark, err := store.Load(t.Context(), key)
	if err != nil || !mark.Reusable() {
		t.Fatalf("what is left is %+v, %v", mark, err)
	}
	if meta, err := session.Commit(t.Context(), store, mark, Turn("new"), session.Conditions{}); err != nil || meta.Turns != 1 || meta.Title != "new" {
		t.Errorf("a session in its place: %+v, %v", meta, err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"new"}) {
		t.Errorf("turns = %q", got)
	}
	if list, _, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 1 || list[0].ID != key.ID || list[0].Turns != 1 {
		t.Errorf("List = %+v, %v", list, err)
	}
	// A turn that is still running finds another session than its own, and is not
	// appended to it.
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, err = session.Commit(t.Context(), store, mark, Turn("too late"), session.Conditions{})
	wantError(t, "Commit after the second deletion", err, session.ErrNotFound)
	wantAbsent(t, store, key)
}

// wantAbsent checks that a session is not visible in any way.
func wantAbsent(t *testing.T, store session.Store, key session.Key) {
	t.Helper()
	if s, err := store.Load(t.Context(), key); err == nil && (s.Exists() || !s.Deleted || len(s.Recent) > 0 || s.Title != "") || err != nil && !errors.Is(err, session.ErrNotFound) {
		t.Errorf("what is left is %+v, %v", s, err)
	}
	_, _, err := store.Turns(t.Context(), key, 0, 10)
	wantError(t, "Turns", err, session.ErrNotFound)
	wantError(t, "Delete", store.Delete(t.Context(), key), session.ErrNotFound)
	wantError(t, "SetFeedback", store.SetFeedback(t.Context(), key, 1, session.Feedback{Score: 1}), session.ErrNotFound)
	if list, _, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
}

// deletion: of two deletions one succeeds, and the list has the session no more at once, not
// when an index has caught up.
func deletion(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Delete again", store.Delete(t.Context(), key), session.ErrNotFound)
	if list, _, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
}

// deleteAll: more sessions than one, and nothing of another owner's. What it does to records of
// runs and to users' state is the matter of other cases.
func deleteAll(t *testing.T, store session.Store, clock *Clock) {
	mine, theirs := newKey(), newKey()
	for range 5 {
		add(t, store, session.Key{Owner: mine.Owner, ID: session.NewID()}, "mine")
	}
	add(t, store, theirs, "theirs")
	if err := store.DeleteAll(t.Context(), mine.Owner); err != nil {
		t.Fatal(err)
	}
	if list, _, err := store.List(t.Context(), mine.Owner, 10, ""); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
	if list, _, err := store.List(t.Context(), theirs.Owner, 10, ""); err != nil || len(list) != 1 {
		t.Errorf("List of somebody else = %v, %v", list, err)
	}
	// What is left of a session is not left any longer by deleting everything again.
	gone := newKey()
	add(t, store, gone, "gone")
	for range 2 {
		if err := store.DeleteAll(t.Context(), gone.Owner); err != nil {
			t.Fatal(err)
		}
		clock.Advance(session.KeyLife / 2)
	}
	_, err := store.Load(t.Context(), gone)
	wantError(t, "Load after the life of a key", err, session.ErrNotFound)
}

// expiry: what has expired is absent from that instant on for Load, Turns, Delete and List,
// though it may lie in the store for a day until it is collected; in its place a session begins
// with turn 1 and none of the old turns.
func expiry(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "old")
	clock.Advance(TTL)
	_, err := store.Load(t.Context(), key)
	wantError(t, "Load", err, session.ErrNotFound)
	_, _, err = store.Turns(t.Context(), key, 0, 10)
	wantError(t, "Turns", err, session.ErrNotFound)
	wantError(t, "Delete", store.Delete(t.Context(), key), session.ErrNotFound)
	if list, next, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 0 || next != "" {
		t.Errorf("List = %v, %q, %v", list, next, err)
	}
	if meta := add(t, store, key, "new"); meta.Turns != 1 {
		t.Errorf("a session in the place of an expired one has turn %d", meta.Turns)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"new"}) {
		t.Errorf("turns = %q", got)
	}
}

// renewal: the time to live counts from the last turn. It catches a store that sets the expiry
// when it creates a session.
func renewal(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	for i := range 4 {
		if meta := add(t, store, key, "again"); meta.Turns != i+1 {
			t.Fatalf("turn %d, want %d", meta.Turns, i+1)
		}
		clock.Advance(TTL * 3 / 4)
	}
}

// listing: pages of any length join to the same list, newest turn first, without a gap or a
// session twice, and only a full page has a cursor.
func listing(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	var want []string
	for i := range 7 {
		key := session.Key{Owner: owner, ID: session.NewID()}
		add(t, store, key, fmt.Sprint(i))
		want = append([]string{key.ID}, want...)
	}
	last := want[6] // its second turn makes the oldest the newest
	add(t, store, session.Key{Owner: owner, ID: last}, "again")
	want = append([]string{last}, want[:6]...)
	for _, limit := range []int{1, 2, 3, 7, 20} {
		var got []string
		cursor, pages := "", 0
		for {
			list, next, err := store.List(t.Context(), owner, limit, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range list {
				got = append(got, m.ID)
			}
			if pages++; next == "" {
				break
			}
			if len(list) != limit || pages > 10 {
				t.Fatalf("limit %d: page %d has %d sessions and a next", limit, pages, len(list))
			}
			cursor = next
		}
		if diff := cmp.Diff(want, got); diff != "" || pages != (len(want)+limit-1)/limit {
			t.Errorf("limit %d, %d pages (-want +got):\n%s", limit, pages, diff)
		}
	}
}

// badCursor: a cursor comes from a client, so it may hold anything. Each of these is ErrCursor,
// which is answered with 422. It catches a store that hands a cursor to its database: a refusal
// there looks like an outage, which would count against the service's health.
func badCursor(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	add(t, store, session.Key{Owner: key.Owner, ID: session.NewID()}, "two")
	_, next, err := store.List(t.Context(), key.Owner, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	for _, cursor := range []string{next + "!", text([]byte("x." + key.ID)), text([]byte("1" + key.ID)), text([]byte("1.short")), "x", "..", "a.b", "%00", "9999999999999999999999.x", strings.Repeat("z", 10_000), "💥", "1/2", "1.a/b",
		// A time out of range, invalid UTF-8, reserved names, and names that nobody
		// has.
		"1y2p0ij32e8e7." + strings.Repeat("a", 43), "1." + strings.Repeat("\xff", 43), "1." + strings.Repeat("\x00", 43),
		"1.__" + strings.Repeat("a", 39) + "__", "1.." + strings.Repeat("a", 42), "1." + strings.Repeat("a", 43), "-1." + strings.Repeat("A", 43),
		"+1." + strings.Repeat("A", 43), "01." + strings.Repeat("A", 43), "1." + strings.Repeat("A", 44), "-zzzzzzzzzzzz." + strings.Repeat("A", 43), "MS4\n", "MQ==", "\xff\xfe",
	} {
		_, _, err := store.List(t.Context(), key.Owner, 10, cursor)
		wantError(t, fmt.Sprintf("List after %.20q", cursor), err, session.ErrCursor)
	}
}

// paging: after and limit beyond both ends return what there is, without an error, and the Meta
// is that of the whole session.
func paging(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	for i := range 5 {
		add(t, store, key, fmt.Sprint(i+1))
	}
	for _, c := range []struct {
		after, limit int
		want         []int
	}{
		{0, 2, []int{1, 2}}, {2, 2, []int{3, 4}}, {4, 2, []int{5}}, {5, 2, nil}, {99, 2, nil}, {-1, 1, []int{1}}, {0, 0, nil}, {2, -1, nil},
	} {
		meta, records, err := store.Turns(t.Context(), key, c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range records {
			got = append(got, r.Number)
		}
		if !slices.Equal(got, c.want) || meta.Turns != 5 {
			t.Errorf("Turns(after %d, limit %d) = %v of %d, want %v of 5", c.after, c.limit, got, meta.Turns, c.want)
		}
	}
}

// cancelled: a context that has ended fails the call before it changes anything. Memory must
// check too, since a handler relies on it whichever store it has.
func cancelled(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	base, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Load(ctx, key); err == nil {
		t.Error("Load went on")
	}
	if _, err := session.Commit(ctx, store, base, Turn("two"), session.Conditions{}); err == nil {
		t.Error("Commit went on")
	}
	if err := store.Delete(ctx, key); err == nil {
		t.Error("Delete went on")
	}
	run := saveRun(t, store, newRun(key))
	user, err := store.LoadUser(t.Context(), key.Owner)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"List":        func() error { _, _, err := store.List(ctx, key.Owner, 10, ""); return err },
		"Turns":       func() error { _, _, err := store.Turns(ctx, key, 0, 10); return err },
		"SetFeedback": func() error { return store.SetFeedback(ctx, key, 1, session.Feedback{Score: 1}) },
		"DeleteAll":   func() error { return store.DeleteAll(ctx, key.Owner) },
		"LoadUser":    func() error { _, err := store.LoadUser(ctx, key.Owner); return err },
		"ApplyUser": func() error {
			return store.ApplyUser(ctx, user, session.UserChange{ID: "w", Name: "n", Value: json.RawMessage("1")})
		},
		"LoadRun":  func() error { _, err := store.LoadRun(ctx, key, run.ID); return err },
		"SaveRun":  func() error { _, err := store.SaveRun(ctx, run); return err },
		"ListRuns": func() error { _, _, err := store.ListRuns(ctx, key.Owner, session.RunFilter{}, 10, ""); return err },
		"Ping":     func() error { return store.Ping(ctx) },
	} {
		if err := call(); err == nil {
			t.Errorf("%s went on", name)
		}
	}
	if again, err := store.LoadUser(t.Context(), key.Owner); err != nil || len(again.Values) != 0 {
		t.Errorf("a user's state: %+v, %v", again, err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one"}) {
		t.Errorf("turns = %q", got)
	}
}

// model makes random calls to the store and to a map, and compares the results.
func model(rt *rapid.T, store session.Store) {
	ctx := context.Background()
	owners := []session.Owner{session.OwnerOf(session.NewID(), ""), session.OwnerOf(session.NewID(), "")}
	ids := []string{session.NewID(), session.NewID(), session.NewID()}
	want := map[session.Key][]string{}
	loaded := map[session.Key]*session.Session{}
	deletions, seen := map[session.Key]int{}, map[session.Key]int{} // total, and when the session was loaded
	key := func() session.Key {
		return session.Key{Owner: rapid.SampledFrom(owners).Draw(rt, "owner"), ID: rapid.SampledFrom(ids).Draw(rt, "id")}
	}
	rt.Repeat(map[string]func(*rapid.T){
		"load": func(rt *rapid.T) {
			k := key()
			s, err := store.Load(ctx, k)
			if exists := len(want[k]) > 0; exists != (err == nil && s.Exists()) {
				rt.Fatalf("Load: %+v, %v, exists: %v", s, err, exists)
			}
			loaded[k], seen[k] = s, deletions[k]
		},
		"commit": func(rt *rapid.T) {
			k := key()
			base := loaded[k] // possibly outdated, or new
			if base == nil {
				base = session.New(k)
			}
			query := session.NewID()
			_, err := session.Commit(ctx, store, base, Turn(query), session.Conditions{})
			// gone: the session was deleted after the snapshot. A first turn is refused then,
			// too, while the tombstone is there. Once another session is in its place, that
			// turn cannot be distinguished from one that began after the deletion, and is
			// appended.
			switch gone := deletions[k] > seen[k] && (base.Exists() || len(want[k]) == 0); {
			case gone && !errors.Is(err, session.ErrNotFound):
				rt.Fatalf("Commit on a deleted session: %v", err)
			case !gone && err != nil:
				rt.Fatalf("Commit: %v", err)
			case !gone:
				want[k] = append(want[k], query)
			}
		},
		"replace": func(rt *rapid.T) {
			k := key()
			base := loaded[k]
			if base == nil || len(base.Recent) == 0 || len(want[k]) == 0 {
				return
			}
			last, _, err := base.Last()
			if err != nil {
				rt.Fatal(err)
			}
			query := session.NewID()
			_, err = session.Commit(ctx, store, base, Turn(query), session.Conditions{Replace: last.ID})
			asked, _ := last.Texts()
			if deletions[k] > seen[k] {
				if !errors.Is(err, session.ErrNotFound) {
					rt.Fatalf("Commit in the place of a turn of a deleted session: %v", err)
				}
				return
			}
			if is := want[k][len(want[k])-1] == asked; is != (err == nil) || !is && !errors.Is(err, session.ErrReplaced) {
				rt.Fatalf("Commit in the place of a turn: %v, which is the last: %v", err, is)
			} else if is {
				want[k][len(want[k])-1] = query
			}
		},
		"delete": func(rt *rapid.T) {
			k := key()
			err := store.Delete(ctx, k)
			if exists := len(want[k]) > 0; exists != (err == nil) {
				rt.Fatalf("Delete: %v, exists: %v", err, exists)
			}
			if err == nil {
				deletions[k]++
			}
			delete(want, k)
		},
		"": func(rt *rapid.T) {
			for _, owner := range owners {
				// rapid runs this after each step: every session of the map is listed with its
				// number of turns, and no other. A session that a deletion or a replacement has
				// left in part shows here first.
				list, _, err := store.List(ctx, owner, 100, "")
				if err != nil {
					rt.Fatal(err)
				}
				n := 0
				for k, turns := range want {
					if k.Owner != owner {
						continue
					}
					n++
					i := slices.IndexFunc(list, func(m session.Meta) bool { return m.ID == k.ID })
					if i < 0 || list[i].Turns != len(turns) {
						rt.Fatalf("session %v is not listed with its %d turns: %v", k, len(turns), list)
					}
				}
				if n != len(list) {
					rt.Fatalf("%d sessions listed, %d exist", len(list), n)
				}
			}
		},
	})
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}
