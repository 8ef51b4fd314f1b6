package explore_test

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	name, touches, sent := "changes the session", []string{base.Key.ID}, time.Now()
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
			s.world.wrote(c.Run, sent)
			s.world.wrote(c.Denied, sent)
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
	return s.world.dated(some(r, err))
}

func (s *stepping) LoadUser(ctx context.Context, owner session.Owner) (u *session.User, err error) {
	err = s.call(ctx, "loads the owner's mark", false, func() (err error) {
		u, err = s.world.store.LoadUser(background, owner)
		return err
	}, string(owner))
	return some(u, err)
}

func (s *stepping) SaveRun(ctx context.Context, r *session.Run) (saved *session.Run, err error) {
	name, sent := "writes the record", time.Now()
	if r.State != session.Working || r.Stop {
		name = fmt.Sprintf("writes the record (%s)", r.State)
	}
	err = s.call(ctx, name, true, func() (err error) {
		if saved, err = s.world.store.SaveRun(background, r); err == nil {
			s.world.stored(s.process, r.Key, nil, r)
			s.world.wrote(r, sent)
		}
		return err
	}, r.ID)
	return s.world.dated(some(saved, err))
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
	touches := slices.Clone(s.world.order)
	s.world.mu.Unlock()
	err = s.call(ctx, "lists runs", false, func() (err error) {
		runs, next, err = s.world.store.ListRuns(background, owner, f, limit, cursor)
		return err
	}, touches...)
	if err != nil {
		return nil, "", err
	}
	for _, r := range runs {
		_, _ = s.world.dated(r, nil)
	}
	return runs, next, nil
}

func (s *stepping) DeleteAll(ctx context.Context, owner session.Owner) error {
	s.world.mu.Lock()
	key := s.world.session()
	touches := append([]string{key.ID, string(owner)}, s.world.order...)
	s.world.mu.Unlock()
	return s.call(ctx, "deletes all", true, func() error {
		// A run in its first second, of a session that is not there yet, is nobody's to delete:
		// its turn makes the session.
		stored, err := s.world.memory.Load(background, key)
		there := err == nil && !stored.Deleted
		for _, id := range s.world.order {
			// Not only that of a stop. One that is over without a session has failed and released
			// its key, which may be used again.
			k := s.world.runs[id]
			record, err := s.world.memory.LoadRun(background, k.key, id)
			there = there || err == nil && record.Request != nil && !record.Over()
			s.world.swept = s.world.swept || err == nil
			if s.world.without != "" && err == nil {
				k.deleted, k.calls = true, nil
			}
		}
		if err = s.world.store.DeleteAll(background, owner); err != nil {
			return err
		}
		if there && s.world.without == "" {
			s.world.deleted(key)
		}
		s.world.mu.Lock()
		s.world.cleared = time.Now()
		s.world.mu.Unlock()
		time.Sleep(time.Microsecond) // what is written from now on is later
		return nil
	}, touches...)
}

// wrote notes when the write of a record was sent: it may take place after its caller has given
// it up. What comes so after a deletion of all goes on with its holder, or not at all.
func (w *world) wrote(r *session.Run, sent time.Time) {
	if r == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.runs[r.ID]
	if k.writes++; r.Revision == nil {
		k.writes, k.sent = 1, sent
		k.late = r.State == session.Working && !sent.After(w.cleared) // else its turn is stored, too, or it is that of a stop
		return
	}
	// Without a session, the record is the key's, too: its retry takes it over, which fences a
	// holder that is only slow.
	if k.late && !r.Over() && r.Epoch > 0 && (w.without == "" || !w.keyed) {
		w.wrong = append(w.wrong, "a run was taken over that came after everything was deleted")
	}
	k.late = false
}

// dated returns r with the time at which its first write was sent, as a store beyond a network
// has it.
func (w *world) dated(r *session.Run, err error) (*session.Run, error) {
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.runs[r.ID]; k != nil && k.writes > 0 {
		if r.CreatedAt = k.sent; k.writes == 1 {
			r.UpdatedAt = k.sent
		} else if r.UpdatedAt.Equal(k.sent) {
			r.UpdatedAt = k.sent.Add(time.Nanosecond) // no two writes take place at one instant elsewhere
		}
	}
	return r, nil
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
	if c.Before == nil {
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
