package sessiontest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/session"
)

// replace commits a turn in place of base's last one.
func replace(t *testing.T, store session.Store, base *session.Session, turn session.Turn) (session.Meta, error) {
	t.Helper()
	last, ok, err := base.Last()
	if err != nil || !ok {
		t.Fatalf("the last turn: %v, %v", ok, err)
	}
	return session.Commit(t.Context(), store, base, turn, session.Conditions{Replace: last.ID})
}

func load(t *testing.T, store session.Store, key session.Key) *session.Session {
	t.Helper()
	s, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// replacing: the turn that takes another's place has its number, and what is derived from all
// turns (tokens, title, times) is as if the replaced one had never been. A first turn's title
// goes with it, its time of creation stays. A snapshot that was loaded before keeps the old
// turn: it may be what another request is showing to the model.
func replacing(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	for n, want := range [][]string{{"another one"}, {"one", "another two"}, {"one", "two", "another three"}} {
		key := session.Key{Owner: key.Owner, ID: session.NewID()}
		for i := range n + 1 {
			add(t, store, key, []string{"one", "two", "three"}[i])
		}
		before := load(t, store, key)
		clock.Advance(time.Minute)
		turn := Turn(want[n])
		turn.Usage.TotalTokens = 100
		meta, err := replace(t, store, before, turn)
		if err != nil || meta.Turns != n+1 {
			t.Fatalf("turn %d was replaced by number %d, %v", n+1, meta.Turns, err)
		}
		if got := queries(t, store, key); !slices.Equal(got, want) {
			t.Errorf("turns = %q, want %q", got, want)
		}
		after := load(t, store, key)
		if !after.CreatedAt.Equal(before.CreatedAt) || !after.UpdatedAt.After(before.UpdatedAt) || !after.ExpiresAt.After(before.ExpiresAt) {
			t.Errorf("created %v, updated %v, expires %v; before: %v, %v, %v",
				after.CreatedAt, after.UpdatedAt, after.ExpiresAt, before.CreatedAt, before.UpdatedAt, before.ExpiresAt)
		}
		if want := int64(7*n + 100); after.TotalTokens != want {
			t.Errorf("%d tokens of all its turns, want %d", after.TotalTokens, want)
		}
		if title := want[0]; after.Title != title {
			t.Errorf("title %q, want %q", after.Title, title)
		}
		// An earlier snapshot does not change.
		if last, _, err := before.Last(); err != nil || len(before.Recent) != n+1 {
			t.Errorf("what was loaded: %d turns, %v", len(before.Recent), err)
		} else if query, _ := last.Texts(); query == want[n] {
			t.Errorf("what was loaded changed to %q", query)
		}
		if meta := add(t, store, key, "next"); meta.Turns != n+2 {
			t.Errorf("the turn after it has number %d", meta.Turns)
		}
	}
}

// replacingFeedback: an opinion was about the turn that is gone and must not stand beside the
// new one, which can then be rated. The case replacingSeveral reads what is left of the
// opinions.
func replacingFeedback(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	add(t, store, key, "two")
	for turn := 1; turn <= 2; turn++ {
		if err := store.SetFeedback(t.Context(), key, turn, session.Feedback{Score: 1, At: clock.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := replace(t, store, load(t, store, key), Turn("another two")); err != nil {
		t.Fatal(err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one", "another two"}) {
		t.Errorf("turns = %q", got)
	}
	if err := store.SetFeedback(t.Context(), key, 2, session.Feedback{Score: -1, At: clock.Now()}); err != nil {
		t.Errorf("an opinion on the turn that took its place: %v", err)
	}
}

// replacingLate: who regenerates an answer that is not the last any more would cut off what
// followed, so it is refused, after a turn and after another replacement. An opinion in between
// is no reason.
func replacingLate(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	stale := load(t, store, key)
	add(t, store, key, "two")
	_, err := replace(t, store, stale, Turn("another one"))
	wantError(t, "after another turn", err, session.ErrReplaced)
	stale = load(t, store, key)
	if _, err := replace(t, store, stale, Turn("another two")); err != nil {
		t.Fatal(err)
	}
	_, err = replace(t, store, stale, Turn("yet another two"))
	wantError(t, "after another replacement", err, session.ErrReplaced)
	// Feedback given in between does not make the replacement fail.
	stale = load(t, store, key)
	if err := store.SetFeedback(t.Context(), key, 2, session.Feedback{Score: 1, At: clock.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := replace(t, store, stale, Turn("the last two")); err != nil {
		t.Errorf("after an opinion: %v", err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one", "the last two"}) {
		t.Errorf("turns = %q", got)
	}
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, err = replace(t, store, stale, Turn("too late"))
	wantError(t, "after a deletion", err, session.ErrNotFound)
	_, err = session.Commit(t.Context(), store, session.New(key), Turn("nothing"), session.Conditions{Replace: "none"})
	wantError(t, "in a session without turns", err, session.ErrReplaced)
}

// replacingLostAnswer is lostAnswer for a replacement. Repeating it blindly would fail with
// ErrReplaced, since its own turn is then the last one, and the caller would report a failure
// of what was stored.
func replacingLostAnswer(t *testing.T, store session.Store, clock *Clock) {
	for _, lose := range [][]bool{{true}, {false}, {false, true}, {true, true}, {false, false, true}} {
		key := newKey()
		add(t, store, key, "one")
		add(t, store, key, "two")
		f := &lossyStore{Store: store, lose: slices.Clone(lose)}
		if meta, err := replace(t, f, load(t, store, key), Turn("another two")); err != nil || meta.Turns != 2 {
			t.Errorf("%v: turn %d, %v", lose, meta.Turns, err)
		}
		if got := queries(t, store, key); !slices.Equal(got, []string{"one", "another two"}) {
			t.Errorf("%v: turns = %q", lose, got)
		}
	}
}

// replacingRace: six calls regenerate one answer at once. One turn takes its place, the one
// whose caller was answered so; the others are refused and not appended behind it.
func replacingRace(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	add(t, store, key, "two")
	base := load(t, store, key)
	const calls = 6
	var group errgroup.Group
	replaced := make([]bool, calls)
	for i := range calls {
		group.Go(func() error {
			_, err := replace(t, store, base, Turn(fmt.Sprint(i)))
			replaced[i] = err == nil
			if errors.Is(err, session.ErrReplaced) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	winner := slices.Index(replaced, true)
	if winner < 0 || slices.Contains(replaced[winner+1:], true) {
		t.Fatalf("replaced: %v, want one", replaced)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one", fmt.Sprint(winner)}) {
		t.Errorf("turns = %q, want the winner's, %d", got, winner)
	}
}

// replaceFrom commits a turn in place of base's turns from number first on.
func replaceFrom(t *testing.T, store session.Store, base *session.Session, first int, turn session.Turn, state map[string]json.RawMessage) (session.Meta, error) {
	t.Helper()
	last, ok, err := base.Last()
	if err != nil || !ok {
		t.Fatalf("the last turn: %v, %v", ok, err)
	}
	return session.Commit(t.Context(), store, base, turn, session.Conditions{
		Replace: last.ID, First: first, State: func(*session.Session) (map[string]json.RawMessage, error) { return state, nil },
	})
}

// replacingSeveral: going back to an earlier question and asking it differently. Tokens, state
// and opinions are those of the turns before it, from each place in the session and with lost
// responses. It catches a store that restores the state of the last turn only, or leaves fields
// of the turns that were cut off: their numbers will be used again.
func replacingSeveral(t *testing.T, store session.Store, clock *Clock) {
	for _, first := range []int{1, 2, 4, 5} {
		for _, lose := range [][]bool{nil, {true}, {false, true}} {
			key := newKey()
			for i := range 5 {
				base, err := begin(t, store, key)
				if err != nil {
					t.Fatal(err)
				}
				number := json.RawMessage(fmt.Sprint(i + 1))
				_, err = session.Commit(t.Context(), store, base, Turn(fmt.Sprint(i+1)), session.Conditions{
					State: func(*session.Session) (map[string]json.RawMessage, error) {
						return map[string]json.RawMessage{"last": number, "of " + string(number): number}, nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := store.SetFeedback(t.Context(), key, i+1, session.Feedback{Score: 1, At: clock.Now()}); err != nil {
					t.Fatal(err)
				}
			}
			f := &lossyStore{Store: store, lose: slices.Clone(lose)}
			turn := Turn("another")
			meta, err := replaceFrom(t, f, load(t, store, key), first, turn, map[string]json.RawMessage{"of another": []byte("true")})
			if err != nil || meta.Turns != first {
				t.Fatalf("from %d, %v: turn %d, %v", first, lose, meta.Turns, err)
			}
			want, state := []string{}, map[string]string{"of another": "true"}
			for i := 1; i < first; i++ {
				want = append(want, fmt.Sprint(i))
				state["last"], state[fmt.Sprintf("of %d", i)] = fmt.Sprint(i), fmt.Sprint(i)
			}
			if got := queries(t, store, key); !slices.Equal(got, append(want, "another")) {
				t.Errorf("from %d, %v: turns %q", first, lose, got)
			}
			after := load(t, store, key)
			got := map[string]string{}
			for name, value := range after.State {
				got[name] = string(value)
			}
			if !maps.Equal(got, state) {
				t.Errorf("from %d, %v: state %v, want %v", first, lose, got, state)
			}
			if want := int64(7 * first); after.TotalTokens != want || len(after.Recent) != first {
				t.Errorf("from %d, %v: %d tokens, want %d; %d turns", first, lose, after.TotalTokens, want, len(after.Recent))
			}
			_, records, err := store.Turns(t.Context(), key, 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if rated := r.Feedback != nil; rated != (r.Number < first) {
					t.Errorf("from %d, %v: turn %d is rated: %t", first, lose, r.Number, rated)
				}
			}
			if meta := add(t, store, key, "next"); meta.Turns != first+1 {
				t.Errorf("from %d, %v: the next turn is %d", first, lose, meta.Turns)
			}
			if _, err := session.Find(t.Context(), store, key, turn.ID); err != nil {
				t.Errorf("from %d, %v: the new turn: %v", first, lose, err)
			}
		}
	}
}

// replacingSeveralLate: the condition is the last turn, not the first one that is replaced, so
// nothing that the caller has not seen is cut off. A first turn that does not exist is
// ErrReplaced as well.
func replacingSeveralLate(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	for i := range 4 {
		add(t, store, key, fmt.Sprint(i+1))
	}
	stale := load(t, store, key)
	add(t, store, key, "5")
	_, err := replaceFrom(t, store, stale, 2, Turn("another"), nil)
	wantError(t, "after another turn", err, session.ErrReplaced)
	stale = load(t, store, key)
	if _, err := replaceFrom(t, store, stale, 3, Turn("another 3"), nil); err != nil {
		t.Fatal(err)
	}
	_, err = replaceFrom(t, store, stale, 2, Turn("another 2"), nil)
	wantError(t, "after another replacement", err, session.ErrReplaced)
	for _, first := range []int{-1, 4} {
		_, err = replaceFrom(t, store, load(t, store, key), first, Turn("nowhere"), nil)
		wantError(t, fmt.Sprintf("from %d of 3", first), err, session.ErrReplaced)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"1", "2", "another 3"}) {
		t.Errorf("turns = %q", got)
	}
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, err = replaceFrom(t, store, stale, 1, Turn("too late"), nil)
	wantError(t, "after a deletion", err, session.ErrNotFound)
}

// claimReleased: a call without a key found only a claim, which is released while the
// call works. The session never existed, so nobody can have deleted it.
func claimReleased(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	entry := session.KeyEntry{Body: "b", Lease: "l", Until: clock.Now().Add(time.Minute), At: clock.Now()}
	claimed, err := store.Apply(t.Context(), session.New(key), session.Change{Key: "k", Entry: &entry})
	if err != nil {
		t.Fatal(err)
	}
	base := load(t, store, key)
	if _, err := store.Apply(t.Context(), claimed, session.Change{Remove: true}); err != nil {
		t.Fatal(err)
	}
	meta, err := session.Commit(t.Context(), store, base, Turn("one"), session.Conditions{})
	if err != nil || meta.Turns != 1 {
		t.Errorf("Commit = turn %d, %v", meta.Turns, err)
	}
	if got := queries(t, store, key); !slices.Equal(got, []string{"one"}) {
		t.Errorf("turns = %q", got)
	}
}
