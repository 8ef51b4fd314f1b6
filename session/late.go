package session

import (
	"context"
	"slices"
)

// A write that its caller gave up may still take place. A deletion leaves tombstones of what
// is there, which later writes do not pass. What cannot have one is a record that is not there
// yet, in a session that has no document: its first write may come after [Store.DeleteAll]. If
// its holder lives, the run is one that had nothing to delete, and goes on. If the holder has
// died, whoever took the run over would bring back what its owner knows as deleted. So these
// two functions pass such a record over: it is nobody's, and expires after [RunLife]. The owner's
// mark, which has the time of the deletion, lives as long. It is read only for a record that was
// never written again and whose holder is silent, so that a turn pays nothing. The times are
// those of two instances, as in [UpdateUser].

// LoadRun returns the record of a run as [Store.LoadRun] does. It takes a record for absent
// whose only write was made before everything of its owner was deleted.
func LoadRun(ctx context.Context, store Store, key Key, id string) (*Run, error) {
	r, err := store.LoadRun(ctx, key, id)
	if err != nil || !r.mayBeLate() {
		return r, err
	}
	u, err := store.LoadUser(ctx, key.Owner)
	switch {
	case err != nil:
		return nil, err
	case r.late(u):
		return nil, ErrRunDeleted
	}
	return r, nil
}

// ListRuns returns records as [Store.ListRuns] does, without those that [LoadRun] takes for
// absent. A page may be short.
func ListRuns(ctx context.Context, store Store, owner Owner, filter RunFilter, limit int, cursor string) ([]*Run, string, error) {
	runs, next, err := store.ListRuns(ctx, owner, filter, limit, cursor)
	if err != nil || !slices.ContainsFunc(runs, (*Run).mayBeLate) {
		return runs, next, err
	}
	u, err := store.LoadUser(ctx, owner)
	if err != nil {
		return nil, "", err
	}
	return slices.DeleteFunc(runs, func(r *Run) bool { return r.mayBeLate() && r.late(u) }), next, nil
}

// mayBeLate reports whether r was written once, by a holder that may be dead.
func (r *Run) mayBeLate() bool { return r.Lapsed() && r.UpdatedAt.Equal(r.CreatedAt) }

// late reports whether the first write of r was made before everything of u was deleted.
func (r *Run) late(u *User) bool { return !r.CreatedAt.After(u.DeletedAt) }
