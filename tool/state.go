package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"example.com/gatehouse/internal/exactjson"
)

// A State is a value of the type T that tools keep between calls, as JSON, under its
// name. [SessionState] and [UserState] make one, usually as a package's variable.
// It holds nothing itself: which session's or user's value it stands for is in the
// context. It is safe for concurrent use.
type State[T any] struct {
	name string
	user bool
}

// SessionState returns the state of the session that a tool works in, such as a
// shopping cart. It is stored with the turn, in the same write: a turn that is not
// stored changes nothing, one that is regenerated begins with the state before it, and
// it is deleted with the session. The states of a session have at most 64 KiB together,
// under at most 12 names.
//
// If another turn of the session is stored first and has changed the same state, the
// functions of [State.Update] are called again, with that turn's value.
//
// It panics at a name that is not 1 to 40 letters, digits, _ or -, a letter first.
func SessionState[T any](name string) State[T] { return newState[T](name, false) }

// UserState returns the state of the end user that a tool works for, or of the caller
// if that names none, such as a profile: in all sessions, kept for a year after its
// last change, deleted when the user deletes all sessions. Each [State.Update] is one
// conditional write, at once, even if the turn fails. A state has at most
// 64 KiB, a user at most 12 of them.
//
// It panics at a name that [SessionState] does not take.
func UserState[T any](name string) State[T] { return newState[T](name, true) }

const maxStateName = 40

// validStateName reports whether name can be a state's. It is a member of documents too,
// where a store may reserve names that begin with _.
func validStateName(name string) bool {
	letter := func(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
	for i := range len(name) {
		if c := name[i]; !letter(c) && (i == 0 || c != '_' && c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return name != "" && len(name) <= maxStateName
}

func newState[T any](name string, user bool) State[T] {
	if !validStateName(name) {
		panic(fmt.Sprintf("tool: %q is not a valid name for a state: 1 to %d letters, digits, _ or -, a letter first", name, maxStateName))
	}
	return State[T]{name, user}
}

// ErrStateForm: what is stored cannot be read as the type of the state, or not without
// loss. Another version of the program has stored it.
var ErrStateForm = errors.New("the stored state has a form that this version of the program does not know")

var errNoStates = errors.New("there is no state outside of a turn")

// Get returns the value, the zero T if there is none. Members of the stored JSON that T
// does not have are passed over.
func (s State[T]) Get(ctx context.Context) (value T, err error) {
	states, err := statesOf(ctx)
	if err != nil {
		return value, err
	}
	raw, err := states.LoadState(ctx, s.user, s.name)
	if err != nil {
		return value, fmt.Errorf("reading the state %s: %w", s.name, err)
	}
	if err := decodeState(raw, &value); err != nil {
		var zero T
		return zero, fmt.Errorf("reading the state %s: %w", s.name, err)
	}
	return value, nil
}

// Update changes the value by f, which gets a pointer to it, to the zero T if there is
// none. An error of f changes nothing. f may be called more than once, each time with
// another value, so it only changes the value that it is given.
//
// Members of the stored JSON that T does not have are kept, so that a program of
// another version may add some; where that cannot be done, in a list for instance, or where
// a number would lose digits, the error is [ErrStateForm].
func (s State[T]) Update(ctx context.Context, f func(*T) error) error {
	states, err := statesOf(ctx)
	if err != nil {
		return err
	}
	err = states.UpdateState(ctx, s.user, s.name, func(raw json.RawMessage) (json.RawMessage, error) {
		var value T
		if err := decodeState(raw, &value); err != nil {
			return nil, err
		}
		unknown, err := unknownMembers(raw, value)
		if err != nil {
			return nil, err
		}
		if err := f(&value); err != nil {
			return nil, err
		}
		changed, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encoding it: %w", err)
		}
		return addMembers(changed, unknown)
	})
	if err != nil {
		return fmt.Errorf("changing the state %s: %w", s.name, err)
	}
	return nil
}

// Delete removes the value, of any form.
func (s State[T]) Delete(ctx context.Context) error {
	states, err := statesOf(ctx)
	if err != nil {
		return err
	}
	none := func(json.RawMessage) (json.RawMessage, error) { return nil, nil }
	if err := states.UpdateState(ctx, s.user, s.name, none); err != nil {
		return fmt.Errorf("deleting the state %s: %w", s.name, err)
	}
	return nil
}

// decodeState decodes raw into value. The error holds nothing of what is stored: a model may
// read it.
func decodeState[T any](raw json.RawMessage, value *T) error {
	if len(raw) > 0 && json.Unmarshal(raw, value) != nil {
		return ErrStateForm
	}
	return nil
}

// unknownMembers returns the members of the object raw that value, which was decoded
// from it, does not hold. The error is [ErrStateForm] if there are some further inside,
// or if a number has lost digits.
func unknownMembers(raw json.RawMessage, value any) (map[string]json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	again, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encoding it: %w", err)
	}
	stored, known := decodeDigits(raw), decodeDigits(again)
	object, ok := stored.(map[string]any)
	if !ok {
		if loses(stored, known) {
			return nil, ErrStateForm
		}
		return nil, nil
	}
	knownObject, _ := known.(map[string]any)
	var members, unknown map[string]json.RawMessage
	for name, member := range object {
		if in, ok := lookup(knownObject, name); ok {
			if loses(member, in) {
				return nil, ErrStateForm
			}
			continue
		}
		if members == nil {
			if err := json.Unmarshal(raw, &members); err != nil {
				return nil, ErrStateForm
			}
			unknown = map[string]json.RawMessage{}
		}
		unknown[name] = members[name]
	}
	return unknown, nil
}

// decodeDigits returns JSON, which was decoded or encoded before, with its numbers as
// written.
func decodeDigits(raw json.RawMessage) (value any) {
	_ = exactjson.Unmarshal(raw, &value) // it cannot fail
	return value
}

// lookup returns the member of an object that encoding/json decodes into the same field as
// name: of that name, or of one that differs in case only.
func lookup[V any](object map[string]V, name string) (member V, ok bool) {
	if member, ok = object[name]; ok {
		return member, true
	}
	for other, member := range object {
		if strings.EqualFold(other, name) {
			return member, true
		}
	}
	return member, false
}

// loses reports whether an object somewhere in stored has a member that known, its
// decoded form, lacks, or a number digits.
func loses(stored, known any) bool {
	switch stored := stored.(type) {
	case map[string]any:
		known, ok := known.(map[string]any)
		if !ok {
			return true
		}
		for name, member := range stored {
			if in, ok := known[name]; ok && loses(member, in) || !ok && !isZero(member) {
				return true
			}
		}
	case []any:
		known, ok := known.([]any)
		if !ok || len(known) < len(stored) {
			return true
		}
		for i, element := range stored {
			if loses(element, known[i]) {
				return true
			}
		}
	case json.Number:
		known, ok := known.(json.Number)
		return ok && exact(stored) != exact(known)
	}
	return false
}

// isZero reports whether omitempty or omitzero leave out a value.
func isZero(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, member := range v {
			if !isZero(member) {
				return false
			}
		}
		return true
	}
	return false
}

// addMembers returns the object raw with more members, but for those that it has: a
// member that omitempty or omitzero had left out may be set now.
func addMembers(raw json.RawMessage, more map[string]json.RawMessage) (json.RawMessage, error) {
	if len(more) == 0 {
		return raw, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return nil, ErrStateForm
	}
	all := maps.Clone(object)
	for name, member := range more {
		if _, ok := lookup(object, name); !ok {
			all[name] = member
		}
	}
	return json.Marshal(all)
}

// States keeps the states of one session and one user, as JSON. The service has one for
// each turn; [MemoryStates] is for tests of tools. Its methods are safe for concurrent
// use.
type States interface {
	// LoadState returns a value, nil if there is none. user is whether it is the user's.
	LoadState(ctx context.Context, user bool, name string) (json.RawMessage, error)

	// UpdateState replaces a value by what f returns for it; nil is none. It may call f
	// more than once. An error of f changes nothing and is returned.
	UpdateState(ctx context.Context, user bool, name string, f func(json.RawMessage) (json.RawMessage, error)) error
}

type statesKey struct{}

// WithStates returns a context in which the state of tools is kept in s.
func WithStates(ctx context.Context, s States) context.Context {
	return context.WithValue(ctx, statesKey{}, s)
}

func statesOf(ctx context.Context) (States, error) {
	s, ok := ctx.Value(statesKey{}).(States)
	if !ok {
		return nil, errNoStates
	}
	return s, nil
}

// MemoryStates returns empty states in memory, for tests of tools. f of UpdateState must
// not use them.
func MemoryStates() States { return &memoryStates{values: map[stateName]json.RawMessage{}} }

type stateName struct {
	user bool
	name string
}

type memoryStates struct {
	mu     sync.Mutex
	values map[stateName]json.RawMessage
}

func (m *memoryStates) LoadState(_ context.Context, user bool, name string) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[stateName{user, name}], nil
}

func (m *memoryStates) UpdateState(_ context.Context, user bool, name string, f func(json.RawMessage) (json.RawMessage, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, err := f(m.values[stateName{user, name}])
	if err == nil {
		m.values[stateName{user, name}] = value
	}
	return err
}
