package invoke

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A run without a session that has an idempotency key has no session's document to hold
// the key's entry. Its record is the entry: its id is made of the owner and the key, so
// that a retry finds it, and its first write is the claim. It is worked on, taken over
// and stopped like any other, and holds the answer that a retry replays.

// The hard part is that a record which has expired still lies under its id until Firestore's
// TTL has deleted it, up to 24 hours later (https://cloud.google.com/firestore/docs/ttl), and
// that one which was deleted has left a tombstone there. Reads treat both as absent, but the
// claim, which is conditioned on there being no document, fails on them. So the id has a
// generation: the claim walks over them to the first id that is free or holds a live record,
// and a retry that walks the same way finds the same one.
//
// A key is free again if its run has failed, no effect began in it, as that of a run with a
// session is, and no person has answered in it, which is done once. It is also free if its
// holder died before it had stored what was asked, which waits for the hook Question. The claim
// then overwrites the record in a new epoch, so that a holder which is only late is fenced by
// its next write.

// maxKeyed bounds how many records one key may have had that have expired or were deleted, and
// wait for Firestore to remove them.
const maxKeyed = 8

// claimKeyed stores the record of a run without a session that has a key. If a call
// before has stored it, its record is returned as found, unless the key is free again.
// With an empty holder, anybody may take the run over. The error is [session.ErrKeyMismatch]
// if the record is of another request, and [session.ErrUnavailable] if the key has had too
// many records.
func (s *Service) claimKeyed(ctx context.Context, owner session.Owner, req Request, holder string) (record *session.Run, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	claim := &session.Run{State: session.Working, Holder: holder, Turn: len(req.Options.History) + 1, Request: s.claimRequest(ctx, req)}
	for generation := 0; generation < maxKeyed; {
		claim.Key, claim.ID = session.KeyedRun(owner, req.Options.Key, generation)
		saved, err := s.Store.SaveRun(ctx, claim)
		if err == nil || !errors.Is(err, session.ErrChanged) && !errors.Is(err, session.ErrNotFound) {
			return saved, false, err
		}
		stored, err := s.Store.LoadRun(ctx, claim.Key, claim.ID)
		switch {
		case errors.Is(err, session.ErrNotFound):
			claim.Revision, claim.Epoch, claim.Resets = nil, 0, nil
			generation++ // it has expired, or was deleted
			continue
		case err != nil:
			return nil, false, err
		// A holder is made for each call, so only this call's write can have left it.
		case holder != "" && stored.Holder == holder: // the response to the write was lost
			return stored, false, nil
		}
		asked, unreadable := decodeRun(stored)
		if unreadable != nil && !stored.Over() {
			return nil, false, s.endUnreadable(ctx, stored, unreadable)
		}
		if !freesKey(stored, asked) {
			// Only a key that is not free has anything to replay, so only there does it
			// matter that the request is the same. Of one that cannot be read, nobody knows.
			if unreadable == nil && asked.Body != bodyOf(s.idempotency(req)) {
				return nil, false, session.ErrKeyMismatch
			}
			return stored, true, nil
		}
		// What the earlier try has shown is void from its first step on. The slice is
		// clipped, because the store may hold the array behind it.
		claim.Revision, claim.Epoch = stored.Revision, stored.Epoch+1
		claim.Resets = append(stored.Resets[:len(stored.Resets):len(stored.Resets)], session.Reset{Step: 1})
	}
	return nil, false, fmt.Errorf("%w: too many runs of one key", session.ErrUnavailable)
}

// freesKey reports whether the key of a run without a session is free again.
func freesKey(record *session.Run, asked runRequest) bool {
	return record.State == session.Failed && len(record.Effects)+len(record.Answers) == 0 || record.Lapsed() && asked.Request.Query == ""
}

// hasKeyed reports whether a key is that of a run without a session. It looks at the first
// record that the key may have, which has others only for a day after that has expired or was
// deleted.
func (s *Service) hasKeyed(ctx context.Context, owner session.Owner, key string) (bool, error) {
	at, id := session.KeyedRun(owner, key, 0)
	record, err := s.Store.LoadRun(ctx, at, id)
	if errors.Is(err, session.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	asked, err := decodeRun(record)
	return err != nil || !freesKey(record, asked), nil
}

// What is stored before the hook Question has run must not hold the question: the hook may be
// there to redact it.

// claimRequest returns what a claim has of its request. Where a hook changes the
// question, that is the body's digest until it has.
func (s *Service) claimRequest(ctx context.Context, req Request) json.RawMessage {
	if s.Agent.Hooks.Question == nil || req.Options.Call != nil { // the arguments of a call are no question
		return s.encodeRun(ctx, req, bodyOf(s.idempotency(req)))
	}
	encoded, _ := json.Marshal(runRequest{Body: bodyOf(s.idempotency(req))}) // of strings
	return encoded
}

// bodyOf returns the digest by which a key that is used for another request is
// recognized. The record is to hold no second copy of what was sent, and with the hook
// Question none at all.
func bodyOf(idem session.Idempotency) string {
	sum := sha256.Sum256([]byte(idem.Body))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// openKeyed claims the key of a run without a session, or makes the call replay the
// answer that the key has.
func (s *Service) openKeyed(ctx context.Context, r *run) (*session.Opened, error) {
	record, found, err := s.claimKeyed(ctx, r.owner, r.req, session.NewID())
	if err != nil {
		return nil, err
	}
	opened := sessionless(record.Key, r.req.Options.History)
	r.turnID = record.ID
	switch {
	case !found:
		r.claimed = record
		r.out.restore(nil, record.Resets)
	case record.State == session.Working:
		// The time is how long a holder that has died keeps the key: a retry after it takes
		// the run over.
		return nil, &session.InProgressError{Left: session.LeaseTime, Key: record.Key, Run: record.ID}
	default:
		r.earlier = record
	}
	return opened, nil
}

// replayKeyed answers with what a run without a session has come to.
func (s *Service) replayKeyed(ctx context.Context, r *run) (*Response, error) {
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Replayed = true })
	if r.earlier.State == session.Waiting && !s.waits(r.earlier) {
		return nil, conflict("The time to approve this is over. Ask again.")
	}
	response := responseOf(r.earlier)
	if response == nil {
		return nil, failureOf(r.earlier)
	}
	response.replayed = true
	// The id is that of this request, by which its client and the log know it.
	start := startOf(r.earlier)
	start.RequestID, start.replayed = api.RequestID(ctx), true
	r.out.restore(r.earlier.Parts, r.earlier.Resets)
	r.out.begin(start)
	return response, nil
}

// responseOf returns the answer of a run that left it in its record, or waits, nil if it left
// none. A record that failed may hold an error's envelope instead, see failureOf.
func responseOf(record *session.Run) *Response {
	if record.State == session.Waiting {
		return waitingResponse(record)
	}
	if !record.Over() {
		return nil
	}
	return decodeResponse(record.Result)
}

// decodeResponse returns the response in the envelope of a success, nil for another one.
func decodeResponse(result json.RawMessage) *Response {
	var envelope struct {
		Success bool
		Data    *Response
	}
	if json.Unmarshal(result, &envelope) != nil || !envelope.Success {
		return nil
	}
	return envelope.Data
}

// releaseKeyed gives the key of a run back that has failed before it began. The write
// outlives the client, whose leaving is one of the failures. With the record as failed, the
// next call with the key claims it at once; without, after [session.LeaseTime].
func (s *Service) releaseKeyed(ctx context.Context, r *run, err error) {
	ctx, cancel := detach(ctx, storeTimeout)
	defer cancel()
	failed := *r.claimed
	failed.State = session.Failed
	why := api.Fail(api.Internal, nil)
	if err != nil {
		why = failure(ctx, ctx, err)
	}
	failed.Result, _ = json.Marshal(api.Failure(ctx, why)) // of strings
	if _, err := s.Store.SaveRun(ctx, &failed); err != nil {
		s.Log.WarnContext(ctx, "Idempotency key could not be released; it expires by itself.",
			"error", err.Error(), "request_id", api.RequestID(ctx))
	}
}

// endSessionless writes the end of a run without a session, or that it waits, if it has a
// record. The answer of a run with a key goes out only once it is stored, and so does a
// question to a person.
func (s *Service) endSessionless(ctx context.Context, r *run, c conclusion, response *Response) error {
	end := c.waits
	if end == nil {
		if r.req.Options.Call != nil && c.state == session.Done && response.failedCall() && !r.journal.binds() {
			c.state = session.Failed // so that its key is free
		}
		if end = r.journal.close(c.state); end == nil {
			return nil
		}
		// The journal leaves them out, because a turn has them. This run has no turn.
		end.Parts, end.Resets = r.out.shown()
		end.Parts, response = withoutLarge(end.Parts, response)
		end.Result, _ = json.Marshal(api.Success(ctx, invoked, response)) // it is sent as JSON, too
	}
	saving, cancel := detach(ctx, storeTimeout)
	defer cancel()
	err := s.saveEnd(saving, end)
	switch {
	case err == nil && c.waits != nil && end.State == session.Stopped: // a stop came first
		r.end(end, s.Now())
		return failureOf(end)
	case err == nil:
		r.end(end, s.Now())
		return nil
	// Whoever has taken the run over answers for it. And a key whose end is not stored would
	// have its retry run again, after this answer had been read.
	case errors.Is(err, session.ErrFenced), r.req.Options.Key != "", c.waits != nil:
		return err
	}
	s.Log.WarnContext(ctx, "The end of a run could not be written; its record expires by itself.", "error", err.Error(), "request_id", api.RequestID(ctx))
	return nil
}

// maxKept bounds the content of files in the record of a run without a session, in bytes. The
// record has it twice, in base64, and Firestore takes 1 MiB.
const maxKept = 128 << 10

// withoutLarge returns what the record of a run without a session keeps of its answer: the
// names and types of files only, if together they are too large. The answer itself has them.
func withoutLarge(parts []session.Part, response *Response) ([]session.Part, *Response) {
	size := 0
	for _, f := range response.Files {
		size += len(f.Data)
	}
	if size <= maxKept {
		return parts, response
	}
	kept := *response
	kept.Files, parts = slices.Clone(response.Files), slices.Clone(parts)
	for i := range kept.Files {
		kept.Files[i].Data = nil
	}
	for i := range parts {
		parts[i].Data = nil
	}
	return parts, &kept
}

// saveEnd writes the end of a run, or that it waits. A stop or a webhook that came first is met
// by the end. The error is [session.ErrFenced] if another holder has taken the run over. The
// journal is closed by then, so that only these can come between, and a few tries are enough: as
// many as a stop makes against a holder that writes once a second.
func (s *Service) saveEnd(ctx context.Context, end *session.Run) error {
	for range stopTries {
		_, err := s.Store.SaveRun(ctx, end)
		if !errors.Is(err, session.ErrChanged) {
			return err
		}
		stored, err := s.Store.LoadRun(ctx, end.Key, end.ID)
		switch {
		case err != nil:
			return err
		case !stored.HeldBy(end.Holder, end.Epoch):
			return session.ErrFenced
		// Nobody may answer what was stopped.
		case stored.Stop && end.State == session.Waiting:
			end.State, end.Pending = session.Stopped, nil
		}
		end.Revision, end.Deliveries = stored.Revision, stored.Deliveries
	}
	return session.ErrChanged
}
