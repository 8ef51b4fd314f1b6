package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

var errBroken = errors.New("broken")

// brokenStore fails with errBroken where load, turns, user or run is true, and writes fail
// with write.
type brokenStore struct {
	session.Store
	load, turns, user, run bool
	write                  error
	writes                 int
}

func (s *brokenStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	if s.load {
		return nil, errBroken
	}
	return s.Store.Load(ctx, key)
}

func (s *brokenStore) Turns(ctx context.Context, key session.Key, after, limit int) (session.Meta, []session.Record, error) {
	if s.turns {
		return session.Meta{}, nil, errBroken
	}
	return s.Store.Turns(ctx, key, after, limit)
}

func (s *brokenStore) LoadUser(ctx context.Context, owner session.Owner) (*session.User, error) {
	if s.user {
		return nil, errBroken
	}
	return s.Store.LoadUser(ctx, owner)
}

func (s *brokenStore) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	if s.run {
		return nil, errBroken
	}
	return s.Store.LoadRun(ctx, key, id)
}

func (s *brokenStore) ListRuns(ctx context.Context, owner session.Owner, filter session.RunFilter, limit int, cursor string) ([]*session.Run, string, error) {
	if s.run {
		return nil, "", errBroken
	}
	return s.Store.ListRuns(ctx, owner, filter, limit, cursor)
}

func (s *brokenStore) ApplyUser(ctx context.Context, u *session.User, c session.UserChange) error {
	s.writes++
	if s.write != nil {
		return s.write
	}
	return s.Store.ApplyUser(ctx, u, c)
}

func (s *brokenStore) Apply(ctx context.Context, of *session.Session, c session.Change) (*session.Session, error) {
	s.writes++
	if s.write != nil {
		return nil, s.write
	}
	return s.Store.Apply(ctx, of, c)
}

// What a store cannot read is an error for who needs it, and is not taken for absent.
func TestAStoreThatCannotBeRead(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	memory := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	owner := session.OwnerOf("caller", "")
	idem := session.Idempotency{Key: "key", Body: "body", Lease: time.Hour}
	o, err := session.Open(t.Context(), memory, owner, "", idem, nil, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	key := session.Key{Owner: owner, ID: session.NewID()}
	if _, err := session.Commit(t.Context(), memory, session.New(key), sessiontest.Turn("q"), session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	archived, err := memory.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	full := *archived // as if it had so many keys that there are pages of them
	full.Keys = map[string]session.KeyEntry{}
	for i := range 1500 {
		full.Keys[fmt.Sprint(i)] = session.KeyEntry{}
	}
	archived.Recent = nil
	late, err := memory.SaveRun(t.Context(), &session.Run{Key: key, ID: session.NewID(), State: session.Working})
	if err != nil {
		t.Fatal(err)
	}
	run := &session.Run{Key: o.Session.Key, ID: session.NewID(), KeyHash: o.Claim.Hash()}
	changed := fmt.Errorf("x: %w", session.ErrChanged)
	for name, tt := range map[string]struct {
		store brokenStore
		call  func(context.Context, session.Store) error
	}{
		"the session of a turn": {brokenStore{load: true}, func(ctx context.Context, s session.Store) error {
			_, err := session.Find(ctx, s, key, "i")
			return err
		}},
		"archived turns, to go back": {brokenStore{turns: true}, func(ctx context.Context, s session.Store) error {
			_, _, err := session.Before(ctx, s, archived, 1)
			return err
		}},
		"a record": {brokenStore{run: true}, func(ctx context.Context, s session.Store) error {
			_, err := session.LoadRun(ctx, s, key, late.ID)
			return err
		}},
		"the owner of a record": {brokenStore{user: true}, func(ctx context.Context, s session.Store) error {
			_, err := session.LoadRun(ctx, s, key, late.ID)
			return err
		}},
		"a list of records": {brokenStore{run: true}, func(ctx context.Context, s session.Store) error {
			_, _, err := session.ListRuns(ctx, s, owner, session.RunFilter{}, 10, "")
			return err
		}},
		"the owner of records": {brokenStore{user: true}, func(ctx context.Context, s session.Store) error {
			_, _, err := session.ListRuns(ctx, s, owner, session.RunFilter{}, 10, "")
			return err
		}},
		"a user's state": {brokenStore{user: true}, func(ctx context.Context, s session.Store) error {
			return session.UpdateUser(ctx, s, owner, "n", clock.Now(), func(v json.RawMessage) (json.RawMessage, error) { return v, nil })
		}},
		"the session of a key": {brokenStore{load: true}, func(ctx context.Context, s session.Store) error {
			_, err := session.Open(ctx, s, owner, key.ID, idem, nil, clock.Now)
			return err
		}},
		"a new session of a key that is there": {brokenStore{load: true, write: changed}, func(ctx context.Context, s session.Store) error {
			_, err := session.Open(ctx, s, owner, "", idem, nil, clock.Now)
			return err
		}},
		"a page of keys": {brokenStore{load: true}, func(ctx context.Context, s session.Store) error {
			_, err := session.HasKey(ctx, s, &full, "key", clock.Now())
			return err
		}},
		"the session in which a run begins": {brokenStore{load: true, write: changed}, func(ctx context.Context, s session.Store) error {
			_, _, err := session.Begin(ctx, s, o.Session, o.Claim, run)
			return err
		}},
		"the record that was begun": {brokenStore{run: true}, func(ctx context.Context, s session.Store) error {
			other := *run // which is stored
			other.ID = session.NewID()
			_, _, err := session.Begin(ctx, s, o.Session, o.Claim, &other)
			return err
		}},
		"the session whose key is given back": {brokenStore{load: true, write: changed}, func(ctx context.Context, s session.Store) error {
			return session.Release(ctx, s, o.Session, o.Claim)
		}},
		"the session of a turn that came second": {brokenStore{load: true, write: changed}, func(ctx context.Context, s session.Store) error {
			_, err := session.Commit(ctx, s, session.New(key), sessiontest.Turn("q"), session.Conditions{})
			return err
		}},
		"the record of a turn that came second": {brokenStore{run: true, write: changed}, func(ctx context.Context, s session.Store) error {
			_, err := session.Commit(ctx, s, session.New(key), sessiontest.Turn("q"), session.Conditions{Run: late})
			return err
		}},
		"the session of a title": {brokenStore{load: true}, func(ctx context.Context, s session.Store) error {
			return session.Rename(ctx, s, key, "title")
		}},
	} {
		store := tt.store
		store.Store = memory
		if err := tt.call(t.Context(), &store); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := session.LoadRun(t.Context(), memory, key, session.NewID()); !errors.Is(err, session.ErrNoRun) {
		t.Errorf("no record: %v", err)
	}
}

// A turn that another holder of its run has stored is no success; one in which an effect began
// is replaced only by its own run.
func TestATurnThatIsAnothers(t *testing.T) {
	t.Parallel()
	memory := session.NewMemory(sessiontest.TTL, session.MemoryLimit, time.Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	turn := sessiontest.Turn("q")
	turn.Epoch, turn.Effects = 2, true
	if _, err := session.Commit(t.Context(), memory, session.New(key), turn, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	earlier := turn
	earlier.Epoch = 1
	if _, err := session.Commit(t.Context(), memory, session.New(key), earlier, session.Conditions{}); !errors.Is(err, session.ErrFenced) {
		t.Errorf("of an earlier epoch: %v", err)
	}
	s, err := memory.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), memory, s, sessiontest.Turn("other"), session.Conditions{Replace: turn.ID}); !errors.Is(err, session.ErrReplaced) {
		t.Errorf("instead of one with an effect: %v", err)
	}
	next := turn
	next.Epoch = 3
	if meta, err := session.Commit(t.Context(), memory, s, next, session.Conditions{Replace: turn.ID}); err != nil || meta.Turns != 1 {
		t.Errorf("by its own run: %+v, %v", meta, err)
	}
}

// A title is written once, as long as the session changes in between up to 24 times, and not
// at all if it is there.
func TestTheWritesOfATitle(t *testing.T) {
	t.Parallel()
	memory := session.NewMemory(sessiontest.TTL, session.MemoryLimit, time.Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	if _, err := session.Commit(t.Context(), memory, session.New(key), sessiontest.Turn("title"), session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		title  string
		write  error
		writes int
		want   error
	}{
		"the title that it has":      {"title", nil, 0, nil},
		"it changes again and again": {"another", fmt.Errorf("x: %w", session.ErrChanged), 24, session.ErrChanged},
		"it cannot be written":       {"another", errBroken, 1, errBroken},
	} {
		store := &brokenStore{Store: memory, write: tt.write}
		if err := session.Rename(t.Context(), store, key, tt.title); !errors.Is(err, tt.want) || store.writes != tt.writes {
			t.Errorf("%s: %v after %d writes", name, err, store.writes)
		}
	}
	if err := memory.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := session.Rename(t.Context(), memory, key, "deleted"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a deleted session: %v", err)
	}
}

// How long a record was not written is the store's to know.
func TestHowLongARunIsSilent(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	saved, err := store.SaveRun(t.Context(), &session.Run{Key: key, ID: session.NewID(), State: session.Working, Holder: "h"})
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute)
	loaded, err := store.LoadRun(t.Context(), key, saved.ID)
	listed, _, listErr := store.ListRuns(t.Context(), key.Owner, session.RunFilter{}, 10, "")
	if err := errors.Join(err, listErr); err != nil {
		t.Fatal(err)
	}
	if loaded.Silent < time.Minute || len(listed) != 1 || listed[0].Silent < time.Minute {
		t.Errorf("silent for %v, and %+v", loaded.Silent, listed)
	}
}
