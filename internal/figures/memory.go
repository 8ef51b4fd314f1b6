package figures

import (
	"context"
	"maps"
	"sync"
	"time"
)

// NewMemory makes a store for one process that serves both functions. It keeps
// the [Minutes] up to the newest one written.
func NewMemory() Store { return &memory{minutes: map[name]Minute{}} }

type memory struct {
	mu      sync.Mutex
	newest  time.Time
	minutes map[name]Minute
}

// A name is what a minute is kept under.
type name struct {
	instance string
	start    int64 // in seconds since 1970
}

func (s *memory) Write(_ context.Context, m Minute) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Breakers = maps.Clone(m.Breakers)
	s.minutes[name{m.Instance, m.Start.Unix()}] = m
	if m.Start.After(s.newest) {
		s.newest = m.Start
	}
	maps.DeleteFunc(s.minutes, func(_ name, old Minute) bool { return old.Start.Before(since(s.newest)) })
	return nil
}

func (s *memory) Sum(_ context.Context, since time.Time) (Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stored Stored
	var latest time.Time
	newest := map[string]Minute{}
	for _, m := range s.minutes {
		if m.Start.Before(since) {
			continue
		}
		stored.Figures = stored.Plus(m.Figures)
		if m.Agent != "" && m.Start.After(latest) {
			stored.Agent, latest = m.Agent, m.Start
		}
		if was, ok := newest[m.Instance]; !ok || m.Start.After(was.Start) {
			newest[m.Instance] = m
		}
	}
	stored.Breakers = map[string]map[string]string{}
	for instance, m := range newest {
		if len(m.Breakers) > 0 {
			stored.Breakers[instance] = maps.Clone(m.Breakers)
		}
	}
	return stored, nil
}
