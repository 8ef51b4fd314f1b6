package limit

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Counters keep accounts that all instances share. They are safe for concurrent use
// and return when their context ends.
type Counters interface {
	// Update atomically applies u to the account, as [Account.Apply] does, and returns
	// the result. name is safe as a document id. After an error the update may have
	// been applied, or may still be.
	Update(ctx context.Context, name string, u Update) (Account, error)
	// Look returns the account without changing it.
	Look(ctx context.Context, name string) (Account, error)
}

// maxMemory bounds the accounts in memory: a day of tens of thousands of callers, in a
// few MiB.
const maxMemory = 1 << 16

// NewMemory returns counters for one process, which keep the 65,536 most recently used
// accounts. now is the clock.
func NewMemory(now func() time.Time) Counters {
	accounts, err := lru.New[string, stored](maxMemory)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &memory{now: now, accounts: accounts}
}

// memory holds the accounts in this process. Nothing runs to remove those that have
// expired: they read as absent, and the least recently used ones make room.
type memory struct {
	now      func() time.Time
	mu       sync.Mutex
	accounts *lru.Cache[string, stored]
}

type stored struct {
	account Account
	expires time.Time
}

// Update implements [Counters].
func (m *memory) Update(_ context.Context, name string, u Update) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	after, changed := m.get(name).Apply(u)
	if changed {
		m.accounts.Add(name, stored{after, u.Expires})
	}
	return after, nil
}

// Look implements [Counters].
func (m *memory) Look(_ context.Context, name string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(name), nil
}

// get returns the account unless it has expired. The caller holds mu.
func (m *memory) get(name string) Account {
	if s, ok := m.accounts.Get(name); ok && m.now().Before(s.expires) {
		return s.account
	}
	return Account{}
}
