package firestore

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/session"
)

// UsersCollection is the name of the collection of owners' state.
const UsersCollection = "users"

// userDocument is an owner's state, in a document named by the owner's hash: one read
// loads it, one conditional write changes a value, independent of the owner's sessions.
type userDocument struct {
	UpdatedAt time.Time         `firestore:"updated_at"`
	ExpiresAt time.Time         `firestore:"expires_at"` // the TTL policy's field
	DeletedAt time.Time         `firestore:"deleted_at,omitempty"`
	Writes    []string          `firestore:"writes"`
	Values    map[string][]byte `firestore:"values"`
}

// userRevision is what a conditional write needs of the document that was read.
type userRevision struct {
	updated time.Time // Firestore's own update time
	expired bool      // the document's values are past
}

func (s *Sessions) userRef(owner session.Owner) *firestore.DocumentRef {
	return s.client.Collection(UsersCollection).Doc(string(owner))
}

// LoadUser implements [session.Store].
func (s *Sessions) LoadUser(ctx context.Context, owner session.Owner) (*session.User, error) {
	snapshot, err := s.userRef(owner).Get(ctx)
	if status.Code(err) == codes.NotFound {
		return &session.User{Owner: owner}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loading a user's state: %w", classify(err))
	}
	var d userDocument
	if err := snapshot.DataTo(&d); err != nil {
		return nil, fmt.Errorf("loading a user's state: %w", err)
	}
	// It is absent, but the document is there: the next write replaces all of it instead of
	// creating one.
	if !s.now().Before(d.ExpiresAt) {
		return &session.User{Owner: owner, Revision: userRevision{snapshot.UpdateTime, true}}, nil
	}
	return &session.User{
		Owner: owner, Values: loadedState(d.Values), UpdatedAt: d.UpdatedAt, ExpiresAt: d.ExpiresAt, DeletedAt: d.DeletedAt,
		Writes: d.Writes, Revision: userRevision{updated: snapshot.UpdateTime},
	}, nil
}

// ApplyUser implements [session.Store].
func (s *Sessions) ApplyUser(ctx context.Context, u *session.User, c session.UserChange) error {
	after, err := u.After(c, s.now().Truncate(time.Microsecond))
	if err != nil {
		return fmt.Errorf("changing a user's state: %w", err)
	}
	d := userDocument{
		UpdatedAt: after.UpdatedAt, ExpiresAt: after.ExpiresAt, DeletedAt: after.DeletedAt,
		Writes: after.Writes, Values: storedState(after.Values),
	}
	rev, stored := u.Revision.(userRevision)
	if !stored {
		_, err = s.userRef(u.Owner).Create(ctx, d)
	} else {
		// Only the value that changes is sent. The condition would also allow all of them, but
		// 12 values of 64 KiB are 768 KiB.
		updates := []firestore.Update{{Path: "updated_at", Value: d.UpdatedAt}, {Path: "expires_at", Value: d.ExpiresAt}, {Path: "writes", Value: d.Writes}}
		value, kept := after.Values[c.Name]
		switch {
		case rev.expired:
			updates = append(updates, firestore.Update{Path: "values", Value: d.Values}, firestore.Update{Path: "deleted_at", Value: firestore.Delete})
		case kept:
			updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"values", c.Name}, Value: []byte(value)})
		default:
			updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"values", c.Name}, Value: firestore.Delete})
		}
		_, err = s.userRef(u.Owner).Update(ctx, updates, firestore.LastUpdateTime(rev.updated))
	}
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.NotFound: // removed by the TTL since it was read
		return fmt.Errorf("changing a user's state: %w (%w)", session.ErrChanged, err)
	}
	return fmt.Errorf("changing a user's state: %w", classify(err))
}

// deleteUser removes an owner's state and leaves its mark.
//
// It has no condition: a deletion wins over any update, also one that comes between its read
// and its write, which then fails by its own condition.
func (s *Sessions) deleteUser(ctx context.Context, owner session.Owner) error {
	mark := (&session.User{Owner: owner}).Mark(s.now().Truncate(time.Microsecond))
	_, err := s.userRef(owner).Set(ctx, userDocument{UpdatedAt: mark.UpdatedAt, ExpiresAt: mark.ExpiresAt, DeletedAt: mark.DeletedAt})
	if err != nil {
		return fmt.Errorf("deleting a user's state: %w", classify(err))
	}
	return nil
}
