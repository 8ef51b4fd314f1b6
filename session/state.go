package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// State is what tools keep between calls, as named JSON values. That of a session is
// in the session and changes only with a turn; that of an owner, a [User], is beside
// the sessions and outlives them.

const (
	// MaxStateBytes bounds the values of a session's state together, and each value of a
	// user's, in bytes.
	MaxStateBytes = 64 << 10
	// MaxStates bounds the names in a session's state, and in a user's: together they
	// must fit in one document of 1 MiB.
	MaxStates = 12
)

// ErrStateConflict: the session's state has changed since it was loaded, so that what
// the turn did with it no longer holds.
var ErrStateConflict = errors.New("session's state has changed since it was loaded")

// CheckState returns an error that wraps [ErrTooLarge] if a session cannot hold state.
func CheckState(state map[string]json.RawMessage) error {
	size := 0
	for name, value := range state {
		size += len(name) + len(value)
	}
	switch {
	case len(state) > MaxStates:
		return fmt.Errorf("%d names in a state, more than %d: %w", len(state), MaxStates, ErrTooLarge)
	case size > MaxStateBytes:
		return fmt.Errorf("a state of %d bytes, more than %d: %w", size, MaxStateBytes, ErrTooLarge)
	}
	return nil
}

// changeState returns state after changes, in which nil removes a name, and the
// changes that restore it. It modifies neither.
func changeState(state, changes map[string]json.RawMessage) (after, undo map[string]json.RawMessage) {
	if len(changes) == 0 {
		return state, nil
	}
	after, undo = maps.Clone(state), make(map[string]json.RawMessage, len(changes))
	if after == nil {
		after = make(map[string]json.RawMessage, len(changes))
	}
	for name, value := range changes {
		before := state[name]
		if bytes.Equal(before, value) {
			continue
		}
		undo[name] = before
		if isNull(value) {
			delete(after, name)
		} else {
			after[name] = value
		}
	}
	return after, undo
}

// isNull reports whether value removes a name: nil, and what nil is once it was stored.
func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }

// A User is a snapshot of an owner's state. It is immutable.
type User struct {
	Owner  Owner
	Values map[string]json.RawMessage

	UpdatedAt, ExpiresAt time.Time
	DeletedAt            time.Time // of the last [Store.DeleteAll]; zero: none is known
	Writes               []string  // ids of the latest changes, the last one last

	// Revision is set by the store and compared by its conditional writes. It is nil if
	// nothing is stored.
	Revision any
}

// UserLife is how long an owner's state is kept after its last change.
const UserLife = 365 * 24 * time.Hour

// maxWrites bounds [User.Writes]: more changes than there can be in the seconds for
// which an update is retried.
const maxWrites = 64

// A UserChange is the content of one conditional write of an owner's state.
type UserChange struct {
	ID    string // made once per update, the same in every retry
	Name  string
	Value json.RawMessage // nil removes Name
}

// After returns the state that results from applying c to u at now. The Revision is
// still that of u.
func (u *User) After(c UserChange, now time.Time) (*User, error) {
	if len(c.Value) > MaxStateBytes {
		return nil, fmt.Errorf("a state of %d bytes, more than %d: %w", len(c.Value), MaxStateBytes, ErrTooLarge)
	}
	after := *u
	after.Values, _ = changeState(u.Values, map[string]json.RawMessage{c.Name: c.Value})
	if len(after.Values) > MaxStates {
		return nil, fmt.Errorf("%d names in a state, more than %d: %w", len(after.Values), MaxStates, ErrTooLarge)
	}
	after.UpdatedAt, after.ExpiresAt = now, now.Add(UserLife)
	after.Writes = append(slices.Clone(u.Writes[max(0, len(u.Writes)-maxWrites+1):]), c.ID)
	return &after, nil
}

// bytes is about what u takes in memory.
func (u *User) bytes() int64 {
	size := int64(sessionOverhead)
	for name, value := range u.Values {
		size += int64(len(name) + len(value))
	}
	return size
}

// Mark returns what DeleteAll leaves of an owner's state at now: for [KeyLife], a turn
// that was running must not bring it back.
func (u *User) Mark(now time.Time) *User {
	return &User{Owner: u.Owner, UpdatedAt: now, DeletedAt: now, ExpiresAt: now.Add(KeyLife)}
}

// UpdateUser replaces a value of an owner's state by what f returns for it, exactly
// once: nil for none, in both directions. If another update comes first, f is called
// again with that one's value. An error of f ends the update.
//
// The error is [ErrNotFound] if the owner's state was deleted after since, when the
// turn began that updates it.
func UpdateUser(ctx context.Context, store Store, owner Owner, name string, since time.Time, f func(json.RawMessage) (json.RawMessage, error)) error {
	c := UserChange{ID: NewID(), Name: name}
	for try := 1; ; try++ {
		u, err := store.LoadUser(ctx, owner)
		if err == nil {
			if slices.Contains(u.Writes, c.ID) {
				return nil // an earlier try, whose response was lost
			}
			if !since.After(u.DeletedAt) {
				return fmt.Errorf("updating a user's state: %w", ErrNotFound)
			}
			if c.Value, err = f(u.Values[name]); err != nil {
				return err
			}
			err = store.ApplyUser(ctx, u, c)
		}
		switch {
		case err == nil:
			return nil
		case !again(err):
			return err
		case try == commitTries:
			return fmt.Errorf("updating a user's state, %d times: %w", try, err)
		}
		if ended := pause(ctx, try); ended != nil {
			return fmt.Errorf("updating a user's state, %d times: %w", try, errors.Join(ended, err))
		}
	}
}
