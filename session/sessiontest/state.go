package sessiontest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/session"
)

type state = map[string]json.RawMessage

// commitState commits a turn that changes the session's state.
func commitState(t *testing.T, store session.Store, base *session.Session, query string, change state, replace string) error {
	t.Helper()
	_, err := session.Commit(t.Context(), store, base, Turn(query), session.Conditions{
		Replace: replace, State: func(*session.Session) (map[string]json.RawMessage, error) { return change, nil },
	})
	return err
}

func wantState(t *testing.T, what string, store session.Store, key session.Key, want state) {
	t.Helper()
	got := load(t, store, key).State
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// sessionState: the state is what the turns before have made of it, so that replacing a turn
// takes its change back, also one that removed a value, and also when turns were archived
// since. The names have the characters that separate or quote parts of a path in a database. A
// snapshot does not change, and a session in the place of another begins with nothing.
func sessionState(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	commit := func(query string, change state, replace string) {
		t.Helper()
		base, err := begin(t, store, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := commitState(t, store, base, query, change, replace); err != nil {
			t.Fatal(err)
		}
	}
	last := func() string {
		t.Helper()
		turn, _, err := load(t, store, key).Last()
		if err != nil {
			t.Fatal(err)
		}
		return turn.ID
	}
	commit("one", state{"cart": json.RawMessage(`["a"]`)}, "")
	wantState(t, "after the first turn", store, key, state{"cart": json.RawMessage(`["a"]`)})
	commit("two", nil, "")
	wantState(t, "after a turn that changes nothing", store, key, state{"cart": json.RawMessage(`["a"]`)})
	commit("three", state{"cart": json.RawMessage(`["a","b"]`), "x.y`/": json.RawMessage(`1`)}, "")
	wantState(t, "after another change", store, key, state{"cart": json.RawMessage(`["a","b"]`), "x.y`/": json.RawMessage(`1`)})
	before := load(t, store, key)
	commit("another three", state{"cart": json.RawMessage(`["a","c"]`)}, last())
	wantState(t, "after the turn was replaced", store, key, state{"cart": json.RawMessage(`["a","c"]`)})
	if string(before.State["cart"]) != `["a","b"]` {
		t.Errorf("a snapshot has changed: %s", before.State)
	}
	commit("yet another three", nil, last())
	wantState(t, "after it was replaced by one that changes nothing", store, key, state{"cart": json.RawMessage(`["a"]`)})
	commit("four", state{"cart": nil}, "")
	wantState(t, "after a removal", store, key, nil)
	commit("another four", nil, last())
	wantState(t, "after the removal was replaced", store, key, state{"cart": json.RawMessage(`["a"]`)})
	for i := range 8 { // which archives turns
		commit(large(i), state{"n": json.RawMessage(strconv.Itoa(i))}, "")
	}
	commit("the last", state{"n": json.RawMessage("-1")}, last())
	wantState(t, "after turns were archived", store, key, state{"cart": json.RawMessage(`["a"]`), "n": json.RawMessage("-1")})

	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	commit("after it", nil, "")
	wantState(t, "of a session in the place of a deleted one", store, key, nil)
	commit("again", state{"n": json.RawMessage("1")}, "")
	clock.Advance(TTL + time.Second)
	commit("later", nil, "")
	wantState(t, "of a session in the place of an expired one", store, key, nil)
}

// sessionStateRace: turns on one session at once see each other's changes.
//
// Each adds 1 to what it finds, so a change that is computed from an outdated session is lost
// in the sum. The function that computes it may refuse the commit instead, which then stores no
// turn either.
func sessionStateRace(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	base := load(t, store, key)
	const turns = 6
	var group errgroup.Group
	for i := range turns {
		group.Go(func() error {
			_, err := session.Commit(t.Context(), store, base, Turn(fmt.Sprint(i)), session.Conditions{
				State: func(s *session.Session) (map[string]json.RawMessage, error) {
					n, _ := strconv.Atoi(string(s.State["n"]))
					return state{"n": json.RawMessage(strconv.Itoa(n + 1))}, nil
				},
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	wantState(t, "after the turns", store, key, state{"n": json.RawMessage(strconv.Itoa(turns))})
	_, err := session.Commit(t.Context(), store, base, Turn("refused"), session.Conditions{
		State: func(s *session.Session) (map[string]json.RawMessage, error) {
			if len(s.State) > 0 {
				return nil, session.ErrStateConflict
			}
			return nil, nil
		},
	})
	wantError(t, "a change that no longer holds", err, session.ErrStateConflict)
	if got := load(t, store, key).Turns; got != turns+1 {
		t.Errorf("%d turns, want %d", got, turns+1)
	}
}

// sessionStateBound: 64 KiB of names and values fit exactly and not a byte more, and a change
// that is refused takes its turn along: a turn whose tool believes to have kept something must
// not be stored without it.
func sessionStateBound(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	whole := json.RawMessage(`"` + strings.Repeat("x", session.MaxStateBytes-3) + `"`)
	many := state{}
	for i := range session.MaxStates + 1 {
		many[fmt.Sprint(i)] = json.RawMessage("1")
	}
	for name, change := range map[string]state{"too many bytes": {"ab": whole}, "too many names": many} {
		err := commitState(t, store, load(t, store, key), name, change, "")
		wantError(t, name, err, session.ErrTooLarge)
	}
	wantState(t, "after changes that were refused", store, key, nil)
	if err := commitState(t, store, load(t, store, key), "two", state{"a": whole}, ""); err != nil {
		t.Errorf("the most bytes: %v", err)
	}
	if got := queries(t, store, key); len(got) != 2 {
		t.Errorf("turns = %q", got)
	}
}

// increment adds 1 to the value name of an owner's state.
//
// It is not idempotent on purpose: an update that is made twice shows in the value.
func increment(t *testing.T, store session.Store, owner session.Owner, name string, since time.Time) error {
	return session.UpdateUser(t.Context(), store, owner, name, since, func(value json.RawMessage) (json.RawMessage, error) {
		n, _ := strconv.Atoi(string(value))
		return json.RawMessage(strconv.Itoa(n + 1)), nil
	})
}

func wantUser(t *testing.T, what string, store session.Store, owner session.Owner, want state) {
	t.Helper()
	u, err := store.LoadUser(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	if u.Owner != owner {
		t.Errorf("%s: owner %q, want %q", what, u.Owner, owner)
	}
	if len(u.Values) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, u.Values); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// userState: updates of one owner's values at once, of one name and of two, are all made; a
// value is removed, an update that fails changes nothing, and after a year without a change
// there is no state. It catches a store that takes a name such as a`.b for a path of fields.
func userState(t *testing.T, store session.Store, clock *Clock) {
	owner, other := newKey().Owner, newKey().Owner
	wantUser(t, "of nobody yet", store, owner, nil)
	const calls = 8
	var group errgroup.Group
	since := clock.Now()
	for i := range calls {
		group.Go(func() error { return increment(t, store, owner, []string{"n", "a`.b"}[i%2], since) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	half := json.RawMessage(strconv.Itoa(calls / 2))
	wantUser(t, "after updates at once", store, owner, state{"n": half, "a`.b": half})
	wantUser(t, "of another owner", store, other, nil)
	remove := func(json.RawMessage) (json.RawMessage, error) { return nil, nil }
	if err := session.UpdateUser(t.Context(), store, owner, "n", since, remove); err != nil {
		t.Fatal(err)
	}
	wantUser(t, "after a removal", store, owner, state{"a`.b": half})
	refused := errors.New("refused")
	err := session.UpdateUser(t.Context(), store, owner, "n", since, func(json.RawMessage) (json.RawMessage, error) { return nil, refused })
	wantError(t, "an update that fails", err, refused)
	clock.Advance(session.UserLife + time.Second)
	wantUser(t, "once it has expired", store, owner, nil)
	if err := increment(t, store, owner, "n", clock.Now()); err != nil {
		t.Fatal(err)
	}
	wantUser(t, "in the place of an expired one", store, owner, state{"n": json.RawMessage("1")})
}

// userStateLost is lostAnswer for users' state, twice in a row: the second update must neither
// be taken for the first, which changed the same name, nor erase it.
func userStateLost(t *testing.T, store session.Store, clock *Clock) {
	for _, lose := range [][]bool{{true}, {false}, {false, true}, {true, true}, {false, false, true}} {
		owner := newKey().Owner
		for range 2 {
			if err := increment(t, &lossyStore{store, lose}, owner, "n", clock.Now()); err != nil {
				t.Fatal(err)
			}
		}
		wantUser(t, fmt.Sprint(lose), store, owner, state{"n": json.RawMessage("2")})
	}
}

// userStateDeleted: after a deletion of everything, a tool of a turn that was running writes
// nothing back, not even for an owner who had no state, where only a tombstone can be in the
// way. A turn that began later may write, and that must not lift the bar for the earlier one.
func userStateDeleted(t *testing.T, store session.Store, clock *Clock) {
	owner, other, late := newKey().Owner, newKey().Owner, newKey().Owner
	since := clock.Now()
	for _, o := range []session.Owner{owner, other} {
		if err := increment(t, store, o, "n", since); err != nil {
			t.Fatal(err)
		}
	}
	read, err := store.LoadUser(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []session.Owner{owner, late} {
		if err := store.DeleteAll(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		wantUser(t, "after the deletion", store, o, nil)
		wantError(t, "an update by a turn that was running", increment(t, store, o, "n", since), session.ErrNotFound)
	}
	wantError(t, "a write on what was read before", store.ApplyUser(t.Context(), read, session.UserChange{ID: "x", Name: "n"}), session.ErrChanged)
	wantUser(t, "of another owner", store, other, state{"n": json.RawMessage("1")})
	if err := increment(t, store, owner, "n", clock.Now()); err != nil {
		t.Errorf("an update by a later turn: %v", err)
	}
	wantError(t, "again by the turn that was running", increment(t, store, owner, "n", since), session.ErrNotFound)
	wantUser(t, "after a later turn", store, owner, state{"n": json.RawMessage("1")})
}

// userStateBound: the largest state, 12 values of 64 KiB, fits what the store keeps it in, and
// one byte or name more is refused before it is written.
func userStateBound(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	set := func(name string, size int) error {
		return session.UpdateUser(t.Context(), store, owner, name, clock.Now(), func(json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`), nil
		})
	}
	for i := range session.MaxStates {
		if err := set(fmt.Sprint(i), session.MaxStateBytes); err != nil {
			t.Fatalf("the most bytes under name %d: %v", i+1, err)
		}
	}
	wantError(t, "one name more", set("more", 3), session.ErrTooLarge)
	wantError(t, "one byte more", set("0", session.MaxStateBytes+1), session.ErrTooLarge)
	u, err := store.LoadUser(t.Context(), owner)
	if err != nil || len(u.Values) != session.MaxStates || len(u.Values["0"]) != session.MaxStateBytes {
		t.Errorf("%d names, %v", len(u.Values), err)
	}
}
