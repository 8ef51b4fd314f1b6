package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// A write that fails is tried again 24 times at most, within a few seconds, and not after its
// caller has left; what another try cannot mend is not tried again.
func TestHowOftenAWriteIsTried(t *testing.T) {
	t.Parallel()
	unavailable, refused := fmt.Errorf("x: %w", session.ErrUnavailable), errors.New("refused")
	idem := session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}
	owner := session.OwnerOf("caller", "")
	for name, write := range map[string]func(context.Context, *brokenStore, *session.Opened) error{
		"a turn": func(ctx context.Context, s *brokenStore, o *session.Opened) error {
			_, err := session.Commit(ctx, s, o.Session, sessiontest.Turn("q"), session.Conditions{Claim: o.Claim})
			return err
		},
		"a key of a session": func(ctx context.Context, s *brokenStore, o *session.Opened) error {
			create := idem
			create.Key, create.Create = "another", true
			_, err := session.Open(ctx, s, owner, o.Session.Key.ID, create, nil, time.Now)
			return err
		},
		"a key of a new session": func(ctx context.Context, s *brokenStore, _ *session.Opened) error {
			fresh := idem
			fresh.Key = "another"
			_, err := session.Open(ctx, s, owner, "", fresh, nil, time.Now)
			return err
		},
		"a key that is given back": func(ctx context.Context, s *brokenStore, o *session.Opened) error {
			return session.Release(ctx, s, o.Session, o.Claim)
		},
		"the first record of a run": func(ctx context.Context, s *brokenStore, o *session.Opened) error {
			_, _, err := session.Begin(ctx, s, o.Session, o.Claim, &session.Run{Key: o.Session.Key, ID: session.NewID(), KeyHash: o.Claim.Hash()})
			return err
		},
		"a user's state": func(ctx context.Context, s *brokenStore, _ *session.Opened) error {
			return session.UpdateUser(ctx, s, owner, "n", time.Now(), func(json.RawMessage) (json.RawMessage, error) { return json.RawMessage("1"), nil })
		},
	} {
		// What has begun is not known to have failed; the others have nothing that a caller could
		// ask for again.
		isUnavailable := name != "a key that is given back" && name != "the first record of a run"
		for _, tt := range []struct {
			name     string
			err      error
			patience time.Duration
			most     int
		}{
			{"the store is away", unavailable, time.Hour, 24},
			{"the caller leaves", unavailable, time.Millisecond, 23},
			{"it is refused", refused, time.Hour, 1},
		} {
			t.Run(name+": "+tt.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, time.Now, telemetry.Discard())
					o, err := session.Open(t.Context(), store, owner, "", idem, nil, time.Now)
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
					defer cancel()
					failing := &brokenStore{Store: store, write: tt.err}
					begun := time.Now()
					err = write(ctx, failing, o)
					left := tt.patience < time.Hour
					if !left && (!errors.Is(err, tt.err) || failing.writes != tt.most) || left && (err == nil || failing.writes > tt.most) {
						t.Errorf("%v after %d writes", err, failing.writes)
					}
					if left && (!errors.Is(err, context.DeadlineExceeded) || isUnavailable != errors.Is(err, session.ErrUnavailable)) {
						t.Errorf("the caller has left: %v", err)
					}
					if took := time.Since(begun); took > 10*time.Second || left && took > 10*time.Millisecond {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// Begin returns the record of a run only to its holder: whoever has it by then is another.
func TestARunIsTakenOverAsItBegins(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*session.Run){
		"by another holder":             func(r *session.Run) { r.Holder = "another" },
		"by the same, in another epoch": func(r *session.Run) { r.Epoch++ },
	} {
		store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, time.Now, telemetry.Discard())
		o, err := session.Open(t.Context(), store, session.OwnerOf("caller", ""), "", session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}, nil, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		r := &session.Run{Key: o.Session.Key, ID: session.NewID(), State: session.Working, Holder: "holder", Epoch: 1, KeyHash: o.Claim.Hash(), Request: json.RawMessage(`{}`)}
		taking := &faultyStore{Store: store, after: once(func() error {
			taken, err := store.LoadRun(t.Context(), r.Key, r.ID)
			if err == nil {
				change(taken)
				_, err = store.SaveRun(t.Context(), taken)
			}
			return err
		})}
		if _, stored, err := session.Begin(t.Context(), taking, o.Session, o.Claim, r); !errors.Is(err, session.ErrFenced) || stored != nil {
			t.Errorf("%s: %+v, %v", name, stored, err)
		}
	}
}

// A claim that lapsed may be given back while another call takes it over: the session that was
// only that is gone, and nobody has deleted it.
func TestAClaimGoesAwayWhileItIsTakenOver(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	owner, idem := session.OwnerOf("caller", ""), session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}
	first, err := session.Open(t.Context(), store, owner, "", idem, nil, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour)
	writes := 0
	late := &faultyStore{Store: store, before: func() error {
		if writes++; writes == 2 { // the first finds the claim
			return session.Release(t.Context(), store, first.Session, first.Claim)
		}
		return nil
	}}
	o, err := session.Open(t.Context(), late, owner, "", idem, nil, clock.Now)
	if err != nil || o.Claim == nil || o.Session.KeyedAt.IsZero() || writes != 3 {
		t.Errorf("%+v, %v after %d writes", o, err, writes)
	}
}

// A first turn is stored although the claims that it found in its session's place change, and
// are given back, while it is.
func TestClaimsGoAwayWhileAFirstTurnIsStored(t *testing.T) {
	t.Parallel()
	clock := sessiontest.NewClock()
	store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, clock.Now, telemetry.Discard())
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	claim := func(s *session.Session, name string) *session.Session {
		t.Helper()
		entry := session.KeyEntry{Body: "b", Lease: name, Until: clock.Now().Add(time.Minute), At: clock.Now()}
		s, err := store.Apply(t.Context(), s, session.Change{Key: name, Entry: &entry})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	claimed := claim(session.New(key), "a")
	writes := 0
	changing := &faultyStore{Store: store, before: func() (err error) {
		switch writes++; writes {
		case 1:
			claimed = claim(claimed, "b")
		case 2:
			_, err = store.Apply(t.Context(), claimed, session.Change{Remove: true})
		}
		return err
	}}
	meta, err := session.Commit(t.Context(), changing, claimed, sessiontest.Turn("q"), session.Conditions{})
	if err != nil || meta.Turns != 1 || writes != 3 {
		t.Errorf("turn %d, %v after %d writes", meta.Turns, err, writes)
	}
}

// unreachable loses its first write, which does not happen, and the first read after it.
type unreachable struct {
	session.Store
	calls int
}

func (s *unreachable) reach() error {
	if s.calls++; s.calls > 2 {
		return nil
	}
	return fmt.Errorf("lost: %w", session.ErrUnavailable)
}

func (s *unreachable) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	if err := s.reach(); err != nil {
		return nil, err
	}
	return s.Store.Load(ctx, key)
}

func (s *unreachable) Apply(ctx context.Context, of *session.Session, c session.Change) (*session.Session, error) {
	if err := s.reach(); err != nil {
		return nil, err
	}
	return s.Store.Apply(ctx, of, c)
}

// A store that is away when it is asked what has become of a write is asked again.
func TestAReadThatFailsIsMadeAgain(t *testing.T) {
	t.Parallel()
	idem := session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}
	for name, write := range map[string]func(session.Store, *session.Opened) error{
		"a turn": func(s session.Store, o *session.Opened) error {
			_, err := session.Commit(t.Context(), s, o.Session, sessiontest.Turn("q"), session.Conditions{Claim: o.Claim})
			return err
		},
		"a key that is given back": func(s session.Store, o *session.Opened) error {
			return session.Release(t.Context(), s, o.Session, o.Claim)
		},
		"the first record of a run": func(s session.Store, o *session.Opened) error {
			_, _, err := session.Begin(t.Context(), s, o.Session, o.Claim, &session.Run{Key: o.Session.Key, ID: session.NewID(), KeyHash: o.Claim.Hash()})
			return err
		},
	} {
		store := session.NewMemory(sessiontest.TTL, session.MemoryLimit, time.Now, telemetry.Discard())
		o, err := session.Open(t.Context(), store, session.OwnerOf("caller", ""), "", idem, nil, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(&unreachable{Store: store}, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
