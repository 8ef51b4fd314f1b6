package firestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/session"
)

const (
	// maxDocument is how large a session's document may grow before turns are
	// archived; Firestore's own limit is 1 MiB.
	maxDocument = 700 << 10
	// fieldOverhead is about what a turn's field takes beside its data.
	fieldOverhead = 64
	// mostDocument is what is still written where no turn can make room:
	// below Firestore's limit, with what the estimate of a size leaves out.
	mostDocument = 1000 << 10
)

// SessionsCollection is the name of the collection of sessions.
const SessionsCollection = "sessions"

// archiveCollection is the name of the subcollection of archived turns.
const archiveCollection = "archive"

// Sessions is a [session.Store] in Firestore, safe for concurrent use by any
// number of processes.
//
// A session is one document, named by the hash of its owner and id. It holds the
// metadata and the recent turns, each one field of the map "log", so that a usual
// turn is one read and one conditional write that sends only the new turn. Before
// the document reaches [maxDocument] the oldest turns move, in the same commit, to
// documents of the subcollection "archive", each named by the number of its first
// turn.
//
// Reads treat an expired session as absent: Firestore's own deletion by TTL may
// come a day late.
type Sessions struct {
	client *firestore.Client
	ttl    time.Duration
	now    func() time.Time
}

// NewSessions returns a store that keeps a session for ttl after its last turn. The
// caller closes client. now is the clock.
func NewSessions(client *firestore.Client, ttl time.Duration, now func() time.Time) *Sessions {
	return &Sessions{client: client, ttl: ttl, now: now}
}

// sessionDocument is a session's document. The indexes that its queries need, and the
// exemptions for the rest, are declared in terraform/.
type sessionDocument struct {
	Owner     string            `firestore:"owner"`
	ID        string            `firestore:"session_id"`
	CreatedAt time.Time         `firestore:"created_at"`
	UpdatedAt time.Time         `firestore:"updated_at"`
	ExpiresAt time.Time         `firestore:"expires_at"` // the TTL policy's field
	Turns     int               `firestore:"turns"`
	Tokens    int64             `firestore:"total_tokens"`
	Title     string            `firestore:"title"`
	Log       map[string][]byte `firestore:"log"` // the recent turns, by fieldName

	// Keys are the idempotency keys; KeyedAt is when one of them began the
	// session; Deleted makes the document the mark of a deleted session. Past are
	// turns that have left the log.
	Past    []storedPast         `firestore:"past,omitempty"`
	Keys    map[string]storedKey `firestore:"keys,omitempty"`
	KeyedAt time.Time            `firestore:"keyed_at,omitempty"`
	Deleted bool                 `firestore:"deleted,omitempty"`

	// State holds JSON values, by name.
	State map[string][]byte `firestore:"state,omitempty"`

	// Feedback holds opinions on the recent turns, by fieldName.
	Feedback map[string]storedFeedback `firestore:"feedback,omitempty"`

	// Archived holds the number of each archive document's first turn, in
	// order; ArchivesExpireAt is when the first of them expires.
	Archived         []int     `firestore:"archived,omitempty"`
	ArchivesExpireAt time.Time `firestore:"archives_expire_at,omitempty"`

	// Replaced names the documents beside the archives that hold replaced turns, the
	// latest last. Some may have expired.
	Replaced []string `firestore:"replaced,omitempty"`
}

// archiveDocument is a document of turns that left their session's.
type archiveDocument struct {
	ExpiresAt time.Time                 `firestore:"expires_at"`
	Log       map[string][]byte         `firestore:"log"`
	Feedback  map[string]storedFeedback `firestore:"feedback,omitempty"`
}

// revision is what a conditional write needs of the document that was read.
type revision struct {
	updated          time.Time // Firestore's own update time, the precondition; zero: not known
	archived         []int
	archivesExpireAt time.Time
	replaced         []string
	feedback         map[string]storedFeedback
}

// fieldName names a turn's field so that names sort as numbers do.
func fieldName(number int) string { return fmt.Sprintf("t%09d", number) }

func archiveName(first int) string { return fmt.Sprintf("%09d", first) }

// records returns a log's turns in order. Numbers run without gaps up to last.
func records(log map[string][]byte, last int) ([]session.Record, error) {
	out := make([]session.Record, 0, len(log))
	for number := last - len(log) + 1; number <= last; number++ {
		data, ok := log[fieldName(number)]
		if !ok {
			return nil, fmt.Errorf("turn %d of %d is missing in a document that holds %d", number, last, len(log))
		}
		out = append(out, session.Record{Number: number, Data: data})
	}
	return out, nil
}

func (d *sessionDocument) meta() session.Meta {
	return session.Meta{
		ID: d.ID, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt, ExpiresAt: d.ExpiresAt,
		Turns: d.Turns, TotalTokens: d.Tokens, Title: d.Title,
	}
}

// ref returns a session's document. Its name has the owner in it, so that no query and no check
// decides whose it is, and is evenly distributed, as Firestore's range splits need it
// (https://cloud.google.com/firestore/docs/best-practices).
func (s *Sessions) ref(key session.Key) *firestore.DocumentRef {
	return s.client.Collection(SessionsCollection).Doc(key.Hash())
}

// Load implements [session.Store].
func (s *Sessions) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	d, snapshot, err := s.read(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("loading a session: %w", err)
	}
	loaded, err := d.session(key, snapshot)
	if err != nil {
		return nil, fmt.Errorf("loading a session: %w", err)
	}
	return loaded, nil
}

// session is what d holds, as snapshot has it.
func (d *sessionDocument) session(key session.Key, snapshot *firestore.DocumentSnapshot) (*session.Session, error) {
	recent, err := records(d.Log, d.Turns)
	if err != nil {
		return nil, err
	}
	return &session.Session{
		Meta: d.meta(), Key: key, Recent: recent, Keys: loadedKeys(d.Keys), KeyedAt: d.KeyedAt, Past: loadedPast(d.Past), State: loadedState(d.State), Deleted: d.Deleted,
		Revision: revision{updated: snapshot.UpdateTime, archived: d.Archived, archivesExpireAt: d.ArchivesExpireAt, replaced: d.Replaced, feedback: d.Feedback},
	}, nil
}

// read gets what is stored under key; what has expired is absent.
func (s *Sessions) read(ctx context.Context, key session.Key) (*sessionDocument, *firestore.DocumentSnapshot, error) {
	snapshot, err := s.ref(key).Get(ctx)
	if err != nil {
		return nil, nil, classify(err)
	}
	var d sessionDocument
	if err := snapshot.DataTo(&d); err != nil {
		return nil, nil, err
	}
	if !s.now().Before(d.ExpiresAt) {
		return nil, nil, session.ErrNotFound
	}
	return &d, snapshot, nil
}

// exists is read for what only a session has: claims and marks are absent.
func (s *Sessions) exists(ctx context.Context, key session.Key) (*sessionDocument, *firestore.DocumentSnapshot, error) {
	d, snapshot, err := s.read(ctx, key)
	if err == nil && (d.Turns == 0 || d.Deleted) {
		err = session.ErrNotFound
	}
	return d, snapshot, err
}

// Apply implements [session.Store]. It is one write of one document, unless
// turns must be archived.
func (s *Sessions) Apply(ctx context.Context, base *session.Session, c session.Change) (*session.Session, error) {
	now := s.now().Truncate(time.Microsecond) // Firestore's precision
	after, record, err := base.After(c, now, s.ttl)
	if err != nil {
		return nil, err
	}
	// A record of [session.MaxTurnBytes] and what undoes the largest change of the state are
	// below this: a turn that is above it is refused before anything is written.
	if record != nil && len(record.Data) > maxDocument {
		return nil, fmt.Errorf("appending a turn of %d bytes: %w", len(record.Data), session.ErrTooLarge)
	}
	// The records come after the session in a commit, whose first update time is the session's.
	run, _, err := s.runWrites(c.Run)
	if err != nil {
		return nil, err
	}
	denied, _, err := s.runWrites(c.Denied)
	if err != nil {
		return nil, err
	}
	run = append(run, denied...)
	rev, stored := base.Revision.(revision)
	var updated time.Time
	switch {
	// Only a document that holds nothing but a claim is removed so, and only as it was read.
	case c.Remove && stored:
		_, err = s.ref(base.Key).Delete(ctx, firestore.LastUpdateTime(rev.updated))
	case !stored:
		updated, err = s.create(ctx, after, record, run)
	default:
		updated, err = s.update(ctx, base, after, c, record, run, &rev, now)
	}
	// Firestore does not name the document of a commit that is missing. ErrNotFound would have
	// the caller believe that the session was deleted, and drop a turn; ErrChanged has it look
	// again.
	if status.Code(err) == codes.NotFound && c.Denied != nil {
		err = session.ErrChanged // it may be the record that is gone
	}
	if err != nil {
		return nil, fmt.Errorf("changing a session: %w", classify(err))
	}
	rev.updated = updated
	after.Revision = rev
	return after, nil
}

// create writes the document of a new session, or of a claim to one.
func (s *Sessions) create(ctx context.Context, after *session.Session, record *session.Record, run []write) (time.Time, error) {
	d := sessionDocument{
		Owner: string(after.Key.Owner), ID: after.Key.ID, CreatedAt: after.CreatedAt, UpdatedAt: after.UpdatedAt,
		ExpiresAt: after.ExpiresAt, Turns: after.Turns, Tokens: after.TotalTokens, Title: after.Title,
		Keys: storedKeys(after.Keys), KeyedAt: after.KeyedAt, State: storedState(after.State), Log: map[string][]byte{},
	}
	if record != nil {
		d.Log[fieldName(record.Number)] = record.Data
	}
	times, err := s.commit(ctx, append([]write{{ref: s.ref(after.Key), create: d}}, run...)...)
	if status.Code(err) == codes.AlreadyExists {
		times, err = s.replaceExpired(ctx, after.Key, d, run)
	}
	if err != nil {
		return time.Time{}, err
	}
	return times[0], nil
}

// replaceExpired puts d in the place of a document of the same name that has
// expired and not been removed yet.
func (s *Sessions) replaceExpired(ctx context.Context, key session.Key, d sessionDocument, run []write) ([]time.Time, error) {
	snapshot, err := s.ref(key).Get(ctx)
	if status.Code(err) == codes.NotFound {
		return nil, session.ErrChanged // removed since it was read
	}
	if err != nil {
		return nil, err
	}
	var old sessionDocument
	if err := snapshot.DataTo(&old); err != nil {
		return nil, err
	}
	if s.now().Before(old.ExpiresAt) {
		return nil, session.ErrChanged
	}
	// The archives go first: without their session's document they would be found by nobody,
	// not even by a deletion.
	if err := s.deleteArchives(ctx, removals(snapshot.Ref, &old)); err != nil {
		return nil, err
	}
	// A document cannot be replaced under a precondition, only removed and created
	// again; who comes in between is noticed by the second write.
	_, err = s.ref(key).Delete(ctx, firestore.LastUpdateTime(snapshot.UpdateTime))
	if status.Code(err) == codes.NotFound {
		return nil, session.ErrChanged
	}
	if err != nil {
		return nil, err
	}
	return s.commit(ctx, append([]write{{ref: s.ref(key), create: d}}, run...)...)
}

// update changes a document that is stored as rev has it.
func (s *Sessions) update(ctx context.Context, base, after *session.Session, c session.Change, record *session.Record, run []write, rev *revision, now time.Time) (time.Time, error) {
	var updates []firestore.Update
	set := func(value any, path ...string) {
		updates = append(updates, firestore.Update{FieldPath: path, Value: value})
	}
	for _, key := range c.Drop {
		set(firestore.Delete, "keys", key)
	}
	switch {
	case c.Key != "" && c.Entry != nil:
		set(storedKey(*c.Entry), "keys", c.Key)
	case c.Key != "":
		set(firestore.Delete, "keys", c.Key)
	}
	if base.Deleted { // a mark, in whose place another session begins
		set(string(after.Key.Owner), "owner")
		set(after.Key.ID, "session_id")
		set(firestore.Delete, "deleted")
		if record == nil {
			set(after.CreatedAt, "created_at")
			set(after.UpdatedAt, "updated_at")
		}
	}
	// base is here what is stored; below, it becomes the session before the replaced turns,
	// whose state the document does not have.
	for name, value := range after.State {
		if !bytes.Equal(value, base.State[name]) {
			set([]byte(value), "state", name)
		}
	}
	for name := range base.State {
		if _, ok := after.State[name]; !ok {
			set(firestore.Delete, "state", name)
		}
	}
	if record != nil {
		if err := s.keepArchives(ctx, after, rev, now); err != nil {
			return time.Time{}, err
		}
	}
	// The turns that are replaced leave the document in this write; from here on base is what
	// remains of the session, by which the room for the new turn is computed.
	if c.Before != nil {
		if err := fit(base, after, &c); err != nil {
			return time.Time{}, err
		}
		more, err := s.cut(ctx, base, c, rev, set, now)
		if err != nil {
			return time.Time{}, err
		}
		base, run = c.Before, append(run, more...)
	}
	// Without a turn only what has changed is sent: a claim, a title. updated_at stays, since
	// the list is ordered by the last turn.
	if record == nil {
		if !after.ExpiresAt.Equal(base.ExpiresAt) {
			set(after.ExpiresAt, "expires_at")
		}
		if after.Title != base.Title {
			set(after.Title, "title")
		}
		return s.change(ctx, base.Key, updates, rev, run)
	}
	// created_at is set again because a first turn may follow a claim, which has set it before.
	set(after.CreatedAt, "created_at")
	set(after.UpdatedAt, "updated_at")
	set(after.ExpiresAt, "expires_at")
	set(after.Turns, "turns")
	set(after.TotalTokens, "total_tokens")
	set(after.Title, "title")
	set(record.Data, "log", fieldName(record.Number))
	if len(rev.archived) > 0 {
		set(rev.archivesExpireAt, "archives_expire_at")
	}
	move, err := split(base, len(record.Data)+fieldOverhead, rev.feedback)
	if err != nil {
		return time.Time{}, err
	}
	if len(move) > 0 {
		// Not the document's new update time: after is not what is stored. Who writes again
		// reads first.
		return time.Time{}, s.spill(ctx, after, move, updates, run, rev, now)
	}
	if c.Before != nil {
		set(storedPasts(after.Past), "past")
	}
	return s.change(ctx, base.Key, updates, rev, run)
}

// change updates a session's document, and a run's record in the same step.
func (s *Sessions) change(ctx context.Context, key session.Key, updates []firestore.Update, rev *revision, run []write) (time.Time, error) {
	times, err := s.commit(ctx, append([]write{{ref: s.ref(key), updates: updates, unchanged: rev.updated}}, run...)...)
	if err != nil {
		return time.Time{}, err
	}
	return times[0], nil
}

// List implements [session.Store].
func (s *Sessions) List(ctx context.Context, owner session.Owner, limit int, cursor string) ([]session.Meta, string, error) {
	query := s.client.Collection(SessionsCollection).Where("owner", "==", string(owner)).
		OrderBy("updated_at", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc).
		Select("session_id", "created_at", "updated_at", "expires_at", "turns", "total_tokens", "title")
	// Documents that have expired, or have no turn yet, are passed over.
	page, next, err := list(ctx, query, "updated_at", limit, cursor, func(snapshot *firestore.DocumentSnapshot) (session.Meta, bool, error) {
		var d sessionDocument
		if err := snapshot.DataTo(&d); err != nil {
			return session.Meta{}, false, err
		}
		return d.meta(), d.Turns > 0 && s.now().Before(d.ExpiresAt), nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing sessions: %w", err)
	}
	return page, next, nil
}

// readTries bounds how often a read of several documents begins again because a write came
// between two of them.
const readTries = 4

// Turns implements [session.Store].
func (s *Sessions) Turns(ctx context.Context, key session.Key, after, limit int) (session.Meta, []session.Record, error) {
	for try := 1; ; try++ {
		meta, turns, err := s.turns(ctx, key, after, limit)
		if try < readTries && errors.Is(err, session.ErrChanged) {
			continue
		}
		if err != nil {
			return session.Meta{}, nil, fmt.Errorf("reading turns: %w", err)
		}
		return meta, turns, nil
	}
}

func (s *Sessions) turns(ctx context.Context, key session.Key, after, limit int) (session.Meta, []session.Record, error) {
	d, _, err := s.exists(ctx, key)
	if err != nil {
		return session.Meta{}, nil, err
	}
	recent, err := records(d.Log, d.Turns)
	if err != nil {
		return session.Meta{}, nil, err
	}
	// after comes from a client: beyond the last turn there is nothing, and before the first is
	// the beginning.
	after = min(max(after, 0), d.Turns)
	first, last := after+1, min(after+limit, d.Turns)
	out, err := s.archived(ctx, key, d, first, last)
	if err != nil {
		return session.Meta{}, nil, err
	}
	for _, r := range recent {
		if r.Number >= first && r.Number <= last {
			out = append(out, withFeedback(r, d.Feedback))
		}
	}
	return d.meta(), out, nil
}

// withFeedback returns r with the opinion on it among those of its document.
func withFeedback(r session.Record, all map[string]storedFeedback) session.Record {
	if f, ok := all[fieldName(r.Number)]; ok {
		f := session.Feedback(f)
		r.Feedback = &f
	}
	return r
}

// Ping implements [session.Store]: it reads a document that does not exist.
func (s *Sessions) Ping(ctx context.Context) error {
	_, err := s.client.Collection(SessionsCollection).Doc("ping").Get(ctx)
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return classify(err)
}

// classify turns Firestore's errors into the session package's, which state what
// the caller may do.
func classify(err error) error {
	switch status.Code(err) {
	case codes.OK:
		return err
	case codes.NotFound:
		return fmt.Errorf("%w (%w)", session.ErrNotFound, err)
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return fmt.Errorf("%w (%w)", session.ErrChanged, err)
	// With each of these a write may have happened: Internal is also gRPC's code for a stream
	// that broke in the middle of an answer. To take one for a refusal would lose a turn or
	// store it twice.
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Internal:
		return fmt.Errorf("%w (%w)", session.ErrUnavailable, err)
	case codes.Unknown:
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return fmt.Errorf("%w (%w)", session.ErrUnavailable, err)
		}
	}
	return err // one of ours, or final: permission denied, invalid argument
}
