package firestore

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/rescue"
)

// TrafficCollection is the name of the collection of minutes.
const TrafficCollection = "figures"

// TrafficLife is how long a document is kept beyond its minute: expires_at, the TTL
// policy's field, is that much later.
const TrafficLife = time.Hour

// maxStates bounds how many documents are read for the states of breakers,
// newest first: the whole time of a hundred instances, and the newest minutes of
// more.
const maxStates = 500

// The fields that queries use.
const (
	fieldMinute   = "minute"
	fieldRequests = "requests"
	fieldJudged   = "judged"
	fieldErrors   = "errors"
	fieldInstance = "instance"
	fieldBreakers = "breakers"
	fieldAgent    = "agent"
)

// TrafficIndexes are the composite indexes that the sums need, each its fields in
// order, all ascending. (The emulator needs none.) The states of breakers need
// the index on minute, descending, that Firestore keeps of every field unless it
// is exempted: minute must not be. All other fields may be exempted.
var TrafficIndexes = [][]string{
	{fieldMinute, fieldRequests},
	{fieldMinute, fieldJudged},
	{fieldMinute, fieldErrors},
}

// Traffic is a figures.Store in Firestore, safe for concurrent use by any number
// of processes.
//
// An instance's minute is one document, which only that instance writes, so that no
// document is written often. Sums are aggregation queries: Firestore adds up index
// entries, at the price of one read for a thousand of them. Each asks for one sum,
// which needs an index of two fields; Firestore's documentation does not state what a
// query for several sums needs.
type Traffic struct{ client *firestore.Client }

// NewTraffic returns a store. The caller closes client.
func NewTraffic(client *firestore.Client) *Traffic { return &Traffic{client} }

// minuteDocument is a minute's document.
type minuteDocument struct {
	Instance  string            `firestore:"instance"`
	Minute    time.Time         `firestore:"minute"`
	Requests  int64             `firestore:"requests"`
	Judged    int64             `firestore:"judged"`
	Errors    int64             `firestore:"errors"`
	Agent     string            `firestore:"agent,omitempty"`
	Breakers  map[string]string `firestore:"breakers,omitempty"`
	ExpiresAt time.Time         `firestore:"expires_at"`
}

// Write implements figures.Store. It is one round trip.
//
// The totals of the minute replace those written before, so a repeated write changes nothing.
// The error is Firestore's; the caller may drop it, since the next write has all of the minute.
func (t *Traffic) Write(ctx context.Context, m figures.Minute) error {
	// The instance comes first: ids that rise with time would all lie in one place.
	id := fmt.Sprintf("%s-%d", m.Instance, m.Start.Unix())
	_, err := t.client.Collection(TrafficCollection).Doc(id).Set(ctx, minuteDocument{
		Instance: m.Instance, Minute: m.Start, Requests: m.Requests, Judged: m.Judged, Errors: m.Errors,
		Agent: m.Agent, Breakers: m.Breakers, ExpiresAt: m.Start.Add(TrafficLife),
	})
	return err
}

// Sum implements figures.Store. It is four queries side by side, which read at
// least one document each.
func (t *Traffic) Sum(ctx context.Context, since time.Time) (stored figures.Stored, err error) {
	minutes := t.client.Collection(TrafficCollection).Where(fieldMinute, ">=", since)
	// One sum that fails fails all: figures of which some are missing would look like a service
	// without traffic or without errors.
	group, ctx := errgroup.WithContext(ctx)
	for field, to := range map[string]*int64{fieldRequests: &stored.Requests, fieldJudged: &stored.Judged, fieldErrors: &stored.Errors} {
		group.Go(func() error {
			return rescue.Call(func() (err error) {
				*to, err = sumField(ctx, minutes, field)
				return err
			})
		})
	}
	group.Go(func() error {
		return rescue.Call(func() (err error) {
			stored.Agent, stored.Breakers, err = newestStates(ctx, minutes)
			return err
		})
	})
	if err := group.Wait(); err != nil {
		return figures.Stored{}, err
	}
	return stored, nil
}

// sumField returns the sum of a field over a query's documents.
func sumField(ctx context.Context, q firestore.Query, field string) (int64, error) {
	const alias = "sum"
	result, err := q.NewAggregationQuery().WithSum(field, alias).Get(ctx)
	if err != nil {
		return 0, fmt.Errorf("adding up %s: %w", field, err)
	}
	value, ok := result[alias].(*firestorepb.Value)
	if !ok {
		return 0, fmt.Errorf("adding up %s: the answer holds a %T", field, result[alias])
	}
	switch n := value.GetValueType().(type) {
	case *firestorepb.Value_IntegerValue:
		return n.IntegerValue, nil
	case *firestorepb.Value_DoubleValue: // what a sum beyond int64 becomes
		return int64(n.DoubleValue), nil
	}
	return 0, fmt.Errorf("adding up %s: the answer holds no number", field)
}

// newestStates returns the agent's name as the newest document has it, and the states of
// breakers by instance, as each one's newest document has them.
func newestStates(ctx context.Context, q firestore.Query) (agent string, states map[string]map[string]string, err error) {
	documents, err := q.OrderBy(fieldMinute, firestore.Desc).Limit(maxStates).
		Select(fieldInstance, fieldAgent, fieldBreakers).Documents(ctx).GetAll()
	if err != nil {
		return "", nil, fmt.Errorf("reading the newest figures: %w", err)
	}
	states = map[string]map[string]string{}
	known := map[string]bool{}
	for _, snapshot := range documents {
		var d minuteDocument
		if err := snapshot.DataTo(&d); err != nil {
			return "", nil, fmt.Errorf("reading the newest figures: %w", err)
		}
		// The newest comes first, and a breaker that has closed since must not be reported
		// open.
		if known[d.Instance] {
			continue
		}
		known[d.Instance] = true
		agent = cmp.Or(agent, d.Agent)
		if len(d.Breakers) > 0 {
			states[d.Instance] = d.Breakers
		}
	}
	return agent, states, nil
}
