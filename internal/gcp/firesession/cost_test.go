package firesession_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firesession"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// A meter counts what goes over the wire to Firestore.
type meter struct {
	mu           sync.Mutex
	calls        []string // the methods called, each one round trip
	reads        int      // documents asked for
	writes       int      // documents written
	writtenBytes int      // of what the writes hold
}

func (m *meter) count(method string, req any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, method[strings.LastIndexByte(method, '/')+1:])
	switch r := req.(type) {
	case *firestorepb.BatchGetDocumentsRequest:
		m.reads += len(r.Documents)
	case *firestorepb.CommitRequest:
		m.writes += len(r.Writes)
		for _, w := range r.Writes {
			for _, value := range w.GetUpdate().GetFields() {
				m.writtenBytes += len(value.String())
			}
		}
	}
}

// take gives what was counted since the last time.
func (m *meter) take() (trips, reads, writes, bytes int, calls []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	trips, reads, writes, bytes, calls = len(m.calls), m.reads, m.writes, m.writtenBytes, m.calls
	m.calls, m.reads, m.writes, m.writtenBytes = nil, 0, 0, 0
	return
}

func TestWhatATurnCosts(t *testing.T) {
	var m meter
	store := firesession.New(emulator.Client(t, emulator.Tap(m.count)...), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	expect := func(what string, trips, reads, writes int) {
		t.Helper()
		gotTrips, gotReads, gotWrites, _, calls := m.take()
		if gotTrips != trips || gotReads != reads || gotWrites != writes {
			t.Errorf("%s: %d round trips, %d reads, %d writes (%v), want %d, %d, %d", what, gotTrips, gotReads, gotWrites, calls, trips, reads, writes)
		}
	}

	if _, err := session.Commit(t.Context(), store, session.New(key), sessiontest.Turn("one"), session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	expect("a new session", 1, 0, 1)

	for range 3 {
		s, err := store.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
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
	expect("a deletion", 2, 1, 1)
}

func TestATurnSendsItselfAlone(t *testing.T) {
	var m meter
	store := firesession.New(emulator.Client(t, emulator.Tap(m.count)...), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	s := session.New(key)
	for i := range 20 {
		if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn(strings.Repeat("x", 5000)), session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		// The record in base64 of JSON holds the text twice, in bytes escaped for
		// this count; the session of twenty such turns would be far more.
		if _, _, _, bytes, _ := m.take(); bytes > 30_000 {
			t.Fatalf("turn %d wrote %d bytes", i+1, bytes)
		}
		var err error
		if s, err = store.Load(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		m.take()
	}
}
