package firestore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// A page may edit a question however far back: its turn and those after it are replaced
// in one write, also where they are archived, and are kept out of sight.
func TestTurnsOfALongSessionAreReplaced(t *testing.T) {
	client := emulator.Client(t)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	for _, test := range []struct {
		name  string
		first int
		bytes int
	}{
		{"the first", 1, 10},
		{"one that is archived", 7, 10},
		{"one that is archived, by one so large that nothing comes back beside it", 7, 440 << 10},
		{"the last of an archive", 10, 10},
		{"one in the document", 38, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
			want := long(t, store, key, 40, 40<<10)
			if n := len(archives(t, client, key)); n < 2 {
				t.Fatalf("%d archives", n)
			}
			if test.first > 2 {
				for _, turn := range []int{test.first - 1, test.first} {
					if err := store.SetFeedback(t.Context(), key, turn, session.Feedback{Score: 1}); err != nil {
						t.Fatal(err)
					}
				}
			}
			s := load(t, store, key)
			last, _, err := s.Last()
			if err != nil {
				t.Fatal(err)
			}
			query := "another " + strings.Repeat("y", test.bytes/2)
			conditions := session.Conditions{Replace: last.ID, First: test.first}
			meta, err := session.Commit(t.Context(), store, s, sessiontest.Turn(query), conditions)
			if err != nil || meta.Turns != test.first {
				t.Fatalf("turn %d, %v", meta.Turns, err)
			}
			want = append(want[:test.first-1], query)
			if got := readAll(t, store, key, 7); !slices.Equal(got, want) {
				t.Fatalf("%d turns, want %d", len(got), len(want))
			}
			after := load(t, store, key)
			if test.first > 1 && test.bytes < 1000 && len(after.Recent) < min(test.first, 3) {
				t.Errorf("of %d turns only %d are in the document", test.first, len(after.Recent))
			}
			_, records, err := store.Turns(t.Context(), key, max(test.first-2, 0), 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if rated := r.Feedback != nil; rated != (r.Number < test.first) {
					t.Errorf("turn %d is rated: %t", r.Number, rated)
				}
			}
			hidden := 0
			for _, snapshot := range archives(t, client, key) {
				if strings.HasPrefix(snapshot.Ref.ID, "replaced-") {
					hidden += len(snapshot.Data()["log"].(map[string]any))
				}
			}
			if hidden != 40-test.first+1 {
				t.Errorf("%d replaced turns are kept, want %d", hidden, 40-test.first+1)
			}
			// The session goes on as any other, and leaves nothing.
			for i := range 12 {
				s := load(t, store, key)
				query := fmt.Sprintf("%d %s", i, strings.Repeat("z", 60<<10))
				if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn(query), session.Conditions{}); err != nil {
					t.Fatal(err)
				}
				want = append(want, query)
			}
			if got := readAll(t, store, key, 100); !slices.Equal(got, want) {
				t.Errorf("%d turns, want %d", len(got), len(want))
			}
			if err := store.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			if n := len(archives(t, client, key)); n != 0 {
				t.Errorf("%d documents are left after the deletion", n)
			}
		})
	}
}

// A replacement changes the archives that a call has learned of from the session's document,
// before the call gets to them. The call is as if it had come after it.
func TestACallMeetsAReplacement(t *testing.T) {
	for _, call := range []struct {
		name  string
		meets func(t *testing.T, store *firestore.Sessions, key session.Key) error
		late  bool
	}{
		{"turns are read", func(t *testing.T, store *firestore.Sessions, key session.Key) error {
			_, turns, err := store.Turns(t.Context(), key, 0, 100)
			if err != nil {
				return err
			}
			if last := turns[len(turns)-1].Number; last != len(turns) {
				t.Errorf("%d turns up to number %d", len(turns), last)
			}
			return nil
		}, false},
		{"a turn is rated", func(t *testing.T, store *firestore.Sessions, key session.Key) error {
			return store.SetFeedback(t.Context(), key, 1, session.Feedback{Score: 1})
		}, false},
		{"a turn is rated that is replaced", func(t *testing.T, store *firestore.Sessions, key session.Key) error {
			if err := store.SetFeedback(t.Context(), key, 6, session.Feedback{Score: 1}); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%v, want that there is no such turn", err)
			}
			return nil
		}, false},
		{"a turn is appended, and the archives are kept for longer", func(t *testing.T, store *firestore.Sessions, key session.Key) error {
			s, err := store.Load(t.Context(), key)
			if err != nil {
				return err
			}
			_, err = session.Commit(t.Context(), store, s, sessiontest.Turn("one more"), session.Conditions{})
			return err
		}, true},
		{"a report reads what was asked", func(t *testing.T, store *firestore.Sessions, key session.Key) error {
			return store.Since(t.Context(), time.Time{}, func(session.Key, session.Turn, *session.Feedback) error { return nil })
		}, false},
	} {
		for _, first := range []int{1, 5} { // no archive is left, or a part of the first
			t.Run(fmt.Sprintf("%s, turn %d is replaced", call.name, first), func(t *testing.T) {
				host, project := emulator.Host(t), emulator.Project()
				clock := sessiontest.NewClock()
				other := firestore.NewSessions(emulator.Connect(t, host, project), sessiontest.TTL, clock.Now)
				key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
				long(t, other, key, 16, 60<<10)
				replaced := false
				client := emulator.Connect(t, host, project, before("archive", func() {
					replaced = true
					s, err := other.Load(t.Context(), key)
					if err != nil {
						t.Error(err)
						return
					}
					last, _, err := s.Last()
					if err != nil {
						t.Error(err)
						return
					}
					large := sessiontest.Turn(strings.Repeat("y", 245<<10)) // nothing comes back beside it
					if _, err := session.Commit(t.Context(), other, s, large, session.Conditions{Replace: last.ID, First: first}); err != nil {
						t.Error(err)
					}
				})...)
				if call.late { // archives are kept for longer when half of their life is over
					clock.Advance(sessiontest.TTL * 3 / 4)
					s, err := other.Load(t.Context(), key)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := session.Commit(t.Context(), other, s, sessiontest.Turn("again"), session.Conditions{}); err != nil {
						t.Fatal(err)
					}
					clock.Advance(sessiontest.TTL * 3 / 4)
				}
				if err := call.meets(t, firestore.NewSessions(client, sessiontest.TTL, clock.Now), key); err != nil || !replaced {
					t.Errorf("replaced %t, %v", replaced, err)
				}
			})
		}
	}
}
