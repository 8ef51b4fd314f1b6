package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

// lateStore loses the response of its first write, which happens, and runs other calls
// on the session before the caller sees the error.
type lateStore struct {
	session.Store
	change func()
}

func (s *lateStore) Apply(ctx context.Context, base *session.Session, c session.Change) (*session.Session, error) {
	after, err := s.Store.Apply(ctx, base, c)
	if s.change == nil || err != nil {
		return after, err
	}
	s.change()
	s.change = nil
	return nil, fmt.Errorf("no answer: %w", session.ErrUnavailable)
}

// large returns a question of 75 KiB: a store's document holds only a few of them.
func large(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 75<<10)) }

// lostResponseThenChange: a commit whose response was lost finds its turn after others
// have changed the session.
//
// Each case is one way in which the turn has left the place where it would be looked for:
// archived, replaced, or gone with its session. Commit must find it by its id, or find that it
// is gone; a second copy of it, or a session that is back after its deletion, is the fault. The
// record of a large turn holds the question twice, since the answer repeats it: five of them
// pass the 700 KiB from which on the Firestore store archives.
func lostResponseThenChange(t *testing.T, store session.Store, clock *Clock) {
	cases := []struct {
		name    string
		before  []string // the session's turns before the commit
		replace bool     // the commit replaces the last turn
		edited  string   // replaces all turns between the load and the commit
		change  func(t *testing.T, key session.Key)
		want    []string // turns afterwards; nil: no session
		number  int
		err     error
	}{
		{
			name: "a new session was deleted", number: 0, err: session.ErrNotFound,
			change: func(t *testing.T, key session.Key) { mustDelete(t, store, key) },
		},
		{
			name: "a session was deleted", before: []string{"a", "b"}, err: session.ErrNotFound,
			change: func(t *testing.T, key session.Key) { mustDelete(t, store, key) },
		},
		{
			name: "all sessions were deleted", before: []string{"a"}, err: session.ErrNotFound,
			change: func(t *testing.T, key session.Key) {
				if err := store.DeleteAll(t.Context(), key.Owner); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "a session was deleted, and another is in its place", before: []string{"a"}, want: []string{"new"}, err: session.ErrNotFound,
			change: func(t *testing.T, key session.Key) {
				mustDelete(t, store, key)
				add(t, store, key, "new")
			},
		},
		{
			name: "the first turn was archived", number: 1,
			change: func(t *testing.T, key session.Key) {
				for i := range 12 {
					add(t, store, key, large(i))
				}
			},
			want: []string{"lost", large(0), large(1), large(2), large(3), large(4), large(5), large(6), large(7), large(8), large(9), large(10), large(11)},
		},
		{
			name: "a turn was archived", before: []string{"a"}, number: 2,
			change: func(t *testing.T, key session.Key) {
				for i := range 6 {
					add(t, store, key, large(i))
				}
			},
			want: []string{"a", "lost", large(0), large(1), large(2), large(3), large(4), large(5)},
		},
		{
			name: "a turn was replaced", before: []string{"a"}, number: 2, want: []string{"a", "other"},
			change: func(t *testing.T, key session.Key) { mustReplace(t, store, key, "other") },
		},
		{
			name: "the first turn was replaced", number: 1, want: []string{"other"},
			change: func(t *testing.T, key session.Key) { mustReplace(t, store, key, "other") },
		},
		{
			name: "a turn was replaced, and what replaced it, and went on", before: []string{"a"}, number: 2, want: []string{"a", "third", "next"},
			change: func(t *testing.T, key session.Key) {
				mustReplace(t, store, key, "second")
				mustReplace(t, store, key, "third")
				add(t, store, key, "next")
			},
		},
		{
			name: "an edit came first", before: []string{"a", "b", "c"}, edited: "other", number: 2, want: []string{"other", "lost"},
			change: func(*testing.T, session.Key) {},
		},
		{
			name: "a replacement was replaced", before: []string{"a", "b"}, replace: true, number: 2, want: []string{"a", "other"},
			change: func(t *testing.T, key session.Key) { mustReplace(t, store, key, "other") },
		},
		{
			name: "a replacement was archived", before: []string{"a"}, replace: true, number: 1,
			change: func(t *testing.T, key session.Key) {
				for i := range 6 {
					add(t, store, key, large(i))
				}
			},
			want: []string{"lost", large(0), large(1), large(2), large(3), large(4), large(5)},
		},
		{
			name: "a replacement went on, and the session was deleted", before: []string{"a"}, replace: true, err: session.ErrNotFound,
			change: func(t *testing.T, key session.Key) {
				add(t, store, key, "next")
				mustDelete(t, store, key)
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			key := newKey()
			base := session.New(key)
			for _, query := range c.before {
				add(t, store, key, query)
			}
			conditions := session.Conditions{}
			if len(c.before) > 0 {
				base = load(t, store, key)
			}
			if c.replace {
				last, _, err := base.Last()
				if err != nil {
					t.Fatal(err)
				}
				conditions.Replace = last.ID
			}
			if c.edited != "" {
				if _, err := replaceFrom(t, store, base, 1, Turn(c.edited), nil); err != nil {
					t.Fatal(err)
				}
			}
			s := &lateStore{Store: store, change: func() { c.change(t, key) }}
			meta, err := session.Commit(t.Context(), s, base, Turn("lost"), conditions)
			if !errors.Is(err, c.err) || meta.Turns != c.number {
				t.Errorf("Commit = turn %d, %v; want %d, %v", meta.Turns, err, c.number, c.err)
			}
			if c.want == nil {
				wantAbsent(t, store, key)
			} else if got := queries(t, store, key); !slices.Equal(got, c.want) {
				t.Errorf("%d turns, want %d: %.200q", len(got), len(c.want), got)
			}
		})
	}
}

func mustDelete(t *testing.T, store session.Store, key session.Key) {
	t.Helper()
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func mustReplace(t *testing.T, store session.Store, key session.Key, query string) {
	t.Helper()
	if _, err := replace(t, store, load(t, store, key), Turn(query)); err != nil {
		t.Fatal(err)
	}
}

// keyOutlivesSession: a key is valid for a day even if sessions are kept for less.
//
// So a session with keys lives as long as they do where that is longer than its time to live.
// It catches a store that computes the expiry by itself, from the last turn only.
func keyOutlivesSession(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	existing := session.NewID()
	add(t, store, session.Key{Owner: owner, ID: existing}, "before")
	for _, id := range []string{"", existing} {
		want := mustCommit(t, store, mustOpen(t, store, clock, owner, id, "key", "body"), "question")
		// A turn without a key does not shorten the key's life.
		add(t, store, session.Key{Owner: owner, ID: want.ID}, "later")
		for range 5 {
			clock.Advance(TTL * 4) // 20 hours in total
			again := mustOpen(t, store, clock, owner, id, "key", "body")
			if again.Session.ID != want.ID || replayed(t, again) != "question" || again.Replay.Number != want.Turns {
				t.Fatalf("a retry got %+v", again)
			}
		}
		clock.Advance(session.KeyLife - 20*TTL + time.Minute)
		if id == "" {
			if again := mustOpen(t, store, clock, owner, id, "key", "body"); again.Replay != nil || again.Session.ID == want.ID && again.Session.Turns > 0 {
				t.Errorf("after a day a retry got %+v", again)
			}
		} else if _, err := open(t, store, clock, owner, id, "key", "body"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("after a day a retry got %v", err)
		}
		add(t, store, session.Key{Owner: owner, ID: existing}, "before") // for the next iteration
	}
}

// keyAfterDeletion: a key claimed where a session was deleted starts a new session,
// and turns of the old one stay out of it.
//
// The claim takes the tombstone's place before there is a turn: what is stored must still
// refuse the old session's turn, and is not listed until the new one has a turn.
func keyAfterDeletion(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "old")
	running := load(t, store, key)
	mustDelete(t, store, key)
	create := idem("key", "body")
	_, err := session.Open(t.Context(), store, key.Owner, key.ID, create, nil, clock.Now)
	wantError(t, "a key in a deleted session", err, session.ErrNotFound)
	create.Create = true
	o, err := session.Open(t.Context(), store, key.Owner, key.ID, create, nil, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = session.Commit(t.Context(), store, running, Turn("too late"), session.Conditions{})
	wantError(t, "a turn that ran during the deletion", err, session.ErrNotFound)
	if list, _, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
	if meta := mustCommit(t, store, o, "new"); meta.Turns != 1 || meta.Title != "new" {
		t.Errorf("it became %+v", meta)
	}
	if got := replayed(t, mustOpen(t, store, clock, key.Owner, key.ID, "key", "body")); got != "new" {
		t.Errorf("a retry got %q", got)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"new"}) {
		t.Errorf("turns = %q", got)
	}
	if list, _, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 1 || list[0].ID != key.ID {
		t.Errorf("List = %+v, %v", list, err)
	}
}

// keyOfReplacedTurn: the turn that replaced a key's turn is not that key's answer.
//
// The number of a turn passes to what replaces it, so an entry that has only the number would
// replay the wrong answer. The same must hold after both have moved to the archive.
func keyOfReplacedTurn(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	for _, archived := range []bool{false, true} {
		began := mustCommit(t, store, mustOpen(t, store, clock, owner, "", fmt.Sprint("begin", archived), "body"), "one")
		key := session.Key{Owner: owner, ID: began.ID}
		mustCommit(t, store, mustOpen(t, store, clock, owner, key.ID, "a", "body"), "A")
		again := mustOpen(t, store, clock, owner, key.ID, "b", "again")
		last, _, err := again.Session.Last()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Commit(t.Context(), store, again.Session, Turn("B"), session.Conditions{Claim: again.Claim, Replace: last.ID}); err != nil {
			t.Fatal(err)
		}
		if archived {
			for i := range 8 {
				add(t, store, key, large(i))
			}
		}
		_, err = open(t, store, clock, owner, key.ID, "a", "body")
		wantError(t, "a retry of the key whose turn was replaced", err, session.ErrReplaced)
		if got := replayed(t, mustOpen(t, store, clock, owner, key.ID, "b", "again")); got != "B" {
			t.Errorf("a retry of the key that replaced it got %q", got)
		}
		if got := replayed(t, mustOpen(t, store, clock, owner, "", fmt.Sprint("begin", archived), "body")); got != "one" {
			t.Errorf("a retry of the key that began the session got %q", got)
		}
	}
}

// feedbackFills: a long session with feedback of the maximum size on every turn can go
// on.
//
// 124 comments of 2 000 characters of 4 bytes are 992 KB, which with their turns pass
// Firestore's limit for a document of 1 MiB: a store that does not count feedback when it
// decides what to archive refuses every later turn.
func feedbackFills(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	comment := strings.Repeat("😀", 2000)
	const turns = 124
	for i := range turns {
		add(t, store, key, fmt.Sprint(i))
		if err := store.SetFeedback(t.Context(), key, i+1, session.Feedback{Score: 1, Comment: comment, At: clock.Now()}); err != nil {
			t.Fatalf("turn %d: %v", i+1, err)
		}
	}
	for i := range turns { // archived turns too
		if err := store.SetFeedback(t.Context(), key, i+1, session.Feedback{Score: -1, Comment: comment, At: clock.Now()}); err != nil {
			t.Fatalf("turn %d, once more: %v", i+1, err)
		}
	}
	for i := range 5 {
		add(t, store, key, large(i))
	}
	mustReplace(t, store, key, "the last")
	if meta := add(t, store, key, "after"); meta.Turns != turns+6 {
		t.Errorf("the session has %d turns", meta.Turns)
	}
	got := queries(t, store, key)
	if len(got) != turns+6 || got[0] != "0" || got[turns-1] != fmt.Sprint(turns-1) || got[turns+4] != "the last" {
		t.Errorf("%d turns: %.300q", len(got), got)
	}
}

// feedbackOnSmallTurns: a session of small turns, each of which gets feedback only
// after most turns have been archived.
//
// Here the archives are what fills up: a document that was filled to its limit with turns has
// no room for the opinions on them.
func feedbackOnSmallTurns(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	const turns = 180
	for i := range turns {
		add(t, store, key, fmt.Sprint(i, strings.Repeat("y", 2000)))
	}
	comment := strings.Repeat("😀", 2000)
	for i := range turns {
		if err := store.SetFeedback(t.Context(), key, i+1, session.Feedback{Score: 1, Comment: comment, At: clock.Now()}); err != nil {
			t.Fatalf("turn %d: %v", i+1, err)
		}
	}
	if got := queries(t, store, key); len(got) != turns {
		t.Errorf("%d turns, want %d", len(got), turns)
	}
	if meta := add(t, store, key, "after"); meta.Turns != turns+1 {
		t.Errorf("the session has %d turns", meta.Turns)
	}
}
