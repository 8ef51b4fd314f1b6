package limit

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Counters hold how much of each limit has been leased, across instances. They
// are safe for concurrent use and give up when their context ends.
type Counters interface {
	// Lease takes units of the counter name, as many as [Share] gives of what is
	// left of limit, and gives what it got and how much is leased in all
	// afterwards. A want of 0 only looks. name is safe for a document's id. The
	// counter may be forgotten after expires. After an error the units may be leased
	// and lost, never granted twice.
	Lease(ctx context.Context, name string, want, least, limit int64, expires time.Time) (granted, leased int64, err error)
	// Return gives unused units back. After an error they may be lost.
	Return(ctx context.Context, name string, n int64) error
}

// Share is how much a lease gets of the units that are left: what it wants, but of
// more than the least that it needs at once no more than half of what is left, so
// that an instance which leases ahead leaves something to those that need it. It is
// a multiple of least where it is not all that is wanted or left.
func Share(want, least, left int64) int64 {
	if want <= 0 || left <= 0 {
		return 0
	}
	least = max(1, least)
	return min(want, left, max(least, left/2/least*least))
}

// maxMemory is how many counters a process remembers: those of five minutes of
// several thousand callers, in some MiB.
const maxMemory = 1 << 16

// NewMemory makes counters for one process, which remember the 65 536 used
// last. now is the clock.
func NewMemory(now func() time.Time) Counters {
	counters, err := lru.New[string, counter](maxMemory)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &memory{now: now, counters: counters}
}

type memory struct {
	now      func() time.Time
	mu       sync.Mutex
	counters *lru.Cache[string, counter]
}

type counter struct {
	leased  int64
	expires time.Time
}

func (m *memory) Lease(_ context.Context, name string, want, least, limit int64, expires time.Time) (granted, leased int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.counters.Get(name)
	if ok && !m.now().Before(c.expires) {
		c = counter{}
	}
	granted = Share(want, least, limit-c.leased)
	if granted > 0 {
		c.leased += granted
		c.expires = expires
		m.counters.Add(name, c)
	}
	return granted, c.leased, nil
}

func (m *memory) Return(_ context.Context, name string, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.counters.Get(name); ok {
		c.leased = max(0, c.leased-n)
		m.counters.Add(name, c)
	}
	return nil
}
