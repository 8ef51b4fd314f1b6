package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// A countingStore counts reads and writes of sessions.
type countingStore struct {
	session.Store
	reads, writes int
}

func (s *countingStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	s.reads++
	return s.Store.Load(ctx, key)
}

func (s *countingStore) Apply(ctx context.Context, base *session.Session, c session.Change) (*session.Session, error) {
	s.writes++
	return s.Store.Apply(ctx, base, c)
}

// A session that is asked with thousands of keys in a day knows each of them for a day.
func TestEveryKeyIsKnownForADay(t *testing.T) {
	t.Parallel()
	const calls = 2500
	clock := sessiontest.NewClock()
	store := &countingStore{Store: session.NewMemory(720*time.Hour, session.MemoryLimit, clock.Now, telemetry.Discard())}
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	if _, err := session.Commit(t.Context(), store, session.New(key), sessiontest.Turn("first"), session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	open := func(n int, body string) (*session.Opened, error) {
		idem := session.Idempotency{Key: fmt.Sprint("key ", n), Body: body, Lease: 35 * time.Second}
		return session.Open(t.Context(), store, key.Owner, key.ID, idem, nil, clock.Now)
	}
	ask := func(n int) {
		t.Helper()
		o, err := open(n, "body")
		if err != nil || o.Claim == nil {
			t.Fatalf("call %d: %+v, %v", n, o, err)
		}
		if n%7 == 0 { // it fails, and its retry succeeds
			if err := session.Release(t.Context(), store, o.Session, o.Claim); err != nil {
				t.Fatal(err)
			}
			if o, err = open(n, "body"); err != nil || o.Claim == nil {
				t.Fatalf("the retry of call %d: %+v, %v", n, o, err)
			}
		}
		if _, err := session.Commit(t.Context(), store, o.Session, sessiontest.Turn(fmt.Sprint("question ", n)), session.Conditions{Claim: o.Claim}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range calls {
		if n == 500 {
			store.reads, store.writes = 0, 0
		}
		if n == 600 && (store.reads > 130 || store.writes > 230) {
			t.Errorf("a call with few keys before it: %d reads and %d writes for 100", store.reads, store.writes)
		}
		ask(n)
		clock.Advance(30 * time.Second)
	}
	for n := range calls {
		o, err := open(n, "body")
		if err != nil || o.Replay == nil {
			t.Fatalf("a retry of call %d of %d: %+v, %v", n, calls, o, err)
		}
		if turn, err := o.Replay.Turn(); err != nil || o.Replay.Number != n+2 {
			t.Fatalf("a retry of call %d got turn %d, %+v, %v", n, o.Replay.Number, turn, err)
		}
	}
	if _, err := open(0, "another body"); !errors.Is(err, session.ErrKeyMismatch) {
		t.Errorf("the first key with another body: %v", err)
	}
	if s, err := store.Load(t.Context(), key); err != nil || len(s.Keys) > 2000 || s.Turns != calls+1 {
		t.Errorf("the session has %d keys and %d turns, %v", len(s.Keys), s.Turns, err)
	}
	if list, _, err := store.List(t.Context(), key.Owner, 10, ""); err != nil || len(list) != 1 {
		t.Errorf("%d sessions are listed, %v", len(list), err)
	}

	has := func(n int, want bool) {
		t.Helper()
		s, err := store.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := session.HasKey(t.Context(), store, s, fmt.Sprint("key ", n), clock.Now()); err != nil || got != want {
			t.Errorf("the session has key %d: %t, %v", n, got, err)
		}
	}
	has(0, true) // on a page
	has(calls-1, true)
	has(calls, false)

	clock.Advance(24*time.Hour - calls*30*time.Second + 10*time.Minute)
	has(0, false)
	has(calls-1, true)
	if o, err := open(0, "another body"); err != nil || o.Claim == nil {
		t.Errorf("the first key a day later: %+v, %v", o, err)
	}
	if o, err := open(1000, "body"); err != nil || o.Replay == nil {
		t.Errorf("a key that is younger: %+v, %v", o, err)
	}
}

// A session that is larger than the store in memory goes on, without its oldest turns.
func TestAMemorySessionOutgrowsTheStore(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	clock := sessiontest.NewClock()
	var log strings.Builder
	store := session.NewMemory(sessiontest.TTL, limit, clock.Now, slog.New(slog.NewTextHandler(&log, nil)))
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	s := session.New(key)
	large := func(n int) session.Turn {
		turn := sessiontest.Turn(fmt.Sprintf("question %d: %02000d", n, n))
		turn.ID = fmt.Sprintf("turn-%d", n)
		return turn
	}
	for n := 1; n <= 120; n++ {
		meta, err := session.Commit(t.Context(), store, s, large(n), session.Conditions{})
		if err != nil || meta.Turns != n {
			t.Fatalf("turn %d: number %d, %v", n, meta.Turns, err)
		}
		if s, err = store.Load(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	gone := s.Turns - len(s.Recent)
	if gone < 60 || len(s.Recent) < 15 || s.Recent[0].Number != gone+1 {
		t.Errorf("%d turns are gone, %d are there, from number %d", gone, len(s.Recent), s.Recent[0].Number)
	}
	for i, past := range s.Past {
		if want := gone - len(s.Past) + 1 + i; past.Number != want || past.ID != fmt.Sprintf("turn-%d", want) {
			t.Errorf("%+v is remembered in the place of turn %d", past, want)
		}
	}
	if n := strings.Count(log.String(), "its oldest turns are dropped"); n != 1 {
		t.Errorf("%d warnings: %s", n, &log)
	}
	// Turns are found by their numbers, as before.
	for _, tt := range []struct{ after, limit, first, count int }{
		{0, 10, 0, 0}, {gone - 5, 10, gone + 1, 5}, {gone, 3, gone + 1, 3}, {119, 10, 120, 1}, {120, 10, 0, 0}, {1 << 62, 1 << 62, 0, 0},
	} {
		meta, records, err := store.Turns(t.Context(), key, tt.after, tt.limit)
		if err != nil || meta.Turns != 120 || len(records) != tt.count || tt.count > 0 && records[0].Number != tt.first {
			t.Errorf("after %d, at most %d: %d records, %v", tt.after, tt.limit, len(records), err)
		}
	}
	// A commit whose response was lost is not appended again.
	if meta, err := session.Commit(t.Context(), store, session.New(key), large(120), session.Conditions{}); err != nil || meta.Turns != 120 {
		t.Errorf("the last turn again: number %d, %v", meta.Turns, err)
	}
	if meta, err := session.Commit(t.Context(), store, session.New(key), large(gone), session.Conditions{}); err != nil || meta.Turns != gone {
		t.Errorf("the last turn that is gone again: number %d, %v", meta.Turns, err)
	}
}

// Of two turns that together are larger than the store, the second stays.
func TestAMemorySessionOfTwoLargeTurns(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(sessiontest.TTL, 100_000, sessiontest.NewClock().Now, telemetry.Discard())
	s := session.New(session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()})
	for n := 1; n <= 2; n++ {
		meta, err := session.Commit(t.Context(), store, s, sessiontest.Turn(strings.Repeat("x", 30_000)), session.Conditions{}) // twice in its record
		if err != nil || meta.Turns != n {
			t.Fatalf("turn %d: number %d, %v", n, meta.Turns, err)
		}
		if s, err = store.Load(t.Context(), s.Key); err != nil || len(s.Recent) != 1 || s.Recent[0].Number != n {
			t.Errorf("turn %d: %d turns are there, %v", n, len(s.Recent), err)
		}
	}
}
