package sessiontest

import (
	"errors"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

// renaming: a session keeps the title that it was given, its place and its expiry.
//
// A title that was chosen must outlast the turns that follow, since only the first turn of a
// session makes one. Whoever has the id but is another owner renames nothing.
func renaming(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	if err := session.Rename(t.Context(), store, key, "nothing"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a session that is not there: %v", err)
	}
	add(t, store, key, "one")
	before := load(t, store, key)
	clock.Advance(time.Minute)
	if err := session.Rename(t.Context(), store, key, "Grüße 🌍"); err != nil {
		t.Fatal(err)
	}
	if after := load(t, store, key); !after.UpdatedAt.Equal(before.UpdatedAt) || !after.ExpiresAt.Equal(before.ExpiresAt) {
		t.Errorf("a title moved the session from %v to %v, its expiry from %v to %v", before.UpdatedAt, after.UpdatedAt, before.ExpiresAt, after.ExpiresAt)
	}
	add(t, store, key, "two")
	if after := load(t, store, key); after.Title != "Grüße 🌍" || after.Turns != 2 {
		t.Errorf("title %q, %d turns", after.Title, after.Turns)
	}
	if err := session.Rename(t.Context(), store, key, "three"); err != nil {
		t.Fatal(err)
	}
	list, _, err := store.List(t.Context(), key.Owner, 10, "")
	if err != nil || len(list) != 1 || list[0].Title != "three" || !list[0].UpdatedAt.After(before.UpdatedAt) {
		t.Errorf("%+v, %v", list, err)
	}
	other := session.Key{Owner: newKey().Owner, ID: key.ID}
	if err := session.Rename(t.Context(), store, other, "mine"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("another owner: %v", err)
	}
}
