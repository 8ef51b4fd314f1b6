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
func (s *Store) spill(ctx context.Context, base *session.Session, updates []firestore.Update, more int, rev revision, now time.Time) error {
	move := split(base.Recent, more)
	log := make(map[string][]byte, len(move))
	for _, r := range move {
		log[fieldName(r.Number)] = r.Data
		updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"log", fieldName(r.Number)}, Value: firestore.Delete})
	}
	first, expires := move[0].Number, now.Add(s.archiveLife())
	updates = append(updates, firestore.Update{Path: "archived", Value: append(slices.Clone(rev.archived), first)})
	if len(rev.archived) == 0 {
		updates = append(updates, firestore.Update{Path: "archives_expire_at", Value: expires})
	}
	ref := s.ref(base.Key)
	return s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
		if err := tx.Set(ref.Collection(archives).Doc(archiveName(first)), archive{ExpiresAt: expires, Log: log}); err != nil {
			return err
		}
		return tx.Update(ref, updates, firestore.LastUpdateTime(rev.updated))
	}, firestore.MaxAttempts(1))
}

// split takes the oldest turns so that what stays, with a turn of more bytes,
// is at most keepRecent.
func split(recent []session.Record, more int) []session.Record {
	stays := size(recent) + more
	n := 0
	for n < len(recent) && stays > keepRecent {
		stays -= len(recent[n].Data) + fieldOverhead
		n++
	}
	return recent[:n]
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
		d, snapshot, err := s.read(ctx, key)
		if err == nil {
			err = s.deleteArchives(ctx, key.Hash(), d.Archived)
		}
		if err == nil {
			_, err = s.ref(key).Delete(ctx, firestore.LastUpdateTime(snapshot.UpdateTime))
		}
		if err == nil {
			return nil
		}
		if err = classify(err); try == deleteTries || !errors.Is(err, session.ErrChanged) {
			return fmt.Errorf("deleting a session: %w", err)
		}
	}
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
		Select("archived").Limit(deleteStep)
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
			err := s.deleteArchives(ctx, snapshot.Ref.ID, d.Archived)
			if err == nil {
				_, err = snapshot.Ref.Delete(ctx, firestore.LastUpdateTime(snapshot.UpdateTime))
			}
			// One that changed or went away meanwhile is met again, or not, by the next query.
			if err = classify(err); err != nil && !errors.Is(err, session.ErrChanged) && !errors.Is(err, session.ErrNotFound) {
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
