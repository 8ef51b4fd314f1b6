package firestore

import (
	"context"
	"slices"
	"time"

	"cloud.google.com/go/firestore"
)

// maxWrites bounds the writes of one commit, below Firestore's 500.
const maxWrites = 400

// A write is one write of a commit: creates, sets or updates a document, or removes it.
type write struct {
	ref       *firestore.DocumentRef
	create    any
	set       any
	updates   []firestore.Update
	unchanged time.Time // precondition of updates, and of a removal unless zero
	exists    bool      // updates have no other condition than that there is the document
	remove    bool
}

// commit makes all writes or none, in one call, and returns their update times.
func (s *Sessions) commit(ctx context.Context, writes ...write) ([]time.Time, error) {
	// RunTransaction would begin a transaction first, a round trip more; BulkWriter is not
	// atomic.
	batch := s.client.Batch() //lint:ignore SA1019 as above
	for _, w := range writes {
		switch unchanged := firestore.LastUpdateTime(w.unchanged); {
		case w.create != nil:
			batch.Create(w.ref, w.create)
		case w.set != nil:
			batch.Set(w.ref, w.set)
		case w.remove && w.unchanged.IsZero():
			batch.Delete(w.ref)
		case w.remove:
			batch.Delete(w.ref, unchanged)
		case w.exists:
			batch.Update(w.ref, w.updates)
		default:
			batch.Update(w.ref, w.updates, unchanged)
		}
	}
	results, err := batch.Commit(ctx)
	if err != nil {
		return nil, err
	}
	times := make([]time.Time, len(results))
	for i, r := range results {
		times[i] = r.UpdateTime
	}
	return times, nil
}

// commitEach makes writes that need not be made together, as many at once as Firestore takes.
func (s *Sessions) commitEach(ctx context.Context, writes []write) error {
	for some := range slices.Chunk(writes, maxWrites) {
		if _, err := s.commit(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}
