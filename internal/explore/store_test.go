package explore_test

import (
	"context"
	"fmt"
	"slices"

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
	if c.Before != nil && c.Before.Turns+1 < base.Turns {
		name += " in the place of others"
	}
	if c.Denied != nil {
		name, touches = name+" and denies", append(touches, c.Denied.ID)
	}
	err = s.call(ctx, name, true, func() (err error) {
		if after, err = s.world.store.Apply(background, base, c); err == nil {
			s.world.stored(s.process, base.Key, c.Turn, c.Run)
			s.world.stored(s.process, base.Key, nil, c.Denied)
			s.world.replaces(base, c)
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
	if err == nil && r.Request != nil && !r.Stop { // who stops it is not its holder
		s.world.mu.Lock()
		s.world.confirmed[r.ID] = true
		s.world.mu.Unlock()
	}
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

func (s *stepping) ListRuns(ctx context.Context, owner session.Owner, f session.RunFilter, limit int, cursor string) (runs []*session.Run, next string, err error) {
	s.world.mu.Lock()
	touches := append([]string(nil), s.world.order...)
	s.world.mu.Unlock()
	err = s.call(ctx, "lists runs", false, func() (err error) {
		runs, next, err = s.world.store.ListRuns(background, owner, f, limit, cursor)
		return err
	}, touches...)
	if err != nil {
		return nil, "", err
	}
	return runs, next, nil
}

func (s *stepping) DeleteAll(ctx context.Context, owner session.Owner) error {
	s.world.mu.Lock()
	key := s.world.session()
	touches := append([]string{key.ID}, s.world.order...)
	s.world.mu.Unlock()
	return s.call(ctx, "deletes all", true, func() error {
		// A run in its first second, of a session that is not there yet, is nobody's to delete:
		// its turn makes the session.
		stored, err := s.world.memory.Load(background, key)
		there := err == nil && !stored.Deleted
		for _, id := range touches[1:] {
			record, err := s.world.memory.LoadRun(background, key, id)
			// Not only that of a stop, nor one of whose first write the holder has not heard: it
			// would be written again, as if there had been none. One that is over without a
			// session has failed and released its key, which may be used again.
			there = there || err == nil && record.Request != nil && !record.Over() && s.world.confirmed[id]
			if err == nil {
				s.world.swept, s.world.runs[id].epoch, s.world.runs[id].holder = true, 0, nil
			}
		}
		err = s.world.store.DeleteAll(background, owner)
		if err == nil {
			s.world.forget(touches[1:])
		}
		if err == nil && there {
			s.world.deleted(key)
		}
		return err
	}, touches...)
}

// forget drops the writes of records that nobody waits for any more: what is not explored is
// that one takes place after a deletion of all. A record has no tombstone that it would meet.
func (w *world) forget(ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = slices.DeleteFunc(w.steps, func(s *step) bool {
		return s.left && s.write && slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(s.touches, id) })
	})
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

// replaces looks at the turns that a change takes away: those behind the one that is stored,
// and that itself unless it is the same run's.
func (w *world) replaces(base *session.Session, c session.Change) {
	if c.Before == nil || c.Turn == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range base.Recent {
		id, err := r.ID()
		if err != nil || r.Number <= c.Before.Turns || id == c.Turn.ID {
			continue
		}
		w.replaced[id] = true
		if turn, err := r.Turn(); err == nil && turn.Effects {
			w.wrong = append(w.wrong, "a turn in which an effect began was replaced")
		}
	}
}
