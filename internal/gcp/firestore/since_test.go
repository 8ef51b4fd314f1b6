package firestore_test

import (
	"errors"
	"fmt"
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
	visit := func(key session.Key, turn session.Turn) error {
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
	err := store.Since(t.Context(), since, func(session.Key, session.Turn) error { n++; return enough })
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%v after %d visits", err, n)
	}
}
