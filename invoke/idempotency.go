package invoke

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

const (
	headerKey      = "Idempotency-Key"
	headerReplayed = "Idempotency-Replayed"
)

// leaseMargin is how much longer than its call a hold on a key lasts.
const leaseMargin = 5 * time.Second

// idempotencyKey reads the Idempotency-Key header: "" without one, and an error
// for one that is empty, doubled, too long or not printable ASCII.
func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values(headerKey)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || !api.Printable(values[0], 255) {
		return "", api.Malformed("Idempotency-Key must be one value of 1 to 255 printable ASCII characters.")
	}
	return values[0], nil
}

// idempotency is what tells a retry of req from another call: all it asks for,
// but not in which form it wants the answer.
func (s *Service) idempotency(req Request) session.Idempotency {
	asked := req
	asked.Stream = false
	body, _ := json.Marshal(asked) // strings and numbers: it cannot fail
	if req.regenerate {
		body = append(body, " again"...)
	}
	return session.Idempotency{Key: req.key, Body: string(body), Create: req.create, Lease: s.Timeout + leaseMargin}
}

// replay answers with a turn that is stored already, as its first call was.
func (s *Service) replay(ctx context.Context, opened *session.Opened, out *stream) (*Response, error) {
	turn, err := opened.Replay.Turn()
	if err != nil {
		return nil, api.Fail(api.Internal, err)
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) {
		t.Session, t.Number, t.Replayed = opened.Session.Key.Hash(), turn.Number, true
	})
	_, text := turn.Texts()
	response := &Response{
		Response: text, SessionID: opened.Session.Key.ID, Turn: turn.Number, Model: turn.Model,
		FinishReason: turn.FinishReason, ToolCalls: turn.ToolCalls, Usage: turn.Usage, Warnings: turn.Warnings,
		replayed: true,
	}
	if response.ToolCalls == nil {
		response.ToolCalls = []session.ToolCall{}
	}
	if response.Warnings == nil {
		response.Warnings = []string{}
	}
	out.replays()
	if text != "" {
		if err := out.delta(turn.Model, text); err != nil {
			return nil, err
		}
	}
	return response, nil
}

// release gives the key of a call that failed back, whatever ended the call.
func (s *Service) release(ctx context.Context, opened *session.Opened) {
	ctx, cancel := lasting(ctx, commitTimeout)
	defer cancel()
	if err := session.Release(ctx, s.Store, opened.Session, opened.Claim); err != nil {
		s.Log.WarnContext(ctx, "An idempotency key could not be given back; it lapses by itself.",
			"error", err.Error(), "request_id", api.RequestID(ctx))
	}
}

// overtaken answers for a call whose hold on its key lapsed while it worked:
// with the turn of the call that took it over, or that this one is at work. A
// stream that has begun cannot take another answer's text.
func (s *Service) overtaken(ctx context.Context, owner session.Owner, req Request, out *stream) (*Response, error) {
	if out.started() {
		return nil, api.Fail(api.IdempotencyInProgress, session.ErrTakenOver)
	}
	ctx, cancel := lasting(ctx, storeTimeout)
	defer cancel()
	opened, err := session.Open(ctx, s.Store, owner, req.SessionID, s.idempotency(req), nil, s.Now)
	if err != nil {
		return nil, err
	}
	if opened.Replay == nil { // whoever took it over has failed and gone
		s.release(ctx, opened)
		return nil, api.Fail(api.IdempotencyInProgress, session.ErrTakenOver)
	}
	return s.replay(ctx, opened, out)
}
