package e2e_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A fleet is the processes of a service in a storm, each at its place, in which another
// one follows when it has ended.
type fleet struct {
	program func() (string, error)
	env     func(place int) []string

	guard   sync.Mutex
	members []*member // who serves now; nil: it is being replaced
	all     []*member

	kills, ends, slowest atomic.Int64
}

// A member is one process of the service.
type member struct {
	*service
	place  int
	killed atomic.Pointer[time.Time] // when, if by SIGKILL
}

func newFleet(program func() (string, error), places int, env func(place int) []string) *fleet {
	return &fleet{program: program, env: env, members: make([]*member, places)}
}

// start runs the process of a place, nil if it does not get ready.
func (f *fleet) start(t *testing.T, place int) *member {
	t.Helper()
	program, err := f.program()
	if err != nil {
		t.Error(err)
		return nil
	}
	p := spawn(t, program, append(f.env(place), "PORT=0")...)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	match, err := p.stdout.Await(ctx, readyAt)
	if err != nil {
		t.Errorf("the process of place %d did not get ready: %v", place, err)
		return nil
	}
	m := &member{service: newService(t, p, match[1]), place: place}
	f.guard.Lock()
	defer f.guard.Unlock()
	f.all = append(f.all, m)
	return m
}

// take removes and returns a place's process, which no longer gets calls. It is nil if
// the place has none.
func (f *fleet) take(place int) *member {
	f.guard.Lock()
	defer f.guard.Unlock()
	m := f.members[place]
	f.members[place] = nil
	return m
}

// put makes m, unless it is nil, the process of its place.
func (f *fleet) put(m *member) {
	if m == nil {
		return
	}
	f.guard.Lock()
	defer f.guard.Unlock()
	f.members[m.place] = m
}

// end ends a process, by SIGKILL or by SIGTERM.
func (f *fleet) end(t *testing.T, m *member, kill bool) {
	begin := time.Now()
	if kill {
		m.killed.Store(&begin)
		m.end(t, os.Kill)
		f.kills.Add(1)
	} else {
		if code := m.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("a process ended by SIGTERM with code %d", code)
		}
		took := time.Since(begin)
		if took > 10*time.Second {
			t.Errorf("a process took %v to end", took)
		}
		f.ends.Add(1)
		f.slowest.Store(max(f.slowest.Load(), int64(took)))
	}
	m.client.CloseIdleConnections()
}

// server returns the process for an attempt, or the next one that serves; nil: none does.
func (f *fleet) server(place int) *member {
	f.guard.Lock()
	defer f.guard.Unlock()
	for i := range f.members {
		if m := f.members[(place+i)%len(f.members)]; m != nil {
			return m
		}
	}
	return nil
}
