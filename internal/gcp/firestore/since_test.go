package firestore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestSinceSeesEverySession(t *testing.T) {
	clock := sessiontest.NewClock()
	store := firestore.NewSessions(emulator.Client(t), sessiontest.TTL, clock.Now)
	const sessions = 310 // more than a page
	commit := func(n int) string {
		turn := sessiontest.Turn(fmt.Sprint(n))
		turn.CreatedAt = clock.Now()
		key := session.Key{Owner: session.OwnerOf(fmt.Sprint("caller ", n), ""), ID: session.NewID()}
		if _, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{}); err != nil {
			t.Error(err)
		}
		return key.Hash() + " " + turn.ID
	}
	commit(-1)
	clock.Advance(sessiontest.TTL / 4)
	since := clock.Now()
	want, got := map[string]int{}, map[string]int{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for worker := range 10 {
		wait.Go(func() {
			for n := worker; n < sessions; n += 10 {
				id := commit(n)
				mu.Lock()
				want[id]++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	visit := func(key session.Key, turn session.Turn, _ *session.Feedback) error {
		got[key.Hash()+" "+turn.ID]++
		return nil
	}
	if err := store.Since(t.Context(), since, visit); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	enough := errors.New("enough")
	n := 0
	err := store.Since(t.Context(), since, func(session.Key, session.Turn, *session.Feedback) error { n++; return enough })
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%v after %d visits", err, n)
	}
}

// What was said of a turn is found with it, also where the turn has left the session's
// document.
func TestSinceHasTheFeedback(t *testing.T) {
	clock := sessiontest.NewClock()
	store := firestore.NewSessions(emulator.Client(t), sessiontest.TTL, clock.Now)
	key, since := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}, clock.Now()
	s, want := session.New(key), map[int]int{}
	for n := 1; n <= 6; n++ {
		turn := sessiontest.Turn(strings.Repeat("x", 200<<10)) // not all fit one document
		turn.CreatedAt = clock.Now()
		if _, err := session.Commit(t.Context(), store, s, turn, session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			want[n] = 1 - n%4
			if err := store.SetFeedback(t.Context(), key, n, session.Feedback{Score: want[n], At: clock.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if s, err = store.Load(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Recent) == 6 {
		t.Fatal("no turn was archived")
	}
	got, turns := map[int]int{}, 0
	err := store.Since(t.Context(), since, func(_ session.Key, turn session.Turn, said *session.Feedback) error {
		turns++
		if said != nil {
			got[turn.Number] = said.Score
		}
		return nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" || turns != 6 {
		t.Errorf("%v, %d turns, feedback (-want +got):\n%s", err, turns, diff)
	}
}
