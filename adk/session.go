package adk

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/adk/v2/session"
)

// conversation is a session of ADK: one that is loaded, with what has been added since. It
// is safe for concurrent use, as agents side by side have the same one.
type conversation struct {
	app, user, id string

	mu      sync.Mutex
	events  []*session.Event
	state   map[string]any
	updated time.Time

	// load returns the state of a scope with its prefix. It is called once for each scope, when
	// that is first asked for: most turns ask for none.
	load   func(prefix string) (map[string]any, error)
	loaded map[string]bool
}

// newConversation returns a session without events. state is its own state, nil for one that
// is to be loaded, too.
func newConversation(app, user, id string, state map[string]any, load func(prefix string) (map[string]any, error)) *conversation {
	known := state != nil
	if !known {
		state = map[string]any{}
	}
	return &conversation{app: app, user: user, id: id, state: state, load: load, loaded: map[string]bool{"": known}}
}

func (c *conversation) ID() string      { return c.id }
func (c *conversation) AppName() string { return c.app }
func (c *conversation) UserID() string  { return c.user }

func (c *conversation) State() session.State { return stateOf{c} }

func (c *conversation) Events() session.Events {
	c.mu.Lock()
	defer c.mu.Unlock()
	return events(slices.Clip(c.events))
}

func (c *conversation) LastUpdateTime() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.updated
}

// append adds an event and what it changes in the state. The event is kept without what
// holds only for this run.
func (c *conversation) append(e *session.Event) *session.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.state, e.Actions.StateDelta)
	e = withoutTemporary(e)
	c.events = append(c.events, e)
	c.updated = e.Timestamp
	return e
}

// withoutTemporary returns e without changes of the state "temp:".
func withoutTemporary(e *session.Event) *session.Event {
	temporary := func(key string, _ any) bool { return strings.HasPrefix(key, session.KeyPrefixTemp) }
	for key := range e.Actions.StateDelta {
		if temporary(key, nil) {
			kept := *e
			kept.Actions.StateDelta = maps.Clone(e.Actions.StateDelta)
			maps.DeleteFunc(kept.Actions.StateDelta, temporary)
			return &kept
		}
	}
	return e
}

// need loads the state of a scope. The caller holds mu.
func (c *conversation) need(prefix string) error {
	if c.load == nil || c.loaded[prefix] || prefix == session.KeyPrefixTemp {
		return nil
	}
	values, err := c.load(prefix)
	if err != nil {
		return err
	}
	c.loaded[prefix] = true
	for key, value := range values {
		if _, changed := c.state[prefix+key]; !changed { // by this run
			c.state[prefix+key] = value
		}
	}
	return nil
}

// scopes are the prefixes of the states that are not the session's own.
var scopes = []string{session.KeyPrefixUser, session.KeyPrefixApp}

// scopeOf returns the prefix of a key, "" for the session's own.
func scopeOf(key string) string {
	for _, prefix := range append(scopes[:len(scopes):len(scopes)], session.KeyPrefixTemp) {
		if strings.HasPrefix(key, prefix) {
			return prefix
		}
	}
	return ""
}

// stateOf is the state of a conversation.
type stateOf struct{ c *conversation }

func (s stateOf) Get(key string) (any, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.c.need(scopeOf(key)); err != nil {
		return nil, err
	}
	value, ok := s.c.state[key]
	if !ok {
		return nil, session.ErrStateKeyNotExist
	}
	return value, nil
}

func (s stateOf) Set(key string, value any) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.state[key] = value
	return nil
}

// All implements [session.State]. A scope that cannot be read is left out: the interface has
// no error.
func (s stateOf) All() iter.Seq2[string, any] {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, prefix := range append([]string{""}, scopes...) {
		_ = s.c.need(prefix)
	}
	return maps.All(maps.Clone(s.c.state))
}

type events []*session.Event

func (e events) All() iter.Seq[*session.Event] { return slices.Values(e) }
func (e events) Len() int                      { return len(e) }
func (e events) At(i int) *session.Event {
	if i < 0 || i >= len(e) {
		return nil
	}
	return e[i]
}

// byScope splits what an event changes in the state by the scope of the keys; the keys lose
// their prefix. What holds only for the run is left out.
func byScope(delta map[string]any) map[string]map[string]any {
	split := map[string]map[string]any{}
	for key, value := range delta {
		scope := scopeOf(key)
		if scope == session.KeyPrefixTemp {
			continue
		}
		if split[scope] == nil {
			split[scope] = map[string]any{}
		}
		split[scope][strings.TrimPrefix(key, scope)] = value
	}
	return split
}

// stateName names what ADK keeps of a scope among the gate's states. Its value is an object
// of all keys.
const stateName = "adk"

// merge returns the object raw with changes.
func merge(raw json.RawMessage, changes map[string]any) (json.RawMessage, error) {
	object, err := objectOf(raw)
	if err != nil {
		return nil, err
	}
	maps.Copy(object, changes)
	return json.Marshal(object)
}

var errStateForm = errors.New("adk: the stored state is not one of ADK's")

// objectOf returns the object in raw, empty for none.
func objectOf(raw json.RawMessage) (map[string]any, error) {
	object := map[string]any{}
	if len(raw) == 0 {
		return object, nil
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, errStateForm
	}
	return object, nil
}

// turnSessions is ADK's session service within a turn: there is the session of the turn and
// no other, and nothing is written before the turn's commit.
type turnSessions struct{}

var errOtherSession = errors.New("adk: a turn has the session that it is of, and no other")

func (turnSessions) Get(ctx context.Context, req *session.GetRequest) (*session.GetResponse, error) {
	t := turnOf(ctx)
	switch {
	case t == nil:
		return nil, errNoTurn
	case req.SessionID != t.session.id || req.UserID != t.session.user || req.AppName != t.session.app:
		return nil, errOtherSession
	}
	return &session.GetResponse{Session: t.session}, nil
}

func (turnSessions) AppendEvent(ctx context.Context, s session.Session, e *session.Event) error {
	t := turnOf(ctx)
	switch {
	case t == nil:
		return errNoTurn
	case s != session.Session(t.session):
		return errOtherSession
	case e == nil || e.Partial:
		return nil
	}
	return t.append(e)
}

func (turnSessions) Create(context.Context, *session.CreateRequest) (*session.CreateResponse, error) {
	return nil, errOtherSession
}

func (turnSessions) List(context.Context, *session.ListRequest) (*session.ListResponse, error) {
	return nil, errOtherSession
}

func (turnSessions) Delete(context.Context, *session.DeleteRequest) error { return errOtherSession }
