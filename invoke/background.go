package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A run in the background is its record and a task, in this order. The record is stored before
// the queue is asked, so that a task that arrives at once finds it; the task carries only
// names, and the record all that is needed to go on. If the process dies between the two, a
// retry of the idempotency key adds the task; without a key the client has read no 202 and
// knows no run. The queue delivers at least once and the record's holder decides who works, so
// a task that comes twice does no harm.

// Accepted is the data of the answer to a run in the background.
type Accepted struct {
	RunID     string           `json:"run_id"`
	SessionID string           `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
	State     session.RunState `json:"state" enum:"working,waiting,done,failed,stopped"`
}

// accepted is the message in its envelope.
const accepted = "The run goes on in the background"

// prefersAsync reports whether the request asks for an answer before its work is done
// (RFC 7240, section 4.1).
func prefersAsync(r *http.Request) bool {
	for _, value := range r.Header.Values("Prefer") {
		for preference := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// checkWebhook returns the error of a request whose webhook cannot be called. A run in its own
// request reports its end in the response, so it has nothing to send to a webhook.
func (s *Service) checkWebhook(req *Request, async bool) error {
	switch {
	case req.Webhook == "":
		return nil
	case s.Queue != nil && s.Webhooks != nil && !async:
		return api.Invalid("webhook", "is told of runs in the background: send Prefer: respond-async")
	}
	return s.checkURL("webhook", req.Webhook)
}

// keeps reports whether the files of req can be read by whoever works on its run: they are
// kept, or objects that are addresses. A run without a session keeps none.
func (s *Service) keeps(req Request) bool {
	return s.Files.Store != nil && !req.Options.Sessionless ||
		!slices.ContainsFunc(req.attached, func(a *attachment) bool { return a.URI == "" })
}

// checkFiles returns the error of a run in the background whose files are kept nowhere: its
// record holds none, and whoever the queue has do it would be without them.
func (s *Service) checkFiles(req *Request) error {
	if !s.keeps(*req) {
		return api.Invalid("files", "are not kept here, so that a run in the background cannot have their content: send gs:// addresses, or do without Prefer: respond-async")
	}
	return nil
}

// accept stores a run, has the queue do it, and answers at once. A key that was used before is
// answered alike, with the header Idempotency-Replayed.
func (s *Service) accept(w http.ResponseWriter, r *http.Request, req *Request) error {
	if err := s.checkFiles(req); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	record, replayed, err := s.begin(ctx, *req)
	if err != nil {
		return failure(r.Context(), ctx, err)
	}
	id := session.RunID(record.Key.ID, record.ID)
	w.Header().Set("Location", "/runs/"+id)
	w.Header().Set("Preference-Applied", "respond-async")
	if replayed {
		w.Header().Set(headerReplayed, "true")
	}
	return api.WriteAccepted(w, r, accepted, Accepted{RunID: id, SessionID: record.Key.ID, State: record.State})
}

// begin stores the record of a run in the background and adds its task. With a key that
// was used before it returns the run of that call. The hook Question runs here and not in the
// task: nothing of the question is stored before it has run, and a run that is taken over must
// not pass it twice.
func (s *Service) begin(ctx context.Context, req Request) (_ *session.Run, replayed bool, err error) {
	owner := caller.Owner(ctx)
	if req.Options.Sessionless && req.Options.Key != "" {
		return s.beginKeyed(ctx, owner, req)
	}
	opened, err := s.load(ctx, owner, &req)
	if held, ok := errors.AsType[*session.InProgressError](err); ok && held.Run != "" {
		stored, err := s.Store.LoadRun(ctx, held.Key, held.Run)
		if err != nil {
			return nil, false, err
		}
		// Its first call may have died before it added the task.
		return stored, true, s.schedule(ctx, stored)
	}
	if err != nil {
		return nil, false, err
	}
	if opened.Replay != nil {
		// The key's turn is stored, and its run may never have had a record.
		turn, err := opened.Replay.Turn()
		return &session.Run{Key: opened.Session.Key, ID: turn.ID, State: stateOf(turn)}, true, err
	}
	begun := false
	files := newTurnFiles(opened.Session.Key, s.Files.Store, s.Files.MaxBytes, &output{})
	defer func() {
		// A write whose reply was lost may have been made. Its key is kept until the lease
		// ends, rather than freed beside a run that goes on.
		if err == nil || begun || errors.Is(err, session.ErrUnavailable) {
			return
		}
		if opened.Claim != nil {
			s.release(ctx, opened)
		} else if req.SessionID == "" {
			s.forget(ctx, files) // there is no session with which they would be deleted
		}
	}()
	if err := s.checkBackground(ctx, owner); err != nil {
		return nil, false, err
	}
	asked, err := s.question(toolContext(ctx, opened.Session, opened.Session.Turns+1, &req), &req)
	if err != nil {
		return nil, false, err
	}
	req = *asked
	// Before the 202: whoever the queue has do the run finds them.
	kept, err := s.openFiles(ctx, opened.Session.Key, &req, files.out)
	if err != nil {
		return nil, false, err
	}
	files = kept
	for _, a := range req.attached {
		s.refer(files, a)
	}
	record := &session.Run{
		Key: opened.Session.Key, ID: session.NewID(), State: session.Working, Holder: session.Queued, Turn: opened.Session.Turns + 1,
		Request: s.encodeRun(ctx, req, ""), Deliveries: deliveriesOf(req),
	}
	if opened.Claim != nil {
		record.KeyHash = opened.Claim.Hash()
		first := record
		_, record, err = session.Begin(ctx, s.Store, opened.Session, opened.Claim, record)
		// The key is the record's by now: its write was made although its reply was lost, or a
		// retry had the queue do the run while this process stood still. To release the key would
		// have the next retry do the run again.
		if errors.Is(err, session.ErrFenced) || errors.Is(err, session.ErrChanged) {
			if record, err = s.Store.LoadRun(ctx, first.Key, first.ID); errors.Is(err, session.ErrNotFound) {
				err = errors.Join(err, session.ErrUnavailable) // its lease ends by itself
			}
		}
	} else {
		record, err = s.Store.SaveRun(ctx, record)
	}
	if err != nil {
		return nil, false, err
	}
	begun = true
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session, t.Asked = record.Key.Hash(), true }) // it costs a turn
	if err = s.schedule(ctx, record); err != nil && opened.Claim == nil {
		// Nobody knows the run, and nobody will do it. With a key, its retry schedules it.
		failed := *record
		failed.State = session.Failed
		// Detached: a client that leaves while the queue does not answer must not leave a
		// record at work for which there is no task.
		storing, cancel := detach(ctx, storeTimeout)
		defer cancel()
		_, _ = s.Store.SaveRun(storing, &failed)
		if req.SessionID == "" {
			s.forget(ctx, files)
		}
	}
	return record, false, err
}

// beginKeyed is begin for a run without a session that has a key. There is no session's
// document, so the record itself is the claim (see keyed.go). It is written twice: to claim
// the key, and after the hook Question, with what the queue needs.
func (s *Service) beginKeyed(ctx context.Context, owner session.Owner, req Request) (_ *session.Run, replayed bool, err error) {
	record, found, err := s.claimKeyed(ctx, owner, req, session.NewID())
	if err != nil {
		return nil, false, err
	}
	if found {
		return record, true, s.schedule(ctx, record)
	}
	opened, body := sessionless(record.Key, req.Options.History), bodyOf(s.idempotency(req))
	r := &run{req: req, claimed: record}
	defer func() {
		if err != nil {
			s.releaseKeyed(ctx, r, err)
		}
	}()
	if err := s.checkBackground(ctx, owner); err != nil {
		return nil, false, err
	}
	asked, err := s.question(toolContext(ctx, opened.Session, opened.Session.Turns+1, &req), &req)
	if err != nil {
		return nil, false, err
	}
	req = *asked
	next := *record
	next.Holder, next.Request, next.Deliveries = session.Queued, s.encodeRun(ctx, req, body), deliveriesOf(req)
	saved, err := s.Store.SaveRun(ctx, &next)
	if err != nil {
		return nil, false, err
	}
	// A task that cannot be added releases the key by a write on this revision.
	r.claimed = saved
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session, t.Asked = saved.Key.Hash(), true }) // it costs a turn
	return saved, false, s.schedule(ctx, saved)
}

// deliveriesOf returns what the record of a run in the background has to deliver.
func deliveriesOf(req Request) json.RawMessage {
	return deliveries{Webhook: Webhook{req.Webhook, req.Options.WebhookID}}.encode()
}

// schedule adds the task of a run that nobody works on yet, or that waits. It may be called
// for a run that has a task: the record's holder decides who works. The error is 503
// overloaded, for a retry with the same key.
func (s *Service) schedule(ctx context.Context, r *session.Run) error {
	if r.State != session.Working {
		return s.expireLater(ctx, r, 0)
	}
	return s.enqueue(ctx, taskOf(r), s.Now())
}

// taskOf returns the task to bring r to its end.
func taskOf(r *session.Run) queue.Task {
	return queue.Task{Kind: queue.Run, Owner: r.Key.Owner, Run: session.RunID(r.Key.ID, r.ID), Epoch: r.Epoch}
}

// checkBackground returns the error of an owner that has as many runs at work as it may.
// Two calls at once may both pass: the bound is against a flood, not a budget. A list as long
// as the bound is enough to count: nobody needs to know by how much it is exceeded. Runs that
// wait for a person use nothing and are not counted.
func (s *Service) checkBackground(ctx context.Context, owner session.Owner) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	runs, _, err := session.ListRuns(ctx, s.Store, owner, session.RunFilter{State: session.Working}, s.MaxBackground, "")
	if err != nil {
		return err
	}
	if len(runs) >= s.MaxBackground {
		e := api.Fail(api.RateLimited, nil)
		// Nobody knows when one of them ends; this paces retries.
		e.RetryAfter = 10 * time.Second
		return e
	}
	return nil
}
