package firestore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"cloud.google.com/go/firestore"

	"example.com/gatehouse/session"
)

const (
	// maxReplaced bounds the documents of replaced turns that a session has.
	maxReplaced = 32
	// maxHidden bounds how many archives one write copies, so that it stays below
	// Firestore's 10 MiB. Turns before them are removed without a copy.
	maxHidden = 8
)

// below returns the names of the documents below that of a session.
func (d *sessionDocument) below() []string {
	names := slices.Clone(d.Replaced)
	for _, first := range d.Archived {
		names = append(names, archiveName(first))
	}
	return names
}

// cut adds to the updates of a session's document, by set, what removes the turns that
// c.Turn replaces, and returns the other writes of the step. If there are several, the
// replaced turns go to documents beside the archives, which nothing reads: an operator
// can restore from them for [session.KeyLife]. Turns before them that were archived come
// back as c.Before has them, because only what is in the document is loaded.
func (s *Sessions) cut(ctx context.Context, base *session.Session, c session.Change, rev *revision, set func(any, ...string), now time.Time) ([]write, error) {
	first, oldest := c.Before.Turns+1, base.Turns-len(base.Recent)+1
	// rev shares its maps and slices with the session that was loaded, which is immutable: they
	// are copied before they are changed.
	rev.feedback = maps.Clone(rev.feedback)
	hidden := &archiveDocument{ExpiresAt: now.Add(session.KeyLife), Log: map[string][]byte{}}
	for _, r := range base.Recent {
		name := fieldName(r.Number)
		if r.Number < first {
			continue
		}
		hidden.Log[name] = r.Data
		if r.Number > first { // else the new turn takes the field
			set(firestore.Delete, "log", name)
		}
		if _, ok := rev.feedback[name]; ok {
			set(firestore.Delete, "feedback", name)
			delete(rev.feedback, name)
		}
	}
	if first == base.Turns {
		return nil, nil
	}
	ref := s.ref(base.Key)
	var writes []write
	replaced := slices.Clone(rev.replaced)
	hide := func(d *archiveDocument, begin int) {
		name := fmt.Sprintf("replaced-%s-%s", session.NewID(), archiveName(begin))
		replaced = append(replaced, name)
		writes = append(writes, write{ref: archiveRef(ref, name), set: d})
	}
	hide(hidden, max(first, oldest))
	if first < oldest {
		more, err := s.cutArchives(ctx, base, c, rev, set, hide)
		if err != nil {
			return nil, err
		}
		writes = append(writes, more...)
	}
	// A deletion has to reach each of them, and finds them by these names.
	for len(replaced) > maxReplaced {
		writes = append(writes, write{ref: archiveRef(ref, replaced[0]), remove: true})
		replaced = replaced[1:]
	}
	set(replaced, "replaced")
	rev.replaced = replaced
	return writes, nil
}

// cutArchives is cut for turns that are archived.
func (s *Sessions) cutArchives(ctx context.Context, base *session.Session, c session.Change, rev *revision, set func(any, ...string), hide func(*archiveDocument, int)) ([]write, error) {
	first, from := c.Before.Turns+1, c.Before.Turns+1
	// c.Before has read some archived turns, from number from on: they come back to the
	// document, so that the model still knows what was said before the place that the session
	// goes back to.
	if len(c.Before.Recent) > 0 {
		from = c.Before.Recent[0].Number
	}
	var refs []*firestore.DocumentRef
	var begins []int
	for i, begin := range rev.archived {
		end := base.Turns - len(base.Recent)
		if i+1 < len(rev.archived) {
			end = rev.archived[i+1] - 1
		}
		if end >= from {
			refs = append(refs, archiveRef(s.ref(base.Key), archiveName(begin)))
			begins = append(begins, begin)
		}
	}
	snapshots, err := s.client.GetAll(ctx, refs)
	if err != nil {
		return nil, err
	}
	var writes []write
	for i, snapshot := range snapshots {
		if !snapshot.Exists() {
			return nil, session.ErrChanged // the session is being deleted, archives first
		}
		var d archiveDocument
		if err := snapshot.DataTo(&d); err != nil {
			return nil, err
		}
		gone := &archiveDocument{ExpiresAt: s.now().Add(session.KeyLife), Log: map[string][]byte{}}
		// An archive that begins before from keeps its turns up to there; the others are
		// removed. Both happen only if the archive is as it was read, since an opinion may have
		// come in between.
		w := write{ref: snapshot.Ref, unchanged: snapshot.UpdateTime, remove: begins[i] >= from}
		for name, data := range d.Log {
			f, said := d.Feedback[name]
			switch {
			case name >= fieldName(first):
				gone.Log[name] = data
			case name >= fieldName(from):
				set(data, "log", name)
				if said {
					set(f, "feedback", name)
				}
			default:
				continue
			}
			w.updates = append(w.updates, firestore.Update{FieldPath: firestore.FieldPath{"log", name}, Value: firestore.Delete})
			if said {
				w.updates = append(w.updates, firestore.Update{FieldPath: firestore.FieldPath{"feedback", name}, Value: firestore.Delete})
			}
		}
		if len(gone.Log) > 0 && len(snapshots)-i <= maxHidden {
			hide(gone, begins[i])
		}
		writes = append(writes, w)
	}
	rev.archived = slices.DeleteFunc(slices.Clone(rev.archived), func(begin int) bool { return begin >= from })
	set(rev.archived, "archived")
	return writes, nil
}

// fit makes no archived turns come back to the document of base if they and c.Turn do not
// fit in it.
func fit(base, after *session.Session, c *session.Change) error {
	n := len(after.Recent)
	if len(c.Before.Recent) == 0 || c.Before.Turns >= base.Turns-len(base.Recent) {
		return nil
	}
	move, err := split(c.Before, len(after.Recent[n-1].Data)+fieldOverhead, nil)
	if err != nil || len(move) == 0 {
		return err
	}
	before := *c.Before
	before.Recent, after.Recent = nil, after.Recent[n-1:]
	c.Before = &before
	return nil
}
