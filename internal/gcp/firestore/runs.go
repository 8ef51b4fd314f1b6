package firestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/session"
)

// The record of a run is written once a second while an answer streams, which is what Firestore
// sustains for one document, and is read by whoever follows, stops or takes over the run. So a
// write sends little: fields by which records are queried, a head that is sent as a whole, and
// of the parts those that have grown. All of it is one conditional write, by which the holder
// learns of a stop or of another holder. What a record cannot hold beside its parts, a large
// checkpoint, is a document below it, written in the same commit.

// RunsCollection is the name of the collection of runs' records.
const RunsCollection = "runs"

// stepsCollection is the subcollection of a record for finished steps that have outgrown
// it.
const stepsCollection = "steps"

// A runDocument is the record of a run, named by the hash of its owner and id. The
// holder writes it about once a second and sends only what has changed: a part of what
// was shown is a field, and only the last one grows.
type runDocument struct {
	Owner     string    `firestore:"owner"`
	SessionID string    `firestore:"session_id"`
	State     string    `firestore:"state"`
	CreatedAt time.Time `firestore:"created_at"`
	ExpiresAt time.Time `firestore:"expires_at"` // the TTL policy's field

	Head       []byte            `firestore:"head"`                 // JSON of a runHead
	Parts      map[string][]byte `firestore:"parts"`                // JSON of each part, by partName
	Checkpoint any               `firestore:"checkpoint,omitempty"` // bytes, see checkpointOf; unless Below
	Result     []byte            `firestore:"result,omitempty"`

	// Below: the checkpoint has a document of its own below this one, because both
	// would come near Firestore's limit of 1 MiB.
	Below bool `firestore:"below,omitempty"`

	Deleted bool `firestore:"deleted,omitempty"` // it is a runMark
}

// A runMark is what a deletion leaves of a record: no list has it, and no write of the record
// passes it. A revision that does not know it reads the record of a stop.
type runMark struct {
	State     string    `firestore:"state"`
	Head      []byte    `firestore:"head"`
	ExpiresAt time.Time `firestore:"expires_at"`
	Deleted   bool      `firestore:"deleted"`
}

// A stepsDocument holds the checkpoint of a record that is below.
type stepsDocument struct {
	ExpiresAt  time.Time `firestore:"expires_at"`
	Checkpoint any       `firestore:"checkpoint"` // bytes, see checkpointOf
}

// checkpointOf returns the checkpoint that is stored as v. Firestore's console cannot edit
// bytes, so who edits one there replaces them by a value of another type. That is returned as a
// checkpoint which is no JSON: its run can be ended, unlike that of a record with an error.
func checkpointOf(v any) []byte {
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		return v
	}
	return []byte("of another type")
}

// A runHead is what a record has beside what is queried and what grows.
//
// It is one field, since none of its members is queried.
type runHead struct {
	ID         string                    `json:"id"`
	Holder     string                    `json:"holder,omitempty"`
	Epoch      int                       `json:"epoch,omitempty"`
	Stop       bool                      `json:"stop,omitempty"`
	Turn       int                       `json:"turn,omitempty"`
	UpdatedAt  time.Time                 `json:"updated_at"`
	Request    json.RawMessage           `json:"request,omitempty"`
	KeyHash    string                    `json:"key,omitempty"`
	Resets     []session.Reset           `json:"resets,omitempty"`
	Effects    map[string]session.Effect `json:"effects,omitempty"`
	Pending    []session.Pending         `json:"pending,omitempty"`
	Answers    map[string]session.Answer `json:"answers,omitempty"`
	Deliveries json.RawMessage           `json:"deliveries,omitempty"`
}

// A runRevision is what a conditional write needs of the record that was read, and what
// of it need not be sent again.
type runRevision struct {
	updated    time.Time // Firestore's own update time
	parts      []int     // size of each part's JSON
	resets     int
	checkpoint []byte
	below      bool
	stepsEnd   time.Time // when the document below expires
	result     bool      // there is one
	whole      bool      // it could not be read, so that all of it is sent
}

func partName(i int) string { return fmt.Sprintf("p%06d", i) }

func (s *Sessions) runRef(key session.Key, id string) *firestore.DocumentRef {
	name := session.Key{Owner: key.Owner, ID: session.RunID(key.ID, id)}.Hash()
	return s.client.Collection(RunsCollection).Doc(name)
}

// runWrites returns the writes for r, none for nil, the record's first, and r as it is
// after them, whose Revision lacks the update time.
func (s *Sessions) runWrites(r *session.Run) ([]write, *session.Run, error) {
	if r == nil {
		return nil, nil, nil
	}
	// Firestore keeps microseconds. Without truncating, the record that is returned would
	// differ from the one that is read.
	now := s.now().Truncate(time.Microsecond)
	after := r.Written(now)
	old, stored := r.Revision.(runRevision)
	next := runRevision{resets: len(after.Resets), checkpoint: after.Checkpoint, stepsEnd: old.stepsEnd}
	head, err := json.Marshal(runHead{
		ID: after.ID, Holder: after.Holder, Epoch: after.Epoch, Stop: after.Stop, Turn: after.Turn, UpdatedAt: now, Request: after.Request,
		KeyHash: after.KeyHash, Resets: after.Resets, Effects: after.Effects, Pending: after.Pending, Answers: after.Answers, Deliveries: after.Deliveries,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a run: %w", err)
	}
	updates := []firestore.Update{
		{Path: "state", Value: string(after.State)},
		{Path: "expires_at", Value: after.ExpiresAt},
		{Path: "head", Value: head},
	}
	size := len(head) + len(after.Result) + len(after.Checkpoint)
	parts := make(map[string][]byte, len(after.Parts))
	for i, p := range after.Parts {
		encoded, err := json.Marshal(p)
		if err != nil {
			return nil, nil, fmt.Errorf("encoding a part of a run: %w", err)
		}
		size += len(encoded) + fieldOverhead
		next.parts = append(next.parts, len(encoded))
		// A part is only ever appended to, so its size shows whether it has changed, as
		// long as no step was begun again.
		if i >= len(old.parts) || old.parts[i] != len(encoded) || old.resets != next.resets {
			parts[partName(i)] = encoded
			updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"parts", partName(i)}, Value: encoded})
		}
	}
	// Parts of a step that is begun again are removed field by field, as they were written.
	for i := len(after.Parts); i < len(old.parts); i++ {
		updates = append(updates, firestore.Update{FieldPath: firestore.FieldPath{"parts", partName(i)}, Value: firestore.Delete})
	}
	// Once below, a checkpoint stays there until it is removed: moving it back when the parts
	// shrink would leave an old one behind.
	next.below = len(after.Checkpoint) > 0 && (old.below || size > maxDocument)
	// By content: a checkpoint may lose as many bytes of state as its contents grow by.
	changed := !bytes.Equal(old.checkpoint, next.checkpoint) || old.below != next.below
	next.result = after.Result != nil
	switch {
	case next.result:
		updates = append(updates, firestore.Update{Path: "result", Value: []byte(after.Result)})
	case old.result:
		updates = append(updates, firestore.Update{Path: "result", Value: firestore.Delete})
	}
	var checkpoint any
	if len(after.Checkpoint) > 0 && !next.below {
		checkpoint = []byte(after.Checkpoint)
	}
	if changed {
		updates = append(updates, firestore.Update{Path: "checkpoint", Value: checkpoint}, firestore.Update{Path: "below", Value: next.below})
	}
	if old.whole {
		updates = append(updates[:3:3],
			firestore.Update{Path: "owner", Value: string(r.Key.Owner)}, firestore.Update{Path: "session_id", Value: r.Key.ID},
			firestore.Update{Path: "created_at", Value: after.CreatedAt}, firestore.Update{Path: "parts", Value: parts},
			firestore.Update{Path: "checkpoint", Value: checkpoint}, firestore.Update{Path: "below", Value: next.below},
			firestore.Update{Path: "result", Value: []byte(after.Result)},
		)
	}
	first := write{ref: s.runRef(r.Key, r.ID), updates: updates, unchanged: old.updated}
	// If there is a record already, Firestore refuses to create it, which the caller gets as
	// ErrChanged.
	if !stored {
		first.create, first.updates = runDocument{
			Owner: string(r.Key.Owner), SessionID: r.Key.ID, State: string(after.State), CreatedAt: now, ExpiresAt: after.ExpiresAt,
			Head: head, Parts: parts, Checkpoint: checkpoint, Result: after.Result, Below: next.below,
		}, nil
		after.CreatedAt = now
	}
	writes := []write{first}
	switch {
	// The record expires later with each write, and much later once it waits for a person: the
	// TTL policy must not take the checkpoint before it. One that is answered expires earlier.
	case next.below && (changed || old.stepsEnd.Before(after.ExpiresAt) || old.stepsEnd.After(after.ExpiresAt.Add(stepsSpare))):
		next.stepsEnd = after.ExpiresAt.Add(stepsSpare)
		steps := stepsDocument{ExpiresAt: next.stepsEnd, Checkpoint: []byte(after.Checkpoint)}
		writes = append(writes, write{ref: stepsOf(first.ref), set: steps})
	case old.below && !next.below:
		writes = append(writes, write{ref: stepsOf(first.ref), remove: true})
	}
	after.Revision = next
	return writes, &after, nil
}

// stepsSpare is how much longer than its record the document below is kept when it is
// written. It makes a run of a usual length write it only when the checkpoint changes.
const stepsSpare = time.Hour

// stepsOf returns the document below a record, of which there is one, so that it needs no
// query.
func stepsOf(run *firestore.DocumentRef) *firestore.DocumentRef {
	return run.Collection(stepsCollection).Doc("finished")
}

// SaveRun implements [session.Store].
func (s *Sessions) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	writes, after, err := s.runWrites(r)
	if err != nil {
		return nil, err
	}
	times, err := s.commit(ctx, writes...)
	if status.Code(err) == codes.NotFound {
		return nil, fmt.Errorf("writing a run: %w", session.ErrNoRun)
	}
	if err != nil {
		return nil, fmt.Errorf("writing a run: %w", classify(err))
	}
	rev := after.Revision.(runRevision)
	rev.updated = times[0]
	after.Revision = rev
	return after, nil
}

// LoadRun implements [session.Store].
func (s *Sessions) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	for try := 1; ; try++ {
		r, err := s.loadRun(ctx, key, id)
		if try < readTries && errors.Is(err, errNoSteps) {
			continue // the run has ended in between, or was deleted
		}
		if err != nil {
			return nil, fmt.Errorf("loading a run: %w", err)
		}
		return r, nil
	}
}

// errNoSteps: a record has its checkpoint below, where there is none.
var errNoSteps = fmt.Errorf("the run's checkpoint is missing: %w", session.ErrNotFound)

// loadRun reads a record, and then what is below it.
func (s *Sessions) loadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	snapshot, err := s.runRef(key, id).Get(ctx)
	if status.Code(err) == codes.NotFound {
		return nil, session.ErrNoRun
	}
	if err != nil {
		return nil, classify(err)
	}
	r, err := s.run(snapshot)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil, err
	case err != nil || r.ID != id || r.Key != key:
		return s.unreadable(snapshot, key, id)
	}
	rev := r.Revision.(runRevision)
	if !rev.below {
		return r, nil
	}
	// The two reads are not one snapshot. If the holder writes in between, the checkpoint is
	// newer than the record, and a write that is based on the two fails its condition.
	below, err := stepsOf(snapshot.Ref).Get(ctx)
	if status.Code(err) == codes.NotFound {
		return nil, errNoSteps
	}
	if err != nil {
		return nil, fmt.Errorf("its steps: %w", classify(err))
	}
	var steps stepsDocument
	if err := below.DataTo(&steps); err != nil {
		return nil, fmt.Errorf("its steps: %w", err)
	}
	rev.checkpoint, rev.stepsEnd = checkpointOf(steps.Checkpoint), steps.ExpiresAt
	r.Checkpoint = rev.checkpoint
	r.Revision = rev
	return r, nil
}

// run returns the record that a document holds; one that has expired is absent.
func (s *Sessions) run(snapshot *firestore.DocumentSnapshot) (*session.Run, error) {
	var d runDocument
	if err := snapshot.DataTo(&d); err != nil {
		return nil, err
	}
	if !s.now().Before(d.ExpiresAt) {
		return nil, session.ErrNoRun
	}
	if d.Deleted {
		return nil, session.ErrRunDeleted
	}
	var head runHead
	if err := exactjson.Unmarshal(d.Head, &head); err != nil {
		return nil, err
	}
	r := &session.Run{
		Key: session.Key{Owner: session.Owner(d.Owner), ID: d.SessionID}, ID: head.ID, State: session.RunState(d.State),
		Holder: head.Holder, Epoch: head.Epoch, Stop: head.Stop, Turn: head.Turn,
		CreatedAt: d.CreatedAt, UpdatedAt: head.UpdatedAt, ExpiresAt: d.ExpiresAt, Request: head.Request, KeyHash: head.KeyHash,
		Resets: head.Resets, Checkpoint: orNil(checkpointOf(d.Checkpoint)), Effects: head.Effects, Pending: head.Pending, Answers: head.Answers,
		// Silent is the difference of two times of Firestore's: of this read, and of the last
		// write.
		Deliveries: head.Deliveries, Result: orNil(d.Result), Silent: snapshot.ReadTime.Sub(snapshot.UpdateTime),
	}
	rev := runRevision{updated: snapshot.UpdateTime, resets: len(r.Resets), checkpoint: checkpointOf(d.Checkpoint), below: d.Below, result: len(d.Result) > 0}
	for i := range len(d.Parts) {
		encoded, ok := d.Parts[partName(i)]
		if !ok { // it would shift the parts behind it, and an answer would be continued at the wrong place
			return nil, fmt.Errorf("part %d of %d is missing", i, len(d.Parts))
		}
		var p session.Part
		if err := exactjson.Unmarshal(encoded, &p); err != nil {
			return nil, err
		}
		r.Parts = append(r.Parts, p)
		rev.parts = append(rev.parts, len(encoded))
	}
	r.Revision = rev
	return r, nil
}

// unreadable returns the record that a document holds which somebody has edited so that it
// cannot be read. It is a run without a holder, of a request that is none, so that whoever looks
// at it ends it. An effect may have begun in it, so that its key is not free. What it has in
// fields of their own is kept.
func (s *Sessions) unreadable(snapshot *firestore.DocumentSnapshot, key session.Key, id string) (*session.Run, error) {
	fields := snapshot.Data()
	if at, ok := fields["expires_at"].(time.Time); ok && !s.now().Before(at) {
		return nil, session.ErrNoRun
	}
	if fields["deleted"] == true {
		return nil, session.ErrRunDeleted
	}
	r := &session.Run{
		Key: key, ID: id, State: session.Working, Request: json.RawMessage(`"unreadable"`), Effects: map[string]session.Effect{"unreadable": {}},
		UpdatedAt: snapshot.UpdateTime, Silent: snapshot.ReadTime.Sub(snapshot.UpdateTime), Revision: runRevision{updated: snapshot.UpdateTime, below: true, whole: true},
	}
	created, ok := fields["created_at"].(time.Time)
	if r.CreatedAt = created; !ok {
		r.CreatedAt = snapshot.CreateTime
	}
	r.ExpiresAt, _ = fields["expires_at"].(time.Time)
	result, _ := fields["result"].([]byte)
	r.Result = orNil(result)
	switch state, _ := fields["state"].(string); session.RunState(state) {
	case session.Waiting, session.Done, session.Failed, session.Stopped:
		r.State = session.RunState(state)
	}
	return r, nil
}

// orNil returns JSON, which no bytes are not.
func orNil(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

// runsOf returns the query of an owner's records, the newest first. A record that both
// filters select is looked for by its session.
func (s *Sessions) runsOf(owner session.Owner, filter session.RunFilter) firestore.Query {
	// Each is written out whole: the test of the indexes in terraform/ reads them.
	switch {
	case filter.SessionID != "":
		return s.client.Collection(RunsCollection).Where("session_id", "==", filter.SessionID).Where("owner", "==", string(owner)).
			OrderBy("created_at", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc)
	case filter.State != "":
		return s.client.Collection(RunsCollection).Where("state", "==", string(filter.State)).Where("owner", "==", string(owner)).
			OrderBy("created_at", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc)
	}
	return s.client.Collection(RunsCollection).Where("owner", "==", string(owner)).
		OrderBy("created_at", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc)
}

// ListRuns implements [session.Store].
func (s *Sessions) ListRuns(ctx context.Context, owner session.Owner, filter session.RunFilter, limit int, cursor string) ([]*session.Run, string, error) {
	// What grows is left out: a list of a hundred records with their parts would be tens of
	// megabytes.
	query := s.runsOf(owner, filter).Select("owner", "session_id", "state", "created_at", "expires_at", "head")
	// Records that have expired, or have no id, are passed over.
	runs, next, err := list(ctx, query, "created_at", limit, cursor, func(snapshot *firestore.DocumentSnapshot) (*session.Run, bool, error) {
		r, err := s.run(snapshot)
		if err != nil || r.ID == "" {
			return nil, false, nil // it has expired, or cannot be read: who names it ends it
		}
		return r, filter.State == "" || filter.State == r.State, nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing runs: %w", err)
	}
	return runs, next, nil
}

// deleteRuns replaces the records of an owner's runs by marks, of one session unless that is
// "", and reports whether there were any, and one that goes on.
//
// A mark is written without a condition, as that of an owner's state: a deletion wins over
// whoever writes the record between the query and it.
func (s *Sessions) deleteRuns(ctx context.Context, owner session.Owner, sessionID string) (found, goesOn bool, err error) {
	query := s.runsOf(owner, session.RunFilter{SessionID: sessionID}).Select("state").Limit(deleteStep)
	for range deleteSteps {
		snapshots, err := query.Documents(ctx).GetAll()
		if err != nil {
			return found, goesOn, fmt.Errorf("deleting runs: %w", classify(err))
		}
		if len(snapshots) == 0 {
			return found, goesOn, nil
		}
		found = true
		var writes []write
		mark := runMark{State: string(session.Stopped), Head: []byte(`{"stop":true}`), ExpiresAt: s.now().Add(session.KeyLife), Deleted: true}
		for _, snapshot := range snapshots {
			state, _ := snapshot.Data()["state"].(string)
			goesOn = goesOn || !(&session.Run{State: session.RunState(state)}).Over()
			// Deleting a document leaves what is below it: the checkpoint has to be removed by
			// name. Whether there is one is not asked: the holder may write it after the query.
			writes = append(writes, write{ref: stepsOf(snapshot.Ref), remove: true}, write{ref: snapshot.Ref, set: mark})
		}
		if err := s.commitEach(ctx, writes); err != nil {
			return found, goesOn, fmt.Errorf("deleting runs: %w", classify(err))
		}
		if len(snapshots) < deleteStep {
			return found, goesOn, nil
		}
	}
	return found, goesOn, fmt.Errorf("deleting runs: %w: there are more", session.ErrUnavailable)
}
