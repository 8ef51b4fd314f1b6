package firestore

import (
	"context"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"cloud.google.com/go/firestore"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/limit"
)

// CountersCollection is the name of the collection of accounts.
const CountersCollection = "limits"

const (
	// accountTries is how often an update that other instances overtake is tried.
	accountTries = 16
	// accountPause bounds the wait before the second try; each later try adds as much.
	accountPause = 15 * time.Millisecond
	// maxKnownAccounts is how many accounts an instance remembers.
	maxKnownAccounts = 10_000
)

// Counters is a limit.Counters in Firestore, safe for concurrent use by any number
// of processes.
//
// An account is one document. An update is a write under the condition that the
// document is as it was read, so that two instances never get the same units. The
// instance remembers what it wrote last: the first update of a day and each one that
// no other instance has overtaken are one round trip, the others a read and a write.
// One that changes nothing is a read.
//
// The client repeats a write whose outcome it does not know. One that was done finds
// its own document changed, reads it, and sees that it was done.
type Counters struct {
	client *firestore.Client
	known  *lru.Cache[string, accountVersion]
}

// NewCounters returns counters. The caller closes client.
func NewCounters(client *firestore.Client) *Counters {
	known, err := lru.New[string, accountVersion](maxKnownAccounts)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Counters{client: client, known: known}
}

// accountDocument is an account's document.
type accountDocument struct {
	Account   string    `firestore:"account"`    // JSON of a limit.Account
	ExpiresAt time.Time `firestore:"expires_at"` // the TTL policy's field
}

// accountVersion is an account as it was read or written at updated.
type accountVersion struct {
	account limit.Account
	updated time.Time // Firestore's own update time, the precondition; zero: there is none
}

// Update implements limit.Counters.
func (c *Counters) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	doc := c.client.Collection(CountersCollection).Doc(name)
	// The memory of an account is a guess that saves a read: if another instance has written
	// since, the write's condition fails and the account is read. A remembered account is not
	// trusted to refuse: a share that looks used up, or an update that seems to change nothing,
	// is judged by what is stored.
	now, known := c.known.Get(name)
	for try := range accountTries {
		if try > 0 {
			if err := waitForTry(ctx, try); err != nil {
				return limit.Account{}, fmt.Errorf("update of a contended account: %w", err)
			}
			var err error
			if now, err = c.read(ctx, doc); err != nil {
				return limit.Account{}, err
			}
		}
		after, changed := now.account.Apply(u)
		// granted: the account as remembered has all that is asked for. Less may be due to
		// another instance's share, which may have been returned since.
		mine := after.Shares[u.Instance]
		granted := mine.Held >= u.Want && mine.Calls >= u.Calls+u.More
		if try == 0 && known && (!changed || !granted) {
			continue // what is remembered may be out of date
		}
		if !changed {
			c.known.Add(name, now)
			return after, nil
		}
		updated, err := writeAccount(ctx, doc, now, after, u.Expires)
		switch status.Code(err) {
		case codes.OK:
			c.known.Add(name, accountVersion{after, updated})
			return after, nil
		// Another instance was faster, or the TTL has removed the account: read it and apply
		// the update to that.
		case codes.AlreadyExists, codes.FailedPrecondition, codes.NotFound, codes.Aborted:
			c.known.Remove(name)
		// Whether the write happened is not known, so what is remembered may be out of date.
		// The next update of this instance states totals and repairs it.
		default:
			c.known.Remove(name)
			return limit.Account{}, fmt.Errorf("update of an account: %w", err)
		}
	}
	return limit.Account{}, fmt.Errorf("update of an account: overtaken %d times", accountTries)
}

// writeAccount stores after in the place of now.
func writeAccount(ctx context.Context, doc *firestore.DocumentRef, now accountVersion, after limit.Account, expires time.Time) (time.Time, error) {
	text, err := json.Marshal(after)
	if err != nil {
		return time.Time{}, err
	}
	var result *firestore.WriteResult
	// expires_at is set once: an account is for one day, and extending it would keep what
	// nobody asks for.
	if now.updated.IsZero() {
		result, err = doc.Create(ctx, accountDocument{Account: string(text), ExpiresAt: expires})
	} else {
		result, err = doc.Update(ctx, []firestore.Update{{Path: "account", Value: string(text)}}, firestore.LastUpdateTime(now.updated))
	}
	if err != nil {
		return time.Time{}, err
	}
	return result.UpdateTime, nil
}

// Look implements limit.Counters.
func (c *Counters) Look(ctx context.Context, name string) (limit.Account, error) {
	now, err := c.read(ctx, c.client.Collection(CountersCollection).Doc(name))
	if err != nil {
		return limit.Account{}, err
	}
	c.known.Add(name, now)
	return now.account, nil
}

func (c *Counters) read(ctx context.Context, doc *firestore.DocumentRef) (accountVersion, error) {
	snapshot, err := doc.Get(ctx)
	if status.Code(err) == codes.NotFound {
		return accountVersion{}, nil
	}
	if err != nil {
		return accountVersion{}, fmt.Errorf("read an account: %w", err)
	}
	var d accountDocument
	if err := snapshot.DataTo(&d); err != nil {
		return accountVersion{}, fmt.Errorf("read an account: %w", err)
	}
	now := accountVersion{updated: snapshot.UpdateTime}
	if err := json.Unmarshal([]byte(d.Account), &now.account); err != nil {
		return accountVersion{}, fmt.Errorf("read an account: %w", err)
	}
	return now, nil
}

// waitForTry waits before a try: the second comes at once, and the later ones at random
// times so that instances do not meet again.
func waitForTry(ctx context.Context, try int) error {
	if try == 1 {
		return ctx.Err()
	}
	// Full jitter: with a fixed wait, instances that collided would collide again.
	timer := time.NewTimer(mathrand.N(time.Duration(try) * accountPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
