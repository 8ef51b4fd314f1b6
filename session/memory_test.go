package session_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestMemory(t *testing.T) {
	sessiontest.Run(t, func(t testing.TB, clock *sessiontest.Clock) session.Store {
		return session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	})
}

func TestMemoryIsBounded(t *testing.T) {
	var log bytes.Buffer
	const limit = 100_000
	store := session.NewMemory(sessiontest.TTL, limit, sessiontest.NewClock().Now, telemetry.NewLogger(&log, nil, telemetry.Source{}))
	owner := session.OwnerOf("caller", "")
	var keys []session.Key
	for range 200 {
		key := session.Key{Owner: owner, ID: session.NewID()}
		keys = append(keys, key)
		if _, err := session.Commit(t.Context(), store, session.New(key), sessiontest.Turn(strings.Repeat("x", 1000)), session.Conditions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Load(t.Context(), keys[0]); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the session used least recently is still there: %v", err)
	}
	last, err := store.Load(t.Context(), keys[199])
	if err != nil {
		t.Fatalf("the session used last is gone: %v", err)
	}
	each := 512 + len(last.Recent[0].Data)
	if kept, _, err := store.List(t.Context(), owner, 200, ""); err != nil || len(kept) != limit/each {
		t.Errorf("%d sessions of %d bytes are kept in %d, %v", len(kept), each, limit, err)
	}
	huge := sessiontest.Turn(strings.Repeat("x", limit))
	if _, err := store.Apply(t.Context(), last, session.Change{Turn: &huge}); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("a turn as large as the store: %v", err)
	}
	if n := strings.Count(log.String(), `"severity":"WARNING"`); n != 2 {
		t.Errorf("the log has %d warnings, want one at the start and one at the first eviction:\n%s", n, &log)
	}
}

func TestOwnersAreDistinct(t *testing.T) {
	pairs := [][2]string{{"a", ""}, {"", "a"}, {"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"a\x00", "b"}, {"a", "\x00b"}}
	seen := map[session.Owner][2]string{}
	for _, p := range pairs {
		owner := session.OwnerOf(p[0], p[1])
		if other, ok := seen[owner]; ok {
			t.Errorf("%q and %q are one owner", p, other)
		}
		seen[owner] = p
	}
}

// A turn that the store refuses leaves what was said of the one that it was to replace.
func TestMemoryRefusesAReplacement(t *testing.T) {
	t.Parallel()
	const limit = 20_000
	store := session.NewMemory(sessiontest.TTL, limit, sessiontest.NewClock().Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	turn := sessiontest.Turn("q")
	if _, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	if err := store.SetFeedback(t.Context(), key, 1, session.Feedback{Score: 1}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	huge := sessiontest.Turn(strings.Repeat("x", limit))
	if _, err := session.Commit(t.Context(), store, s, huge, session.Conditions{Replace: turn.ID}); !errors.Is(err, session.ErrTooLarge) {
		t.Fatalf("a turn as large as the store: %v", err)
	}
	if _, records, err := store.Turns(t.Context(), key, 0, 10); err != nil || len(records) != 1 || records[0].Feedback == nil {
		t.Errorf("%d turns, or no opinion on the first: %v", len(records), err)
	}
}

// What a caller appends to the turns that it has loaded is no turn of the session.
func TestMemorySnapshotsAreApart(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, sessiontest.NewClock().Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	s := session.New(key)
	for n := 1; n <= 5; n++ { // an array of turns that grows has room for more
		turn := sessiontest.Turn("q")
		meta, err := session.Commit(t.Context(), store, s, turn, session.Conditions{})
		if err != nil || meta.Turns != n {
			t.Fatalf("turn %d: number %d, %v", n, meta.Turns, err)
		}
		_ = append(s.Recent, session.Record{Number: n})
		if s, err = store.Load(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if id, err := s.Recent[n-1].ID(); err != nil || id != turn.ID {
			t.Errorf("turn %d is %q, %v", n, id, err)
		}
	}
}
