// Package firecount keeps the counters of limits in Firestore.
//
// A counter is one document of the collection "limits". A lease is a write
// under the condition that the document is as it was read, so that two
// instances never get the same units. The instance remembers what it wrote
// last: the first lease of a window and each one that no other instance has
// overtaken are one round trip, the others a read and a write.
//
// The client repeats a write whose outcome it does not know. A lease that was
// written so finds its own document changed, and its units are lost, not
// granted twice. A return adds an element to a set, which is the same however
// often it is done.
package firecount

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"cloud.google.com/go/firestore"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/limit"
)

// Collection is the name of the collection of counters.
const Collection = "limits"

const (
	// tries is how often a lease is tried that others overtake.
	tries = 16
	// pause is the most that is waited before the second try, and what later ones
	// add to it.
	pause = 15 * time.Millisecond
	// maxKnown is how many counters an instance remembers.
	maxKnown = 10_000
)

// Counters are counters in Firestore, a limit.Counters, safe for concurrent use
// by any number of processes.
type Counters struct {
	client *firestore.Client
	known  *lru.Cache[string, counter]
}

// New makes counters. The caller closes client.
func New(client *firestore.Client) *Counters {
	known, err := lru.New[string, counter](maxKnown)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Counters{client: client, known: known}
}

// document is a counter's document.
type document struct {
	Leased    int64      `firestore:"leased"`
	Returned  []returned `firestore:"returned,omitempty"`
	ExpiresAt time.Time  `firestore:"expires_at"` // the TTL policy's field
}

// returned is one return. An instance returns once a window, when it ends, so
// that there are few.
type returned struct {
	ID string `firestore:"id"`
	N  int64  `firestore:"n"`
}

// counter is a counter as it was read or written at updated.
type counter struct {
	leased   int64 // without what was returned
	returned int64
	updated  time.Time // Firestore's own update time, the precondition
}

func (c counter) outstanding() int64 { return c.leased - c.returned }

// Lease implements limit.Counters.
func (c *Counters) Lease(ctx context.Context, name string, want, least, most int64, expires time.Time) (granted, leased int64, err error) {
	doc := c.client.Collection(Collection).Doc(name)
	if want <= 0 {
		now, _, err := c.read(ctx, doc)
		return 0, now.outstanding(), err
	}
	now, exists := c.known.Get(name)
	for try := range tries {
		if try > 0 {
			if err := wait(ctx, try); err != nil {
				return 0, 0, fmt.Errorf("lease of a contended counter: %w", err)
			}
			if now, exists, err = c.read(ctx, doc); err != nil {
				return 0, 0, err
			}
		}
		granted = limit.Share(want, least, most-now.outstanding())
		if granted <= 0 && try == 0 {
			continue // what is remembered may be out of date
		}
		if granted <= 0 {
			return 0, now.outstanding(), nil
		}
		now.leased += granted
		var result *firestore.WriteResult
		if exists {
			result, err = doc.Update(ctx, []firestore.Update{{Path: "leased", Value: now.leased}}, firestore.LastUpdateTime(now.updated))
		} else {
			result, err = doc.Create(ctx, document{Leased: now.leased, ExpiresAt: expires})
		}
		switch status.Code(err) {
		case codes.OK:
			now.updated = result.UpdateTime
			c.known.Add(name, now)
			return granted, now.outstanding(), nil
		case codes.AlreadyExists, codes.FailedPrecondition, codes.NotFound, codes.Aborted:
			c.known.Remove(name)
		default:
			c.known.Remove(name)
			return 0, 0, fmt.Errorf("lease from a counter: %w", err)
		}
	}
	return 0, 0, fmt.Errorf("lease from a counter: overtaken %d times", tries)
}

// Return implements limit.Counters.
func (c *Counters) Return(ctx context.Context, name string, n int64) error {
	if n <= 0 {
		return nil
	}
	c.known.Remove(name)
	_, err := c.client.Collection(Collection).Doc(name).Update(ctx, []firestore.Update{
		{Path: "returned", Value: firestore.ArrayUnion(map[string]any{"id": rand.Text(), "n": n})},
	})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("return to a counter: %w", err)
	}
	return nil
}

func (c *Counters) read(ctx context.Context, doc *firestore.DocumentRef) (now counter, exists bool, err error) {
	snapshot, err := doc.Get(ctx)
	if status.Code(err) == codes.NotFound {
		return counter{}, false, nil
	}
	if err != nil {
		return counter{}, false, fmt.Errorf("read a counter: %w", err)
	}
	var d document
	if err := snapshot.DataTo(&d); err != nil {
		return counter{}, false, fmt.Errorf("read a counter: %w", err)
	}
	now = counter{leased: d.Leased, updated: snapshot.UpdateTime}
	for _, r := range d.Returned {
		now.returned += r.N
	}
	return now, true, nil
}

// wait waits before a try: the second comes at once, and the later ones at
// random times so that instances do not meet again.
func wait(ctx context.Context, try int) error {
	if try == 1 {
		return ctx.Err()
	}
	timer := time.NewTimer(mathrand.N(time.Duration(try) * pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
