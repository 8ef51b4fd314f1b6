package firestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/firestore"

	"example.com/gatehouse/session"
)

const (
	// sincePage is how many sessions Since looks at in one query, of which it
	// asks two fields.
	sincePage = 300
	// sinceWhole is how many whole sessions it reads at once: of at most 1 MiB
	// each, which is Firestore's limit.
	sinceWhole = 8
)

// Since calls visit with each turn made at since or later, of every owner, and its
// end user's feedback, nil for none, in no order. It reads each session's document once and those of the sessions used
// since then once more, a bounded number at a time: no index has the time of
// every session, since one that only rises would bound how many turns a second
// can be stored. What changes during the call may be seen or not. An error of visit
// ends it and is wrapped in what is returned.
func (s *Sessions) Since(ctx context.Context, since time.Time, visit func(session.Key, session.Turn, *session.Feedback) error) error {
	query := s.client.Collection(SessionsCollection).Select("updated_at", "turns").Limit(sincePage)
	page := query
	for {
		snapshots, err := page.Documents(ctx).GetAll()
		if err != nil {
			return fmt.Errorf("reading sessions: %w", classify(err))
		}
		var used []*firestore.DocumentRef
		for _, snapshot := range snapshots {
			var d sessionDocument
			if err := snapshot.DataTo(&d); err != nil {
				return fmt.Errorf("reading the session %s: %w", snapshot.Ref.ID, err)
			}
			if d.Turns > 0 && !d.UpdatedAt.Before(since) {
				used = append(used, snapshot.Ref)
			}
		}
		for some := range slices.Chunk(used, sinceWhole) {
			if err := s.visitSessions(ctx, some, since, visit); err != nil {
				return err
			}
		}
		if len(snapshots) < sincePage {
			return nil
		}
		// Without an order Firestore returns documents by name, which new sessions do not move:
		// each that was there at the beginning is seen once.
		page = query.StartAfter(snapshots[len(snapshots)-1])
	}
}

func (s *Sessions) visitSessions(ctx context.Context, refs []*firestore.DocumentRef, since time.Time, visit func(session.Key, session.Turn, *session.Feedback) error) error {
	snapshots, err := s.client.GetAll(ctx, refs)
	if err != nil {
		return fmt.Errorf("reading sessions: %w", classify(err))
	}
	for _, snapshot := range snapshots {
		var d sessionDocument
		if !snapshot.Exists() {
			continue // deleted since it was listed
		}
		if err := snapshot.DataTo(&d); err != nil {
			return fmt.Errorf("reading the session %s: %w", snapshot.Ref.ID, err)
		}
		if d.Turns == 0 {
			continue // the same
		}
		if err := s.visitTurns(ctx, &d, since, visit); err != nil {
			return fmt.Errorf("the session %s: %w", snapshot.Ref.ID, err)
		}
	}
	return nil
}

// visitTurns goes through a session's turns from the end, an archive after the
// other, until one holds none since then.
func (s *Sessions) visitTurns(ctx context.Context, d *sessionDocument, since time.Time, visit func(session.Key, session.Turn, *session.Feedback) error) error {
	key := session.Key{Owner: session.Owner(d.Owner), ID: d.ID}
	some, err := records(d.Log, d.Turns)
	if err != nil {
		return err
	}
	feedback := d.Feedback
	for i := len(d.Archived); ; i-- {
		found := false
		for _, r := range some {
			turn, err := r.Turn()
			if err != nil {
				return err
			}
			// Turns are in the order of their times, so an archive without one since then ends
			// the search.
			if turn.CreatedAt.Before(since) {
				continue
			}
			found = true
			var said *session.Feedback
			if f, ok := feedback[fieldName(turn.Number)]; ok {
				said = (*session.Feedback)(&f)
			}
			if err := visit(key, turn, said); err != nil {
				return err
			}
		}
		if i == 0 || !found {
			return nil
		}
		first := d.Archived[i-1]
		snapshot, err := archiveRef(s.ref(key), archiveName(first)).Get(ctx)
		if err := classify(err); errors.Is(err, session.ErrNotFound) {
			return nil // the session is being deleted
		} else if err != nil {
			return err
		}
		var archive archiveDocument
		if err := snapshot.DataTo(&archive); err != nil {
			return err
		}
		// By its first turn: a replacement since d was read may have taken some from its end.
		if some, err = archive.records(first); err != nil {
			return err
		}
		feedback = archive.Feedback
	}
}
