package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

const (
	headerKey      = "Idempotency-Key"
	headerReplayed = "Idempotency-Replayed"
)

// leaseMargin is how much longer than the call its lease on a key lasts. It covers the commit
// of a turn that has used all its time, see commitTimeout.
const leaseMargin = 5 * time.Second

// IdempotencyKey returns the Idempotency-Key header, "" without one, and an error if
// it is empty, repeated, too long or not printable ASCII.
func IdempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values(headerKey)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || !api.Printable(values[0], 255) {
		return "", api.Malformed(headerKey, "must be one value of 1 to 255 printable ASCII characters")
	}
	return values[0], nil
}

// The headers in which Cloud Scheduler names what it delivers
// (https://cloud.google.com/scheduler/docs/reference/rpc/google.cloud.scheduler.v1#httptarget).
const (
	headerJob       = "X-CloudScheduler-JobName"
	headerScheduled = "X-CloudScheduler-ScheduleTime"
)

// key returns the idempotency key of a request. A call of the schedules' account that has
// none gets one of its job and the time that it was scheduled for, so that two deliveries
// are one turn. From anybody else these headers mean nothing.
func (s *Service) key(r *http.Request) (string, error) {
	key, err := IdempotencyKey(r)
	if key != "" || err != nil || s.Schedules == "" {
		return key, err
	}
	c, _ := caller.FromContext(r.Context())
	job, scheduled := r.Header.Get(headerJob), r.Header.Get(headerScheduled)
	if !c.Principal.Service || c.Principal.Email != s.Schedules || job == "" || scheduled == "" {
		return "", nil
	}
	if key = "schedule " + job + " " + scheduled; !api.Printable(key, 255) {
		return "", api.Malformed("X-CloudScheduler-JobName", "must be as Cloud Scheduler sends it")
	}
	return key, nil
}

// idempotency returns what identifies a retry of req: everything it asks for, except
// the format of the response. What differs between retries of one client, such as the language
// that it prefers, is not part of it. The session stores a digest of it, never the text.
func (s *Service) idempotency(req Request) session.Idempotency {
	asked := req
	asked.Stream = false
	if req.Options.Derived {
		asked.AfterTurn = nil
	}
	body, _ := json.Marshal(asked) // only strings and numbers: cannot fail
	if req.Options.Regenerate && !req.Options.Derived {
		body = append(body, " again"...)
	}
	// The same words under another message are an edit elsewhere in the conversation.
	if page := req.Options.Page; page != nil && page.MessageID != "" {
		body = append(body, " of "+page.MessageID...)
	}
	body = append(body, req.Options.Instructions...)
	for _, contents := range req.Options.History {
		body = append(body, contents...)
	}
	if call := req.Options.Call; call != nil {
		body = append(append(body, " calls "+call.Name+" "...), call.Args...)
	}
	return session.Idempotency{Key: req.Options.Key, Body: string(body), Create: req.Options.Create, Lease: s.Timeout + leaseMargin}
}

// replay answers with a turn that is already stored, as its first call did.
func (s *Service) replay(ctx context.Context, opened *session.Opened, out *output) (*Response, error) {
	turn, err := opened.Replay.Turn()
	if err != nil {
		return nil, api.Fail(api.Internal, err)
	}
	// The key's run may have gone on since it began to wait: its turn is then the one that it
	// came to.
	if turn.FinishReason == finishWaiting {
		reading, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		var record *session.Run
		last := turn.Number == opened.Session.Turns
		if turn, record, err = s.wentOn(reading, opened.Session.Key, turn, last, nil); err != nil && !errors.Is(err, session.ErrNotFound) {
			return nil, storeFailure(err)
		}
		if failed := s.settleBy(record, &turn, last); failed != nil {
			return nil, failed
		}
	}
	id := opened.Session.Key.ID
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) {
		t.Session, t.Number, t.Replayed = opened.Session.Key.Hash(), turn.Number, true
	})
	_, text := turn.Texts()
	response := newResponse(id, &turn, text, turn.Shown())
	response.replayed = true
	out.restore(turn.Shown(), turn.Resets)
	out.begin(Start{RequestID: api.RequestID(ctx), RunID: response.RunID, SessionID: id, Turn: turn.Number, Model: turn.Model, replayed: true})
	return response, nil
}

// release returns the key of a failed call, for any cause of the failure. It is detached,
// since the call may have failed because its client left, and its failure is only logged: the
// lease ends by itself.
func (s *Service) release(ctx context.Context, opened *session.Opened) {
	ctx, cancel := detach(ctx, commitTimeout)
	defer cancel()
	if err := session.Release(ctx, s.Store, opened.Session, opened.Claim); err != nil {
		s.Log.WarnContext(ctx, "Idempotency key could not be released; it expires by itself.",
			"error", err.Error(), "request_id", api.RequestID(ctx))
	}
}

// answerTakenOver answers a call whose lease on its key expired while it worked: with the
// turn of the call that took the key over, or, while that call works, with an error. A
// stream that has started cannot switch to another answer's text.
func (s *Service) answerTakenOver(ctx context.Context, r *run) (*Response, error) {
	if r.watched {
		return nil, api.Fail(api.IdempotencyInProgress, session.ErrTakenOver)
	}
	ctx, cancel := detach(ctx, storeTimeout)
	defer cancel()
	opened, err := session.Open(ctx, s.Store, r.owner, r.req.SessionID, s.idempotency(r.req), nil, s.Now)
	if err != nil {
		return nil, err
	}
	if opened.Replay == nil { // the call that took it over has failed
		s.release(ctx, opened)
		return nil, api.Fail(api.IdempotencyInProgress, session.ErrTakenOver)
	}
	return s.replay(ctx, opened, &output{})
}
