package firestore_test

import (
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestWhatATurnCosts(t *testing.T) {
	var w wire
	store := firestore.NewSessions(emulator.Client(t, w.options()...), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	expect := func(what string, trips, reads, writes int) {
		t.Helper()
		w.expect(t, what, trips, reads, writes)
	}

	if _, err := session.Commit(t.Context(), store, session.New(key), sessiontest.Turn("one"), session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	expect("a new session", 1, 0, 1)

	for range 3 {
		s := load(t, store, key)
		if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn("again"), session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		expect("a usual turn", 2, 1, 1)
	}

	// A key adds a write and a round trip.
	keyed := func(id, idempotencyKey string) {
		t.Helper()
		o, err := session.Open(t.Context(), store, key.Owner, id, session.Idempotency{Key: idempotencyKey, Body: "body", Lease: time.Minute}, nil, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Commit(t.Context(), store, o.Session, sessiontest.Turn("keyed"), session.Conditions{Claim: o.Claim}); err != nil {
			t.Fatal(err)
		}
	}
	keyed(key.ID, "a")
	expect("a usual turn with a key", 3, 1, 2)
	keyed("", "b")
	expect("a new session with a key", 2, 0, 2)

	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	expect("a deletion", 3, 1, 1) // of a session whose runs have no records
}

// The record of a run costs a write a time, and one more with the turn, in its call.
func TestWhatARecordCosts(t *testing.T) {
	var w wire
	store := firestore.NewSessions(emulator.Client(t, w.options()...), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	r := &session.Run{Key: key, ID: session.NewID(), State: session.Working, Holder: "holder", Request: []byte(`{}`)}
	text := ""
	for second := range 10 {
		text += strings.Repeat("x", 1000)
		next := *r
		next.Parts = append([]session.Part{{Kind: session.KindToolCall, ID: "c", Name: strings.Repeat("n", 20_000)}}, session.Part{Kind: session.KindText, Text: text})
		var err error
		if r, err = store.SaveRun(t.Context(), &next); err != nil {
			t.Fatal(err)
		}
		c := w.cost()
		if len(c.calls) != 1 || c.reads != 0 || c.writes != 1 {
			t.Errorf("second %d: %d reads, %d writes, calls %v, want 1 write in 1 call", second, c.reads, c.writes, c.calls)
		}
		if second > 0 && c.bytes > 30_000 { // the part that has not changed is not sent
			t.Errorf("second %d: %d bytes", second, c.bytes)
		}
	}
	done := *r
	done.State, done.Parts = session.Done, nil
	turn := sessiontest.Turn("one")
	turn.ID = r.ID
	if _, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{Run: &done}); err != nil {
		t.Fatal(err)
	}
	if c := w.cost(); len(c.calls) != 1 || c.reads != 0 || c.writes != 2 {
		t.Errorf("the turn with the record: %d reads, %d writes, calls %v, want 2 writes in 1 call", c.reads, c.writes, c.calls)
	}
}

func TestATurnSendsItselfAlone(t *testing.T) {
	var w wire
	store := firestore.NewSessions(emulator.Client(t, w.options()...), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	s := session.New(key)
	for i := range 20 {
		if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn(strings.Repeat("x", 5000)), session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		// The record in base64 of JSON holds the text twice, in bytes escaped for
		// this count; the session of twenty such turns would be far more.
		if bytes := w.cost().bytes; bytes > 30_000 {
			t.Fatalf("turn %d wrote %d bytes", i+1, bytes)
		}
		var err error
		if s, err = store.Load(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		w.cost()
	}
}
