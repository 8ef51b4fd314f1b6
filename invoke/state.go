package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A turn's tools see the session's state as it was loaded, with their own changes. The
// turn's commit writes them. If another turn was stored first and changed the same
// values, the updates are made again, on that turn's values: they are functions, and
// the turn has reported to its model only that they succeeded. If one of them fails then, what
// the turn answered does not hold, and it ends with session_conflict.

// The hard part is that tools run side by side, each reading a value and replacing it by what
// it has made of it, in functions that may block or use the state themselves. So a function
// runs without the lock, and its result counts only if the value is still the one that it was
// called with. The user's state is different: it is one document beside the sessions, updated
// at once, and stays changed if the turn fails.

const (
	// maxUpdates bounds the updates of a session's state in one turn: each is kept until
	// the commit.
	maxUpdates = 1024
	// updateTries bounds how often an update is repeated because another tool of the
	// turn came first, of which at most maxCalls run at once.
	updateTries = 4 * maxCalls
)

// states keeps the state that a turn's tools use. It implements [tool.States].
type states struct {
	store   session.Store
	key     session.Key
	begin   time.Time // of the turn
	log     *slog.Logger
	request string

	mu      sync.Mutex
	base    map[string]json.RawMessage // of the session before the turn
	current map[string]json.RawMessage
	updates []stateUpdate // in order
	sealed  bool          // the turn is being stored
}

// A stateUpdate is a successful update of the session's state.
type stateUpdate struct {
	name string
	f    func(json.RawMessage) (json.RawMessage, error)
}

// newStates returns the state for a turn that follows before; nil for an agent without
// code that could use it.
func (s *Service) newStates(before *session.Session) *states {
	if a := s.Agent; len(a.Tools)+len(a.Toolsets) == 0 && a.Loop == nil && a.Instructions == nil && a.Hooks.Model == nil && a.Hooks.Answer == nil {
		return nil
	}
	return &states{store: s.Store, key: before.Key, begin: s.Now(), log: s.Log, base: before.State, current: before.State}
}

// context returns a context whose tools use st.
func (st *states) context(ctx context.Context) context.Context {
	if st == nil {
		return ctx
	}
	st.request = api.RequestID(ctx)
	return tool.WithStates(ctx, st)
}

// LoadState implements [tool.States].
func (st *states) LoadState(ctx context.Context, user bool, name string) (json.RawMessage, error) {
	if user {
		u, err := st.store.LoadUser(ctx, st.key.Owner)
		if err != nil {
			return nil, st.userFailure(ctx, err)
		}
		return u.Values[name], nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.current[name], nil
}

// The errors of a tool's update, as the model may read them.
var (
	errStateLate        = errors.New("the turn is over")
	errStateBusy        = errors.New("others change it at the same time; try again")
	errStateLarge       = errors.New("it is too large, or there are too many states")
	errStateOften       = errors.New("this turn has changed states too often")
	errStateDeleted     = errors.New("the user has deleted everything since the turn began")
	errStateUnavailable = errors.New("the store does not answer")
)

// UpdateState implements [tool.States]. Its errors are sentences that the model may read.
func (st *states) UpdateState(ctx context.Context, user bool, name string, f func(json.RawMessage) (json.RawMessage, error)) error {
	if user {
		return st.updateUser(ctx, name, f)
	}
	for range updateTries {
		before, _ := st.LoadState(ctx, false, name)
		value, err := f(before) // without the lock: f may use the state, or block
		if err != nil {
			return err
		}
		done, err := st.put(ctx, name, before, value, f)
		if done || err != nil {
			return err
		}
	}
	return errStateBusy
}

// put stores value under name if before is still there.
func (st *states) put(ctx context.Context, name string, before, value json.RawMessage, f func(json.RawMessage) (json.RawMessage, error)) (bool, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case ctx.Err() != nil: // of a tool that was not waited for
		return false, context.Cause(ctx)
	case st.sealed:
		return false, errStateLate
	case len(st.updates) == maxUpdates:
		return false, errStateOften
	case !bytes.Equal(before, st.current[name]):
		return false, nil
	}
	// The session and base have the same map at first, so it is replaced and never changed.
	next := cloned(st.current)
	setState(next, name, value)
	if session.CheckState(next) != nil {
		return false, errStateLarge
	}
	st.current = next
	st.updates = append(st.updates, stateUpdate{name, f})
	return true, nil
}

// cloned returns a copy of m that can be added to, also of a nil m.
func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

func setState(state map[string]json.RawMessage, name string, value json.RawMessage) {
	if len(value) == 0 {
		delete(state, name)
	} else {
		state[name] = value
	}
}

// updateUser updates the user's state at once. An owner's deletion since the turn began is
// respected: the turn must not bring back what was to be forgotten.
func (st *states) updateUser(ctx context.Context, name string, f func(json.RawMessage) (json.RawMessage, error)) error {
	var own error // of f
	err := session.UpdateUser(ctx, st.store, st.key.Owner, name, st.begin, func(value json.RawMessage) (json.RawMessage, error) {
		if value, own = f(value); own != nil {
			return nil, own
		}
		// A tool that is not waited for any more writes nothing.
		return value, ctx.Err()
	})
	if err == nil || own != nil {
		return err
	}
	return st.userFailure(ctx, err)
}

// userFailure returns what a tool, and so the model, sees of an error of the store. The
// store's own text may name the project, so it goes to the log only.
func (st *states) userFailure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, session.ErrNotFound):
		return errStateDeleted
	case errors.Is(err, session.ErrTooLarge):
		return errStateLarge
	case errors.Is(err, session.ErrChanged):
		return errStateBusy
	}
	st.log.WarnContext(ctx, "The store did not answer for a user's state.", "error", err.Error(), "request_id", st.request)
	return errStateUnavailable
}

// seal ends the tools' changes. It returns the condition for the commit, which runs in
// ctx; nil if nothing was changed. A tool that has outlived its call gets an error from then
// on, instead of a success that would not be stored.
func (st *states) seal(ctx context.Context) func(*session.Session) (map[string]json.RawMessage, error) {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sealed = true
	if len(st.updates) == 0 {
		return nil
	}
	return func(s *session.Session) (map[string]json.RawMessage, error) { return st.changes(ctx, s) }
}

// changes returns what the turn changes in the state of the session that it is appended
// to. It is called again each time that the commit meets another turn, with the session as
// that one left it. It takes no lock: after seal, nothing changes.
func (st *states) changes(ctx context.Context, s *session.Session) (map[string]json.RawMessage, error) {
	result := st.current
	if slices.ContainsFunc(st.updates, func(u stateUpdate) bool { return !bytes.Equal(st.base[u.name], s.State[u.name]) }) {
		again, cancel := detach(ctx, commitTimeout)
		defer cancel()
		var err error
		if result, err = st.apply(again, s.State); err != nil {
			return nil, fmt.Errorf("%w: %w", session.ErrStateConflict, err)
		}
	}
	changes := map[string]json.RawMessage{}
	for _, u := range st.updates {
		changes[u.name] = result[u.name]
	}
	return changes, nil
}

// apply makes the turn's updates again, on state. It returns when ctx ends even if one of
// them does not, so that the agent's code cannot hold up the commit.
func (st *states) apply(ctx context.Context, state map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	next := cloned(state)
	err := callOwn(ctx, func() error {
		for _, u := range st.updates {
			value, err := u.f(next[u.name])
			if err != nil {
				return err
			}
			setState(next, u.name, value)
		}
		return session.CheckState(next)
	})
	if err != nil {
		return nil, err // next may still be written to
	}
	return next, nil
}

// callOwn calls f, the agent's own code, and returns when it has returned or ctx ends:
// Go cannot stop code that ignores its context. A panic is a [*rescue.Panic]. What f
// writes to may be read only if it has returned.
func callOwn(ctx context.Context, f func() error) error {
	done := make(chan error, 1) // buffered, because nobody may receive
	go func() { done <- rescue.Call(f) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// callStates are the states that one call uses. They note what the call changes.
type callStates struct {
	*states

	noting sync.Mutex
	noted  map[string]bool // names of values
}

// UpdateState implements [tool.States].
func (c *callStates) UpdateState(ctx context.Context, user bool, name string, f func(json.RawMessage) (json.RawMessage, error)) error {
	err := c.states.UpdateState(ctx, user, name, f)
	if err != nil || user {
		return err
	}
	c.noting.Lock()
	defer c.noting.Unlock()
	if c.noted == nil {
		c.noted = map[string]bool{}
	}
	c.noted[name] = true
	return nil
}

// made returns what the call has changed in the session's state; null is a value that was
// removed. A nil c has changed nothing.
func (c *callStates) made() map[string]json.RawMessage {
	if c == nil {
		return nil
	}
	c.noting.Lock()
	defer c.noting.Unlock()
	made := c.changed()
	maps.DeleteFunc(made, func(name string, _ json.RawMessage) bool { return !c.noted[name] })
	return made
}

// changed returns the values that the turn's tools have changed so far; null is one that
// was removed.
func (st *states) changed() map[string]json.RawMessage {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	changed := map[string]json.RawMessage{}
	for _, u := range st.updates {
		changed[u.name] = json.RawMessage("null")
		if value, ok := st.current[u.name]; ok {
			changed[u.name] = value
		}
	}
	return changed
}

// restore makes the changes of an earlier holder of the run again. The functions ended with
// the process that had them, so each value is set as it was then: if another turn has changed
// it since, that change is overwritten.
func (st *states) restore(changed map[string]json.RawMessage) {
	if st == nil || len(changed) == 0 {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.current = cloned(st.current)
	for name, value := range changed {
		if string(value) == "null" {
			value = nil
		}
		setState(st.current, name, value)
		st.updates = append(st.updates, stateUpdate{name, func(json.RawMessage) (json.RawMessage, error) { return value, nil }})
	}
}
