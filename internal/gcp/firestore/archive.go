package firestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/session"
)

// The archive of a session takes the turns that its document has no room for. Three rules keep
// it whole:
//
// A turn moves in a commit that writes it to the archive, removes it from the session's
// document, and lists the archive's number there. So each turn is in one place, in whichever
// state of the document a reader has it.
//
// An archive has room for the largest opinion on each of its turns from the start: opinions
// come late, and an archive that is full cannot move its turns anywhere.
//
// Archives expire after their session and are deleted with it, in one commit as far as that
// takes them, so that no session is there in part.

// archiveRef returns a document below that of a session.
func archiveRef(session *firestore.DocumentRef, name string) *firestore.DocumentRef {
	return session.Collection(archiveCollection).Doc(name)
}

// An archive lives twice as long as a session after its last turn, and is
// made to live on when less than half of that is left: so it outlives its
// session, and most turns need not touch it.
func (s *Sessions) archiveLife() time.Duration { return 2 * s.ttl }

// archiveEnd returns when an archive that is written at now expires: not before its
// session, which is kept longer while its last turn waits.
func (s *Sessions) archiveEnd(after *session.Session, now time.Time) time.Time {
	if end := now.Add(s.archiveLife()); end.After(after.ExpiresAt) {
		return end
	}
	return after.ExpiresAt
}

// spill makes updates to the document of a session, which is after them as after
// has it, and moves turns to archive documents in the same commit.
func (s *Sessions) spill(ctx context.Context, after *session.Session, move []session.Record, updates []firestore.Update, run []write, rev *revision, now time.Time) error {
	// Past remembers the turns that leave the document, in which a commit whose response was
	// lost would look for its own.
	past := after.Past
	firsts := slices.Clone(rev.archived)
	expires := s.archiveEnd(after, now)
	archived := map[int]*archiveDocument{} // by the first turn
	var last *archiveDocument
	room := 0
	for _, r := range move {
		name := fieldName(r.Number)
		f, said := rev.feedback[name]
		need := len(r.Data) + fieldOverhead + max(mostFeedback, feedbackSize(f))
		if last == nil || need > room {
			last = &archiveDocument{ExpiresAt: expires, Log: map[string][]byte{}, Feedback: map[string]storedFeedback{}}
			archived[r.Number] = last
			firsts = append(firsts, r.Number)
			room = maxArchive
		}
		room -= need
		last.Log[name] = r.Data
		updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"log", name}, Value: firestore.Delete})
		if said {
			last.Feedback[name] = f
			updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"feedback", name}, Value: firestore.Delete})
		}
		left, err := r.Past()
		if err != nil {
			return err
		}
		past = session.Remember(past, left)
	}
	updates = append(updates, firestore.Update{Path: "archived", Value: firsts}, firestore.Update{Path: "past", Value: storedPasts(past)})
	// Later archives expire after the first, whose time the document has: renewing all of them
	// when the first is due is early enough.
	if len(rev.archived) == 0 {
		updates = append(updates, firestore.Update{Path: "archives_expire_at", Value: expires})
	}
	ref := s.ref(after.Key)
	writes := append(run, write{ref: ref, updates: updates, unchanged: rev.updated})
	for first, a := range archived {
		writes = append(writes, write{ref: archiveRef(ref, archiveName(first)), set: a})
	}
	_, err := s.commit(ctx, writes...)
	return err
}

const (
	// maxArchive bounds an archive document, each of its turns with the longest
	// comment that it may get later.
	maxArchive = 900 << 10
	// mostFeedback is what that comment takes: 2 000 characters of 4 bytes.
	mostFeedback = 8000 + fieldOverhead
	// keyOverhead is about what an idempotency key takes in a document.
	keyOverhead = 200
	// overhead is about what a document's other fields take.
	overhead = 8 << 10
)

// feedbackSize is about what an opinion takes in a document, in bytes.
func feedbackSize(f storedFeedback) int { return len(f.Comment) + fieldOverhead }

// fixed is about how many bytes of a session's document no archive can take.
//
// It is an estimate from the bytes of names and values; Firestore's own count
// (https://cloud.google.com/firestore/docs/storage-size) differs by a little for each field.
func fixed(s *session.Session) int {
	rev, _ := s.Revision.(revision)
	size := overhead + len(s.Keys)*keyOverhead + len(rev.archived)*8
	for name, value := range s.State {
		size += len(name) + len(value)
	}
	return size
}

// split returns the oldest turns of s that must leave its document before it takes
// more bytes: none where there is room. Half of what turns can have stays, or more, so
// that it is rarely needed; the last turn is of what stays unless it makes room for more.
func split(s *session.Session, more int, feedback map[string]storedFeedback) ([]session.Record, error) {
	sizes := make([]int, len(s.Recent))
	turns := more
	for i, r := range s.Recent {
		sizes[i] = len(r.Data) + fieldOverhead
		if f, ok := feedback[fieldName(r.Number)]; ok {
			sizes[i] += feedbackSize(f)
		}
		turns += sizes[i]
	}
	fixed := fixed(s)
	if fixed+turns <= maxDocument {
		return nil, nil
	}
	n, keep := 0, (maxDocument-fixed)/2
	// With more == 0 it is an opinion that needs room, perhaps on the last turn: that one
	// stays.
	movable := len(s.Recent)
	if more == 0 {
		movable--
	}
	for n < movable && turns > keep {
		turns -= sizes[n]
		n++
	}
	// Nothing that can be moved is left. A write that Firestore would refuse is refused here,
	// with an error that the caller can act on.
	if fixed+turns > mostDocument {
		return nil, fmt.Errorf("a document of %d bytes: %w", fixed+turns, session.ErrTooLarge)
	}
	return s.Recent[:n], nil
}

// records returns an archive's turns, of which begin is the first: a replacement takes turns
// from an archive's end only.
func (a *archiveDocument) records(begin int) ([]session.Record, error) {
	return records(a.Log, begin+len(a.Log)-1)
}

// keepArchives makes a session's archives live on when less than half of their
// life is left, or less than the session's, and records it in rev.
func (s *Sessions) keepArchives(ctx context.Context, after *session.Session, rev *revision, now time.Time) error {
	if len(rev.archived) == 0 || rev.archivesExpireAt.Sub(now) >= s.archiveLife()/2 && !rev.archivesExpireAt.Before(after.ExpiresAt) {
		return nil
	}
	key, expires := after.Key, s.archiveEnd(after, now)
	// The archives are extended before the session: if that write fails, they live longer than
	// they need to, which harms nobody; the other order could leave a session without its
	// archives.
	var writes []write
	for _, first := range rev.archived {
		writes = append(writes, write{ref: archiveRef(s.ref(key), archiveName(first)), updates: []firestore.Update{{Path: "expires_at", Value: expires}}, exists: true})
	}
	err := s.commitEach(ctx, writes)
	// ErrNotFound would have the caller believe that the session was deleted, and drop the
	// turn. The archive's turns may have been replaced: the caller looks again.
	if status.Code(err) == codes.NotFound {
		err = session.ErrChanged
	}
	if err != nil {
		return fmt.Errorf("keeping archived turns: %w", err)
	}
	rev.archivesExpireAt = expires
	return nil
}

// archived reads the turns from first to last that are in archive documents. The session's
// document was read before, in another round trip: its error is ErrChanged if an archive is not
// as d has it, since turns were replaced or the session was deleted in between.
func (s *Sessions) archived(ctx context.Context, key session.Key, d *sessionDocument, first, last int) ([]session.Record, error) {
	var refs []*firestore.DocumentRef
	var begins, ends []int // the numbers of each document's first and last turn
	for i, begin := range d.Archived {
		end := d.Turns - len(d.Log) // of the last archive
		if i+1 < len(d.Archived) {
			end = d.Archived[i+1] - 1
		}
		if begin <= last && end >= first {
			refs = append(refs, archiveRef(s.ref(key), archiveName(begin)))
			begins, ends = append(begins, begin), append(ends, end)
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
			return nil, fmt.Errorf("the archive %s is missing: %w", snapshot.Ref.ID, session.ErrChanged)
		}
		var a archiveDocument
		if err := snapshot.DataTo(&a); err != nil {
			return nil, err
		}
		turns, err := a.records(begins[i])
		if err != nil {
			return nil, err
		}
		if begins[i]+len(turns)-1 != ends[i] {
			return nil, fmt.Errorf("the archive %s has %d turns: %w", snapshot.Ref.ID, len(turns), session.ErrChanged)
		}
		for _, r := range turns {
			if r.Number >= first && r.Number <= last {
				out = append(out, withFeedback(r, a.Feedback))
			}
		}
	}
	return out, nil
}

// deleteTries bounds how often Delete begins again because a turn came between.
const deleteTries = 16

// Delete implements [session.Store]. The runs go first: a deletion that fails then is
// repeated.
func (s *Sessions) Delete(ctx context.Context, key session.Key) error {
	found, goesOn, err := s.deleteRuns(ctx, key.Owner, key.ID)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		d, snapshot, err := s.read(ctx, key)
		if err == nil && (d.Deleted || d.Turns == 0 && !found) { // what is left is the claim of a key
			err = session.ErrNotFound
		}
		if err == nil {
			err = s.bury(ctx, snapshot, d)
		}
		if err == nil || goesOn && errors.Is(err, session.ErrNotFound) {
			return nil
		}
		if err = classify(err); try == deleteTries || !errors.Is(err, session.ErrChanged) {
			return fmt.Errorf("deleting a session: %w", err)
		}
	}
}

// bury removes a session and its archives, and leaves its mark. Archives go with
// the session in one commit, so that no session is ever there in part; of more
// than a commit takes, the rest goes after it.
func (s *Sessions) bury(ctx context.Context, snapshot *firestore.DocumentSnapshot, d *sessionDocument) error {
	// The mark is the same document, without anything of the session's content: it has only to
	// be there, so that a turn that was running does not bring the session back.
	mark := (&session.Session{KeyedAt: d.KeyedAt}).Mark(s.now())
	updates := []firestore.Update{
		{Path: "deleted", Value: true},
		{Path: "owner", Value: firestore.Delete}, // no list has it
		{Path: "title", Value: ""},
		{Path: "turns", Value: 0},
		{Path: "total_tokens", Value: 0},
		{Path: "log", Value: map[string][]byte{}},
		{Path: "today", Value: firestore.Delete}, // of older revisions
		{Path: "keys", Value: firestore.Delete},
		{Path: "past", Value: firestore.Delete},
		{Path: "state", Value: firestore.Delete},
		{Path: "feedback", Value: firestore.Delete},
		{Path: "archived", Value: firestore.Delete},
		{Path: "archives_expire_at", Value: firestore.Delete},
		{Path: "replaced", Value: firestore.Delete},
		{Path: "expires_at", Value: mark.ExpiresAt},
	}
	if mark.KeyedAt.IsZero() {
		updates = append(updates, firestore.Update{Path: "keyed_at", Value: firestore.Delete})
	}
	writes := append([]write{{ref: snapshot.Ref, updates: updates, unchanged: snapshot.UpdateTime}}, removals(snapshot.Ref, d)...)
	now := min(len(writes), maxWrites)
	if _, err := s.commit(ctx, writes[:now]...); err != nil {
		return err
	}
	return s.deleteArchives(ctx, writes[now:])
}

// removals returns the writes that remove what is below a session's document.
func removals(session *firestore.DocumentRef, d *sessionDocument) (writes []write) {
	for _, name := range d.below() {
		writes = append(writes, write{ref: archiveRef(session, name), remove: true})
	}
	return writes
}

func (s *Sessions) deleteArchives(ctx context.Context, removals []write) error {
	if err := s.commitEach(ctx, removals); err != nil {
		return fmt.Errorf("deleting archived turns: %w", err)
	}
	return nil
}

// deleteStep is how many sessions DeleteAll looks at in one query.
const deleteStep = 100

// deleteSteps bounds the queries of one DeleteAll: an owner of more sessions
// calls again.
const deleteSteps = 100

// DeleteAll implements [session.Store].
func (s *Sessions) DeleteAll(ctx context.Context, owner session.Owner) error {
	if owner == "" { // a request without a caller, who has nothing
		return nil
	}
	if err := s.deleteUser(ctx, owner); err != nil {
		return err
	}
	if _, _, err := s.deleteRuns(ctx, owner, ""); err != nil {
		return err
	}
	query := s.client.Collection(SessionsCollection).Where("owner", "==", string(owner)).
		OrderBy("updated_at", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc).
		Select("owner", "archived", "replaced", "keyed_at").Limit(deleteStep)
	// Each step removes what the last query found, since a mark has no owner and is found no
	// more.
	for range deleteSteps {
		snapshots, err := query.Documents(ctx).GetAll()
		if err != nil {
			return fmt.Errorf("deleting sessions: %w", classify(err))
		}
		if len(snapshots) == 0 {
			return nil
		}
		for _, snapshot := range snapshots {
			var d sessionDocument
			if err := snapshot.DataTo(&d); err != nil {
				return fmt.Errorf("deleting sessions: %w", err)
			}
			// One that has changed or gone since is met again, or not, by the next query.
			if err := classify(s.bury(ctx, snapshot, &d)); err != nil && !errors.Is(err, session.ErrChanged) && !errors.Is(err, session.ErrNotFound) {
				return fmt.Errorf("deleting sessions: %w", err)
			}
		}
	}
	// The caller may try again: each call removes up to 10 000 sessions.
	return fmt.Errorf("deleting sessions: %w: there are more", session.ErrUnavailable)
}

// SetFeedback implements [session.Store]: it is kept with its turn, in the
// session's document or in the archive.
func (s *Sessions) SetFeedback(ctx context.Context, key session.Key, turn int, f session.Feedback) error {
	for try := 1; ; try++ {
		d, snapshot, err := s.exists(ctx, key)
		if err == nil && (turn < 1 || turn > d.Turns) {
			err = session.ErrNotFound
		}
		if err == nil {
			err = s.setFeedback(ctx, key, snapshot, d, turn, storedFeedback(f))
		}
		if err == nil {
			return nil
		}
		// An opinion on a turn that was archived between the read and the write is tried again:
		// it then goes to the archive.
		if err = classify(err); try == deleteTries || !errors.Is(err, session.ErrChanged) {
			return fmt.Errorf("keeping feedback: %w", err)
		}
	}
}

func (s *Sessions) setFeedback(ctx context.Context, key session.Key, snapshot *firestore.DocumentSnapshot, d *sessionDocument, turn int, f storedFeedback) error {
	name := fieldName(turn)
	change := []firestore.Update{{FieldPath: firestore.FieldPath{"feedback", name}, Value: f}}
	if turn <= d.Turns-len(d.Log) {
		for i := len(d.Archived) - 1; i >= 0; i-- {
			if d.Archived[i] <= turn {
				// Only if the session is as it was read, which the write of what it has checks: its
				// turns may have been replaced, and an opinion on one of them would be left in an
				// archive that has another, or none.
				same := []firestore.Update{{Path: "turns", Value: d.Turns}}
				_, err := s.commit(ctx,
					write{ref: snapshot.Ref, updates: same, unchanged: snapshot.UpdateTime},
					write{ref: archiveRef(snapshot.Ref, archiveName(d.Archived[i])), updates: change, exists: true})
				if status.Code(err) == codes.NotFound {
					return session.ErrChanged // the session is being deleted, archives first
				}
				if status.Code(err) == codes.InvalidArgument { // of an earlier release, which left no room
					return fmt.Errorf("an archive takes no more: %w (%w)", session.ErrTooLarge, err)
				}
				return err
			}
		}
		return fmt.Errorf("turn %d of %d is nowhere", turn, d.Turns)
	}
	base, err := d.session(key, snapshot)
	if err != nil {
		return err
	}
	rev := base.Revision.(revision)
	rev.feedback = maps.Clone(rev.feedback)
	if rev.feedback == nil {
		rev.feedback = map[string]storedFeedback{}
	}
	rev.feedback[name] = f
	move, err := split(base, 0, rev.feedback)
	if err != nil {
		return err
	}
	if len(move) == 0 {
		// A turn that has been archived since takes its feedback along: hence the condition.
		_, err := snapshot.Ref.Update(ctx, change, firestore.LastUpdateTime(snapshot.UpdateTime))
		return err
	}
	// The opinion is in rev, from which spill takes what moves.
	if turn <= move[len(move)-1].Number {
		change = nil // it goes with its turn
	}
	return s.spill(ctx, base, move, change, nil, &rev, s.now())
}
