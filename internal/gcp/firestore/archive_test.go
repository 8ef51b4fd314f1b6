package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	cloudfirestore "cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// long fills a session with turns of about size bytes each and returns the
// questions.
func long(t *testing.T, store session.Store, key session.Key, turns, size int) []string {
	t.Helper()
	var want []string
	for i := range turns {
		query := fmt.Sprintf("%d %s", i+1, strings.Repeat("x", size/2)) // the answer repeats it
		want = append(want, query)
		s, err := store.Load(t.Context(), key)
		if errors.Is(err, session.ErrNotFound) {
			s, err = session.New(key), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		meta, err := session.Commit(t.Context(), store, s, sessiontest.Turn(query), session.Conditions{})
		if err != nil {
			t.Fatalf("turn %d: %v", i+1, err)
		}
		if meta.Turns != i+1 {
			t.Fatalf("turn %d got number %d", i+1, meta.Turns)
		}
	}
	return want
}

func load(t *testing.T, store session.Store, key session.Key) *session.Session {
	t.Helper()
	s, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readAll reads a session's questions page by page.
func readAll(t *testing.T, store session.Store, key session.Key, limit int) []string {
	t.Helper()
	var got []string
	for after := 0; ; {
		meta, records, err := store.Turns(t.Context(), key, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			turn, err := r.Turn()
			if err != nil {
				t.Fatal(err)
			}
			if after++; turn.Number != after {
				t.Fatalf("turn %d where %d was due", turn.Number, after)
			}
			query, _ := turn.Texts()
			got = append(got, query)
		}
		if after == meta.Turns {
			return got
		}
		if len(records) == 0 {
			t.Fatalf("no turns after %d of %d", after, meta.Turns)
		}
	}
}

// archives counts a session's archive documents.
func archives(t *testing.T, client *cloudfirestore.Client, key session.Key) []*cloudfirestore.DocumentSnapshot {
	t.Helper()
	snapshots, err := client.Collection(firestore.SessionsCollection).Doc(key.Hash()).Collection("archive").Documents(t.Context()).GetAll()
	if err != nil {
		t.Fatal(err)
	}
	return snapshots
}

func TestALongSessionSpillsAndStaysWhole(t *testing.T) {
	client := emulator.Client(t)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	const turns, size = 60, 40 << 10 // 2.4 MB of text, in JSON and base64 more
	want := long(t, store, key, turns, size)
	if n := len(archives(t, client, key)); n < 3 {
		t.Errorf("%d archive documents", n)
	}
	for _, limit := range []int{7, 100} {
		got := readAll(t, store, key, limit)
		if len(got) != len(want) {
			t.Fatalf("%d turns, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("turn %d has %d bytes, want %d", i+1, len(got[i]), len(want[i]))
			}
		}
	}
	s := load(t, store, key)
	if last := s.Recent[len(s.Recent)-1].Number; last != turns || s.Turns != turns {
		t.Errorf("the document ends with turn %d of %d", last, s.Turns)
	}

	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if n := len(archives(t, client, key)); n != 0 {
		t.Errorf("%d archive documents are left after the deletion", n)
	}
}

// A turn can only be archived by a later one, so the last is never in an archive:
// it can be replaced however long the session is, also by one so large that
// others must make room for it.
func TestTheLastTurnOfALongSessionIsReplaced(t *testing.T) {
	client := emulator.Client(t)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	want := long(t, store, key, 20, 60<<10)
	for _, size := range []int{1, 60 << 10, 400 << 10, 1, 400 << 10} {
		s := load(t, store, key)
		last, _, err := s.Last()
		if err != nil {
			t.Fatal(err)
		}
		before := len(archives(t, client, key))
		query := fmt.Sprintf("again %d %s", size, strings.Repeat("y", size/2))
		meta, err := session.Commit(t.Context(), store, s, sessiontest.Turn(query), session.Conditions{Replace: last.ID})
		if err != nil || meta.Turns != len(want) {
			t.Fatalf("%d bytes: turn %d, %v", size, meta.Turns, err)
		}
		want[len(want)-1] = query
		if got := readAll(t, store, key, 7); !slices.Equal(got, want) {
			t.Fatalf("%d bytes: the session has not the turns it should have", size)
		}
		if after := len(archives(t, client, key)); size == 400<<10 && before == 1 && after == before {
			t.Errorf("%d bytes: nothing made room for them", size)
		}
	}
}

func TestDeleteAllRemovesArchives(t *testing.T) {
	client := emulator.Client(t)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	long(t, store, key, 20, 60<<10)
	if len(archives(t, client, key)) == 0 {
		t.Fatal("nothing was archived")
	}
	if err := store.DeleteAll(t.Context(), key.Owner); err != nil {
		t.Fatal(err)
	}
	if n := len(archives(t, client, key)); n != 0 {
		t.Errorf("%d archive documents are left", n)
	}
}

func TestTwoWritersWhoMustSpill(t *testing.T) {
	client := emulator.Client(t)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	errs := make(chan error)
	const each = 12
	for w := range 2 {
		go func() {
			for i := range each {
				s, err := store.Load(t.Context(), key)
				if errors.Is(err, session.ErrNotFound) {
					s, err = session.New(key), nil
				}
				if err == nil {
					_, err = session.Commit(t.Context(), store, s, sessiontest.Turn(fmt.Sprintf("%d/%d %s", w, i, strings.Repeat("x", 40<<10))), session.Conditions{})
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	sessiontest.Interleaved(t, readAll(t, store, key, 50), 2, each)
}

func TestArchivesOutliveTheirSession(t *testing.T) {
	client, clock := emulator.Client(t), sessiontest.NewClock()
	store := firestore.NewSessions(client, sessiontest.TTL, clock.Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	long(t, store, key, 20, 60<<10)
	for range 6 {
		clock.Advance(sessiontest.TTL * 3 / 4)
		s := load(t, store, key)
		meta, err := session.Commit(t.Context(), store, s, sessiontest.Turn("again"), session.Conditions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range archives(t, client, key) {
			if expires := a.Data()["expires_at"].(time.Time); expires.Before(meta.ExpiresAt) {
				t.Errorf("an archive expires at %v, its session at %v", expires, meta.ExpiresAt)
			}
		}
	}
}

func TestATurnTooLargeIsRefused(t *testing.T) {
	store := firestore.NewSessions(emulator.Client(t), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	_, err := session.Commit(t.Context(), store, session.New(key), sessiontest.Turn(strings.Repeat("x", 400<<10)), session.Conditions{})
	if !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
}

func TestTheLargestTurnFollowsAFullDocument(t *testing.T) {
	store := firestore.NewSessions(emulator.Client(t), sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	long(t, store, key, 13, 50<<10)
	s := load(t, store, key)
	largest := sessiontest.Turn(strings.Repeat("x", session.MaxTurnBytes/2-1000))
	if _, err := session.Commit(t.Context(), store, s, largest, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, store, key, 100); len(got) != 14 {
		t.Errorf("%d turns", len(got))
	}
}

func TestAStoreThatIsAwaySaysSoInTime(t *testing.T) {
	host := emulator.Host(t) // only where there is one: the client's way to fail is what is tested
	_ = host
	client := emulator.Connect(t, "127.0.0.1:1", emulator.Project())
	store := firestore.NewSessions(client, sessiontest.TTL, time.Now)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	if _, err := store.Load(ctx, key); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Load: %v, want ErrUnavailable", err)
	}
	begin := time.Now()
	if _, err := session.Commit(ctx, store, session.New(key), sessiontest.Turn("one"), session.Conditions{}); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Commit: %v, want ErrUnavailable", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Commit took %v", took)
	}
}

// A session that is asked about with a key all day keeps its history when its
// document is full, of keys for the most part.
func TestADocumentFullOfKeysKeepsItsHistory(t *testing.T) {
	client, clock := emulator.Client(t), sessiontest.NewClock()
	store := firestore.NewSessions(client, sessiontest.TTL, clock.Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	for _, keys := range []int{1700} {
		var want []string
		if s, err := store.Load(t.Context(), key); err == nil {
			want = readAll(t, store, key, 50)
			key = s.Key
		}
		want = append(want, long(t, store, session.Key{Owner: key.Owner, ID: key.ID}, 1, 10)...)
		held := map[string]any{}
		for i := range keys {
			held[session.Key{Owner: "key", ID: fmt.Sprint(i)}.Hash()] = map[string]any{
				"b": session.Key{Owner: "body", ID: fmt.Sprint(i)}.Hash(), "l": "", "u": time.Time{}, "t": 1, "i": session.NewID(), "a": clock.Now(),
			}
		}
		if _, err := client.Collection(firestore.SessionsCollection).Doc(key.Hash()).Update(t.Context(), []cloudfirestore.Update{{Path: "keys", Value: held}}); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			s := load(t, store, key)
			query := fmt.Sprintf("%d %s", i, strings.Repeat("k", 15<<10))
			if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn(query), session.Conditions{}); err != nil {
				t.Fatalf("%d keys, turn %d: %v", keys, s.Turns+1, err)
			}
			want = append(want, query)
			if s = load(t, store, key); len(s.Keys) != keys {
				t.Fatalf("%d keys, want %d", len(s.Keys), keys)
			}
			if recent := len(s.Recent); recent < min(s.Turns, 4) {
				t.Fatalf("%d keys, turn %d: %d turns of history", keys, s.Turns, recent)
			}
		}
		// The largest turn there is finds room, too, and the next one after it.
		for _, size := range []int{session.MaxTurnBytes/2 - 1000, 10, session.MaxTurnBytes/2 - 1000} {
			s := load(t, store, key)
			query := strings.Repeat("L", size)
			if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn(query), session.Conditions{}); err != nil {
				t.Fatalf("%d keys, a turn of %d bytes: %v", keys, size, err)
			}
			want = append(want, query)
		}
		if got := readAll(t, store, key, 50); !slices.Equal(got, want) {
			t.Errorf("%d keys: %d turns, want %d", keys, len(got), len(want))
		}
		key = session.Key{Owner: key.Owner, ID: session.NewID()}
	}
}

// A deletion that ends early has deleted everything or nothing: no session is
// listed that cannot be read.
func TestADeletionIsOneWrite(t *testing.T) {
	var commits [][]string
	client := emulator.Client(t, emulator.Tap(func(_ string, req any) {
		if commit, ok := req.(*firestorepb.CommitRequest); ok {
			var writes []string
			for _, w := range commit.Writes {
				writes = append(writes, fmt.Sprintf("%T", w.Operation))
			}
			commits = append(commits, writes)
		}
	})...)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	long(t, store, key, 20, 60<<10)
	n := len(archives(t, client, key))
	commits = nil
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if len(commits) != 1 || len(commits[0]) != n+1 || n == 0 {
		t.Errorf("%d archives were deleted by the writes %v", n, commits)
	}
}
