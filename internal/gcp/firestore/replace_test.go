package firestore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

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
			s, err := store.Load(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
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
			after, err := store.Load(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
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
				s, err := store.Load(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
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
