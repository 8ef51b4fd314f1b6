package limit

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Counters keep the accounts, across instances. They are safe for concurrent use and
// give up when their context ends.
type Counters interface {
	// Update changes the account of this name by u, as [Account.Apply] does, and
	// returns it as it is then. Of updates at once each is applied to what another
	// left. name is safe for a document's id. After an error the account may have
	// been changed, or may still be.
	Update(ctx context.Context, name string, u Update) (Account, error)
	// Look returns the account of this name as it is.
	Look(ctx context.Context, name string) (Account, error)
}

// maxMemory is how many accounts a process remembers: those of a day of several ten
// thousand callers, in some MiB.
const maxMemory = 1 << 16

// NewMemory makes counters for one process, which remember the 65 536 accounts used
// last. now is the clock.
func NewMemory(now func() time.Time) Counters {
	accounts, err := lru.New[string, stored](maxMemory)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &memory{now: now, accounts: accounts}
}

type memory struct {
	now      func() time.Time
	mu       sync.Mutex
	accounts *lru.Cache[string, stored]
}

type stored struct {
	account Account
	expires time.Time
}

func (m *memory) Update(_ context.Context, name string, u Update) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	after, changed := m.get(name).Apply(u)
	if changed {
		m.accounts.Add(name, stored{after, u.Expires})
	}
	return after, nil
}

func (m *memory) Look(_ context.Context, name string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(name), nil
}

// get returns what is remembered and has not expired. The caller holds mu.
func (m *memory) get(name string) Account {
	if s, ok := m.accounts.Get(name); ok && m.now().Before(s.expires) {
		return s.account
	}
	return Account{}
}
