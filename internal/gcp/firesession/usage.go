package firesession

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/session"
)

// usageCollection holds what was spent without a session that shows it, a
// document for an owner and day.
const usageCollection = "usage"

// usageLife is how long such a document is kept after its day has begun.
const usageLife = 72 * time.Hour

// maxUsageSessions bounds the sessions that one Usage adds up.
const maxUsageSessions = 2000

type usageDocument struct {
	Spent     session.Spent `firestore:"spent"`
	ExpiresAt time.Time     `firestore:"expires_at"`
}

// Usage implements [session.Store]: it adds up what the sessions of the day
// say, so that a turn need not write it anywhere else.
func (s *Store) Usage(ctx context.Context, owner session.Owner, day session.Day) (session.Spent, error) {
	total := session.Spent{}
	snapshot, err := s.client.Collection(usageCollection).Doc(session.UsageName(owner, day)).Get(ctx)
	if err == nil {
		var d usageDocument
		if err := snapshot.DataTo(&d); err != nil {
			return nil, fmt.Errorf("adding usage up: %w", err)
		}
		total.Merge(d.Spent)
	} else if status.Code(err) != codes.NotFound {
		return nil, fmt.Errorf("adding usage up: %w", classify(err))
	}
	snapshots, err := s.client.Collection(Collection).Where("owner", "==", string(owner)).
		Where("updated_at", ">=", day.Begin()).OrderBy("updated_at", firestore.Desc).
		Select("today").Limit(maxUsageSessions).Documents(ctx).GetAll()
	if err != nil {
		return nil, fmt.Errorf("adding usage up: %w", classify(err))
	}
	for _, snapshot := range snapshots {
		var d document
		if err := snapshot.DataTo(&d); err != nil {
			return nil, fmt.Errorf("adding usage up: %w", err)
		}
		if d.Today.Day == day {
			total.Merge(d.Today.Spent)
		}
	}
	return total, nil
}

// AddUsage implements [session.Store]. It is one write, which needs no read.
func (s *Store) AddUsage(ctx context.Context, owner session.Owner, day session.Day, spent session.Spent) error {
	if len(spent) == 0 {
		return nil
	}
	models := map[string]any{}
	for model, spend := range spent {
		models[model] = map[string]any{
			"tokens": firestore.Increment(spend.Tokens), "cost_usd": firestore.Increment(spend.CostUSD),
		}
	}
	_, err := s.client.Collection(usageCollection).Doc(session.UsageName(owner, day)).Set(ctx, map[string]any{
		"spent": models, "expires_at": day.Begin().Add(usageLife),
	}, firestore.MergeAll)
	if err != nil {
		return fmt.Errorf("adding usage: %w", classify(err))
	}
	return nil
}
