package adk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"google.golang.org/adk/v2/session"
	"google.golang.org/genai"

	store "example.com/gatehouse/session"
)

// Sessions returns ADK's session service on a store of the gate, for what runs ADK without
// the gate: ADK's own servers, tests, a move of sessions. Each event is a turn, and so one
// conditional write. Behind the gate agents need none: there the turn has its session.
//
// A session belongs to its app and user, as ADK names them; nothing here verifies who they
// are. State of a user and of the app is kept for a year after its last change, and has at
// most 64 KiB each, as a session's has.
func Sessions(s store.Store) session.Service { return sessions{s} }

type sessions struct{ store store.Store }

var errNames = errors.New("adk: a session needs the names of its app and user")

// What is stored of an app and a user beside ADK's state.
const (
	ownerPrefix = "adk:"  // of callers, which have none like it
	usersName   = "users" // the app's directory
)

func ownerOf(app, user string) store.Owner { return store.OwnerOf(ownerPrefix+app, "user:"+user) }
func ownerOfApp(app string) store.Owner    { return store.OwnerOf(ownerPrefix+app, "") }

// ownerOfScope returns whose the state of a scope is that is not the session's own.
func ownerOfScope(prefix, app, user string) store.Owner {
	if prefix == session.KeyPrefixApp {
		return ownerOfApp(app)
	}
	return ownerOf(app, user)
}

func keyOf(app, user, id string) store.Key { return store.Key{Owner: ownerOf(app, user), ID: id} }

// A directory has the users of an app.
type directory struct {
	Users []string `json:"users"`
	Full  bool     `json:"full,omitempty"` // there are more, which cannot be listed
}

func (s sessions) Create(ctx context.Context, req *session.CreateRequest) (*session.CreateResponse, error) {
	if req.AppName == "" || req.UserID == "" {
		return nil, errNames
	}
	id := req.SessionID
	if id == "" {
		id = store.NewID()
	}
	key := keyOf(req.AppName, req.UserID, id)
	current, err := s.store.Load(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		current = store.New(key)
	case err != nil:
		return nil, err
	case current.Exists():
		return nil, fmt.Errorf("adk: the session %q exists", id)
	}
	if err := s.register(ctx, req.AppName, req.UserID); err != nil {
		return nil, err
	}
	none := 0
	if err := s.commit(ctx, current, nil, req.State, &none); err != nil {
		if errors.Is(err, store.ErrTurnCount) {
			err = fmt.Errorf("adk: the session %q exists", id)
		}
		return nil, err
	}
	if err := s.change(ctx, req.AppName, req.UserID, req.State); err != nil {
		return nil, err
	}
	got, err := s.Get(ctx, &session.GetRequest{AppName: req.AppName, UserID: req.UserID, SessionID: id})
	if err != nil {
		return nil, err
	}
	return &session.CreateResponse{Session: got.Session}, nil
}

// register enters a user in the app's directory.
func (s sessions) register(ctx context.Context, app, user string) error {
	u, err := s.store.LoadUser(ctx, ownerOfApp(app))
	if err != nil {
		return err
	}
	known := func(raw json.RawMessage) (d directory, ok bool, err error) {
		if len(raw) > 0 {
			err = json.Unmarshal(raw, &d)
		}
		return d, d.Full || slices.Contains(d.Users, user), err
	}
	if _, ok, err := known(u.Values[usersName]); ok || err != nil {
		return err
	}
	return store.UpdateUser(ctx, s.store, ownerOfApp(app), usersName, time.Now(), func(raw json.RawMessage) (json.RawMessage, error) {
		d, ok, err := known(raw)
		if ok || err != nil {
			return raw, err
		}
		longer, err := json.Marshal(directory{Users: append(slices.Clip(d.Users), user)})
		if err == nil && len(longer) > store.MaxStateBytes {
			d.Full = true
			return json.Marshal(d)
		}
		return longer, err
	})
}

// commit appends an event to a session, or for none what creates it.
func (s sessions) commit(ctx context.Context, current *store.Session, e *session.Event, delta map[string]any, after *int) error {
	t := store.Turn{ID: store.NewID(), Contents: json.RawMessage("[]"), FinishReason: string(genai.FinishReasonStop), CreatedAt: time.Now().UTC(), Usage: store.Usage{Source: store.Counted}}
	var contents []*genai.Content
	events := []*session.Event{}
	if e != nil {
		events = append(events, e)
		if e.Content != nil {
			contents = append(contents, e.Content)
		}
	}
	var err error
	if t.Loop, err = keepEvents(events, contents); err != nil {
		return fmt.Errorf("adk: encoding the event: %w", err)
	}
	if contents != nil {
		if t.Contents, err = json.Marshal(contents); err != nil {
			return fmt.Errorf("adk: encoding the event: %w", err)
		}
	}
	if size := len(t.Loop) + len(t.Contents); size > store.MaxTurnBytes-4096 {
		return fmt.Errorf("adk: an event of %d bytes: %w", size, store.ErrTooLarge)
	}
	conditions := store.Conditions{AfterTurn: after}
	if own := byScope(delta)[""]; own != nil {
		conditions.State = func(s *store.Session) (map[string]json.RawMessage, error) {
			merged, err := merge(s.State[stateName], own)
			return map[string]json.RawMessage{stateName: merged}, err
		}
	}
	_, err = store.Commit(ctx, s.store, current, t, conditions)
	return err
}

// change changes the states of the user and of the app.
func (s sessions) change(ctx context.Context, app, user string, delta map[string]any) error {
	for scope, changes := range byScope(delta) {
		if scope == "" {
			continue
		}
		f := func(raw json.RawMessage) (json.RawMessage, error) { return merge(raw, changes) }
		if err := store.UpdateUser(ctx, s.store, ownerOfScope(scope, app, user), stateName, time.Now(), f); err != nil {
			return err
		}
	}
	return nil
}

// open returns a session without its events, whose states are read when they are asked for.
func (s sessions) open(ctx context.Context, app, user string, meta store.Meta, load func() (*store.Session, error)) *conversation {
	c := newConversation(app, user, meta.ID, nil, func(prefix string) (map[string]any, error) {
		switch prefix {
		case session.KeyPrefixUser, session.KeyPrefixApp:
			u, err := s.store.LoadUser(ctx, ownerOfScope(prefix, app, user))
			if err != nil {
				return nil, err
			}
			return objectOf(u.Values[stateName])
		}
		current, err := load()
		if err != nil {
			return nil, err
		}
		return objectOf(current.State[stateName])
	})
	c.updated = meta.UpdatedAt
	return c
}

func (s sessions) Get(ctx context.Context, req *session.GetRequest) (*session.GetResponse, error) {
	if req.AppName == "" || req.UserID == "" || req.SessionID == "" {
		return nil, errNames
	}
	current, err := s.load(ctx, keyOf(req.AppName, req.UserID, req.SessionID))
	if err != nil {
		return nil, err
	}
	c := s.open(ctx, req.AppName, req.UserID, current.Meta, func() (*store.Session, error) { return current, nil })
	if c.events, err = s.events(ctx, current); err != nil {
		return nil, err
	}
	if n := req.NumRecentEvents; n > 0 {
		c.events = c.events[max(0, len(c.events)-n):]
	}
	if !req.After.IsZero() {
		c.events = c.events[sort.Search(len(c.events), func(i int) bool { return !c.events[i].Timestamp.Before(req.After) }):]
	}
	for _, prefix := range append([]string{""}, scopes...) { // a snapshot, unlike the session of a turn
		if err := c.need(prefix); err != nil {
			return nil, err
		}
	}
	return &session.GetResponse{Session: c}, nil
}

// load reads a session that exists.
func (s sessions) load(ctx context.Context, key store.Key) (*store.Session, error) {
	current, err := s.store.Load(ctx, key)
	if err == nil && !current.Exists() {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("adk: the session %q: %w", key.ID, err)
	}
	return current, nil
}

// pageTurns is how many turns are read at once.
const pageTurns = 200

// events returns the events of a session, with those that were archived.
func (s sessions) events(ctx context.Context, current *store.Session) ([]*session.Event, error) {
	records := current.Recent
	if archived := current.Turns - len(records); archived > 0 {
		var all []store.Record
		for after := 0; after < archived; {
			_, page, err := s.store.Turns(ctx, current.Key, after, min(pageTurns, archived-after))
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break // a store may have given up the oldest
			}
			all = append(all, page...)
			after = page[len(page)-1].Number
		}
		records = append(all, records...)
	}
	var events []*session.Event
	for _, r := range records {
		raw, err := r.Contents()
		if err != nil {
			return nil, err
		}
		contents, err := decodeContents(raw)
		if err != nil {
			return nil, err
		}
		kept, err := decodeEvents(r.Loop(), contents)
		if err != nil {
			return nil, fmt.Errorf("adk: the events of turn %d: %w", r.Number, err)
		}
		events = append(events, kept...)
	}
	return events, nil
}

func (s sessions) List(ctx context.Context, req *session.ListRequest) (*session.ListResponse, error) {
	if req.AppName == "" {
		return nil, errNames
	}
	users := []string{req.UserID}
	if req.UserID == "" {
		u, err := s.store.LoadUser(ctx, ownerOfApp(req.AppName))
		if err != nil {
			return nil, err
		}
		var d directory
		if raw := u.Values[usersName]; len(raw) > 0 {
			if err := json.Unmarshal(raw, &d); err != nil {
				return nil, errStateForm
			}
		}
		if d.Full {
			return nil, fmt.Errorf("adk: the app %q has too many users to list", req.AppName)
		}
		users = d.Users
	}
	all := []session.Session{}
	for _, user := range users {
		for cursor := ""; ; {
			page, next, err := s.store.List(ctx, ownerOf(req.AppName, user), pageTurns, cursor)
			if err != nil {
				return nil, err
			}
			for _, meta := range page {
				key := keyOf(req.AppName, user, meta.ID)
				all = append(all, s.open(ctx, req.AppName, user, meta, func() (*store.Session, error) { return s.load(ctx, key) }))
			}
			if next == "" || next == cursor {
				break
			}
			cursor = next
		}
	}
	return &session.ListResponse{Sessions: all}, nil
}

func (s sessions) Delete(ctx context.Context, req *session.DeleteRequest) error {
	if req.AppName == "" || req.UserID == "" || req.SessionID == "" {
		return errNames
	}
	err := s.store.Delete(ctx, keyOf(req.AppName, req.UserID, req.SessionID))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (s sessions) AppendEvent(ctx context.Context, to session.Session, e *session.Event) error {
	switch {
	case to == nil || e == nil:
		return errors.New("adk: there is no session, or no event")
	case e.Partial:
		return nil
	}
	current, err := s.load(ctx, keyOf(to.AppName(), to.UserID(), to.ID()))
	if err != nil {
		return err
	}
	kept := withoutTemporary(e)
	delta := kept.Actions.StateDelta
	if err := s.commit(ctx, current, kept, delta, nil); err != nil {
		return err
	}
	if err := s.change(ctx, to.AppName(), to.UserID(), delta); err != nil {
		return err
	}
	if c, ok := to.(*conversation); ok {
		c.append(e)
	}
	return nil
}
