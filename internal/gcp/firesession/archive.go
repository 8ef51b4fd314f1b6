package firesession

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/firestore"

	"example.com/gatehouse/session"
)

// maxWrites bounds the writes of one transaction, below Firestore's 500.
const maxWrites = 400

// An archive lives twice as long as a session after its last turn, and is
// made to live on when less than half of that is left: so it outlives its
// session, and most turns need not touch it.
func (s *Store) archiveLife() time.Duration { return 2 * s.ttl }

// spill makes updates, which append a turn of more bytes, to a document that
// has no room for it: the oldest turns move to an archive document in the same
// transaction.
func (s *Store) spill(ctx context.Context, base *session.Session, updates []firestore.Update, more int, rev *revision, now time.Time) error {
	move := split(base, more)
	if len(move) == 0 {
		return fmt.Errorf("no turns to archive: %w", session.ErrTooLarge) // full of keys
	}
	a := archive{ExpiresAt: now.Add(s.archiveLife()), Log: make(map[string][]byte, len(move))}
	for _, r := range move {
		name := fieldName(r.Number)
		a.Log[name] = r.Data
		updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"log", name}, Value: firestore.Delete})
		if f, ok := rev.feedback[name]; ok {
			if a.Feedback == nil {
				a.Feedback = map[string]session.Feedback{}
			}
			a.Feedback[name] = f
			updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"feedback", name}, Value: firestore.Delete})
		}
	}
	first := move[0].Number
	updates = append(updates, firestore.Update{Path: "archived", Value: append(slices.Clone(rev.archived), first)})
	if len(rev.archived) == 0 {
		updates = append(updates, firestore.Update{Path: "archives_expire_at", Value: a.ExpiresAt})
	}
	ref := s.ref(base.Key)
	return s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
		if err := tx.Set(ref.Collection(archives).Doc(archiveName(first)), a); err != nil {
			return err
		}
		return tx.Update(ref, updates, firestore.LastUpdateTime(rev.updated))
	}, firestore.MaxAttempts(1))
}

// split takes the oldest turns so that what stays, with a turn of more bytes,
// is at most keepRecent.
func split(s *session.Session, more int) []session.Record {
	stays := size(s) + more
	n := 0
	for n < len(s.Recent) && stays > keepRecent {
		stays -= len(s.Recent[n].Data) + fieldOverhead
		n++
	}
	return s.Recent[:n]
}

// keepArchives makes a session's archives live on when less than half of their
// life is left, and says so in rev.
func (s *Store) keepArchives(ctx context.Context, key session.Key, rev *revision, now time.Time) error {
	if len(rev.archived) == 0 || rev.archivesExpireAt.Sub(now) >= s.archiveLife()/2 {
		return nil
	}
	expires := now.Add(s.archiveLife())
	for firsts := range slices.Chunk(rev.archived, maxWrites) {
		err := s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
			for _, first := range firsts {
				ref := s.ref(key).Collection(archives).Doc(archiveName(first))
				if err := tx.Update(ref, []firestore.Update{{Path: "expires_at", Value: expires}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("keeping archived turns: %w", err)
		}
	}
	rev.archivesExpireAt = expires
	return nil
}

// archived reads the turns from first to last that are in archive documents.
func (s *Store) archived(ctx context.Context, key session.Key, d *document, first, last int) ([]session.Record, error) {
	var refs []*firestore.DocumentRef
	var ends []int // the number of each document's last turn
	for i, begin := range d.Archived {
		end := d.Turns - len(d.Log) // of the last archive
		if i+1 < len(d.Archived) {
			end = d.Archived[i+1] - 1
		}
		if begin <= last && end >= first {
			refs = append(refs, s.ref(key).Collection(archives).Doc(archiveName(begin)))
			ends = append(ends, end)
		}
	}
	if len(refs) == 0 {
		return nil, nil
	}
	snapshots, err := s.client.GetAll(ctx, refs)
	if err != nil {
		return nil, classify(err)
	}
	var out []session.Record
	for i, snapshot := range snapshots {
		if !snapshot.Exists() {
			return nil, session.ErrNotFound // the session is being deleted, archives first
		}
		var a archive
		if err := snapshot.DataTo(&a); err != nil {
			return nil, err
		}
		turns, err := records(a.Log, ends[i])
		if err != nil {
			return nil, err
		}
		for _, r := range turns {
			if r.Number >= first && r.Number <= last {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// deleteTries bounds how often Delete begins anew because a turn came between.
const deleteTries = 16

// Delete implements [session.Store]. Archives go first: while the session's
// document is there, a call that ended early can be made again.
func (s *Store) Delete(ctx context.Context, key session.Key) error {
	for try := 1; ; try++ {
		d, snapshot, err := s.exists(ctx, key)
		if err == nil {
			err = s.bury(ctx, snapshot, d)
		}
		if err == nil {
			return nil
		}
		if err = classify(err); try == deleteTries || !errors.Is(err, session.ErrChanged) {
			return fmt.Errorf("deleting a session: %w", err)
		}
	}
}

// bury removes a session's document and archives, or leaves the mark of one
// that a key began.
func (s *Store) bury(ctx context.Context, snapshot *firestore.DocumentSnapshot, d *document) error {
	if err := s.deleteArchives(ctx, snapshot.Ref.ID, d.Archived); err != nil {
		return err
	}
	unchanged := firestore.LastUpdateTime(snapshot.UpdateTime)
	if d.Today.Day == session.DayOf(s.now()) {
		// Before the session goes: of two that delete it at once, one may add
		// this in vain. Usage is an estimate; the session's end is not.
		if err := s.AddUsage(ctx, session.Owner(d.Owner), d.Today.Day, d.Today.Spent); err != nil {
			return err
		}
	}
	mark, ok := (&session.Session{KeyedAt: d.KeyedAt}).Mark(s.now())
	if !ok {
		_, err := snapshot.Ref.Delete(ctx, unchanged)
		return err
	}
	_, err := snapshot.Ref.Update(ctx, []firestore.Update{
		{Path: "deleted", Value: true},
		{Path: "owner", Value: firestore.Delete}, // no list has it
		{Path: "title", Value: ""},
		{Path: "turns", Value: 0},
		{Path: "total_tokens", Value: 0},
		{Path: "log", Value: map[string][]byte{}},
		{Path: "today", Value: firestore.Delete},
		{Path: "keys", Value: firestore.Delete},
		{Path: "feedback", Value: firestore.Delete},
		{Path: "archived", Value: firestore.Delete},
		{Path: "archives_expire_at", Value: firestore.Delete},
		{Path: "expires_at", Value: mark.ExpiresAt},
	}, unchanged)
	return err
}

func (s *Store) deleteArchives(ctx context.Context, name string, firsts []int) error {
	session := s.client.Collection(Collection).Doc(name)
	for some := range slices.Chunk(firsts, maxWrites) {
		err := s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
			for _, first := range some {
				if err := tx.Delete(session.Collection(archives).Doc(archiveName(first))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("deleting archived turns: %w", err)
		}
	}
	return nil
}

// deleteStep is how many sessions DeleteAll looks at in one query.
const deleteStep = 100

// deleteSteps bounds the queries of one DeleteAll: an owner of more sessions
// calls again.
const deleteSteps = 100

// DeleteAll implements [session.Store].
func (s *Store) DeleteAll(ctx context.Context, owner session.Owner) error {
	query := s.client.Collection(Collection).Where("owner", "==", string(owner)).
		OrderBy("updated_at", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc).
		Select("owner", "archived", "keyed_at", "today").Limit(deleteStep)
	for range deleteSteps {
		snapshots, err := query.Documents(ctx).GetAll()
		if err != nil {
			return fmt.Errorf("deleting sessions: %w", classify(err))
		}
		if len(snapshots) == 0 {
			return nil
		}
		for _, snapshot := range snapshots {
			var d document
			if err := snapshot.DataTo(&d); err != nil {
				return fmt.Errorf("deleting sessions: %w", err)
			}
			// One that changed or went away meanwhile is met again, or not, by the next query.
			if err := classify(s.bury(ctx, snapshot, &d)); err != nil && !errors.Is(err, session.ErrChanged) && !errors.Is(err, session.ErrNotFound) {
				return fmt.Errorf("deleting sessions: %w", err)
			}
		}
	}
	return fmt.Errorf("deleting sessions: %w: there are more", session.ErrUnavailable)
}

func decodePosition(cursor string) (position, error) {
	micros, name, ok := strings.Cut(cursor, ".")
	n, err := strconv.ParseInt(micros, 36, 64)
	if !ok || err != nil || len(name) != len(session.Key{}.Hash()) || strings.Contains(name, "/") {
		return position{}, session.ErrCursor
	}
	return position{updated: time.UnixMicro(n), name: name}, nil
}

// SetFeedback implements [session.Store]: it is kept with its turn, in the
// session's document or in the archive.
func (s *Store) SetFeedback(ctx context.Context, key session.Key, turn int, f session.Feedback) error {
	for try := 1; ; try++ {
		d, snapshot, err := s.exists(ctx, key)
		if err == nil && (turn < 1 || turn > d.Turns) {
			err = session.ErrNotFound
		}
		if err == nil {
			err = s.setFeedback(ctx, snapshot, d, turn, f)
		}
		if err == nil {
			return nil
		}
		if err = classify(err); try == deleteTries || !errors.Is(err, session.ErrChanged) {
			return fmt.Errorf("keeping feedback: %w", err)
		}
	}
}

func (s *Store) setFeedback(ctx context.Context, snapshot *firestore.DocumentSnapshot, d *document, turn int, f session.Feedback) error {
	change := []firestore.Update{{FieldPath: firestore.FieldPath{"feedback", fieldName(turn)}, Value: f}}
	if turn > d.Turns-len(d.Log) {
		// A turn that is archived meanwhile takes its feedback along: hence the condition.
		_, err := snapshot.Ref.Update(ctx, change, firestore.LastUpdateTime(snapshot.UpdateTime))
		return err
	}
	for i := len(d.Archived) - 1; i >= 0; i-- {
		if d.Archived[i] <= turn {
			_, err := snapshot.Ref.Collection(archives).Doc(archiveName(d.Archived[i])).Update(ctx, change)
			return err
		}
	}
	return fmt.Errorf("turn %d of %d is nowhere", turn, d.Turns)
}
