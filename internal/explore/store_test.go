package explore_test

import (
	"context"
	"fmt"

	"example.com/gatehouse/session"
)

// A stepping store is the connection of a process to the world's store. Each call is a
// step.
type stepping struct {
	session.Store // what no run calls
	world         *world
	process       *process
}

// call makes a step of a call.
func (s *stepping) call(ctx context.Context, name string, write bool, do func() error, touches ...string) error {
	return s.world.wait(ctx, &step{
		actor: actorOf(ctx), process: s.process, name: name, touches: touches, write: write, do: do,
		broken: fmt.Errorf("%s: %w", name, session.ErrUnavailable),
	})
}

var background = context.Background()

func (s *stepping) Load(ctx context.Context, key session.Key) (loaded *session.Session, err error) {
	err = s.call(ctx, "loads the session", false, func() (err error) {
		loaded, err = s.world.store.Load(background, key)
		return err
	}, key.ID)
	return some(loaded, err)
}

// some returns nil beside an error: the reply of a call may be lost.
func some[T any](v *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (s *stepping) Apply(ctx context.Context, base *session.Session, c session.Change) (after *session.Session, err error) {
	name, touches := "changes the session", []string{base.Key.ID}
	switch {
	case c.Turn != nil:
		name = "stores the turn"
	case c.Entry != nil && c.Run != nil:
		name = "binds the key"
	case c.Entry != nil:
		name = "claims the key"
	case c.Key != "" || c.Remove:
		name = "releases the key"
	}
	if c.Run != nil {
		name, touches = name+" and the record", append(touches, c.Run.ID)
	}
	if c.Denied != nil {
		name, touches = name+" and denies", append(touches, c.Denied.ID)
	}
	err = s.call(ctx, name, true, func() (err error) {
		if after, err = s.world.store.Apply(background, base, c); err == nil {
			s.world.stored(s.process, base.Key, c.Turn, c.Run)
			s.world.stored(s.process, base.Key, nil, c.Denied)
		}
		return err
	}, touches...)
	return some(after, err)
}

func (s *stepping) LoadRun(ctx context.Context, key session.Key, id string) (r *session.Run, err error) {
	err = s.call(ctx, "loads the record", false, func() (err error) {
		r, err = s.world.store.LoadRun(background, key, id)
		return err
	}, id)
	return some(r, err)
}

func (s *stepping) SaveRun(ctx context.Context, r *session.Run) (saved *session.Run, err error) {
	name := "writes the record"
	if r.State != session.Working || r.Stop {
		name = fmt.Sprintf("writes the record (%s)", r.State)
	}
	err = s.call(ctx, name, true, func() (err error) {
		if saved, err = s.world.store.SaveRun(background, r); err == nil {
			s.world.stored(s.process, r.Key, nil, r)
		}
		return err
	}, r.ID)
	return some(saved, err)
}

func (s *stepping) Turns(ctx context.Context, key session.Key, after, limit int) (meta session.Meta, records []session.Record, err error) {
	err = s.call(ctx, "reads turns", false, func() (err error) {
		meta, records, err = s.world.store.Turns(background, key, after, limit)
		return err
	}, key.ID)
	if err != nil {
		return session.Meta{}, nil, err
	}
	return meta, records, nil
}

func (s *stepping) Delete(ctx context.Context, key session.Key) error {
	s.world.mu.Lock()
	touches := append([]string{key.ID}, s.world.order...)
	s.world.mu.Unlock()
	return s.call(ctx, "deletes the session", true, func() error {
		err := s.world.store.Delete(background, key)
		if err == nil {
			s.world.deleted(key)
		}
		return err
	}, touches...)
}
