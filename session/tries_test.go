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
