package invoke

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A task is only a reason to look. The queue delivers at least once, late, or twice at a
// time, and what is to be done may have been done by a retry, a watcher or another delivery.
// So a task names a run and decides nothing: the record does, and its conditional writes let
// one of several deliveries go on. What cannot be done yet is answered so that the queue
// delivers it again, or is asked for by another task at a later time.

// A Queue delivers tasks to the route of [Service.TasksRoute]: each at least once, and not
// before its time. One that has the name of another is the same task. It must be safe for
// concurrent use. That the same name is the same task is what makes adding one twice
// harmless.
type Queue interface {
	Enqueue(ctx context.Context, t queue.Task, at time.Time) error
}

// enqueueTimeout bounds adding a task. The client that gets a 202 waits for it.
const enqueueTimeout = 5 * time.Second

// enqueue adds a task, also when the client has gone. Its error has a retry come later, or the
// queue deliver the task again that asked for it.
func (s *Service) enqueue(ctx context.Context, t queue.Task, at time.Time) error {
	ctx, cancel := detach(ctx, enqueueTimeout)
	defer cancel()
	if err := s.Queue.Enqueue(ctx, t, at); err != nil {
		return api.Fail(api.Overloaded, err)
	}
	return nil
}

// TasksRoute returns the route that takes the queue's tasks.
func (s *Service) TasksRoute() api.Route {
	return api.Route{Method: http.MethodPost, Path: queue.Path, Tasks: true, Handler: s.task}
}

// task does what a task asks for. Every answer but a 2xx has the queue deliver it again.
func (s *Service) task(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadBody(w, r, queue.MaxBodyBytes, s.Timeout)
	if err != nil {
		return err
	}
	t, err := queue.Parse(body)
	if err != nil {
		e := api.Malformed("body", "must be a task of this service")
		e.Cause = err
		return e
	}
	if t.Kind == queue.Webhook {
		return s.deliver(w, r, t)
	}
	do := s.finish
	if t.Kind == queue.Expire {
		do = s.expire
	}
	if err := do(r.Context(), t); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// loadTask returns the record that t is about, nil if there is none: its session was
// deleted, or it has expired.
func (s *Service) loadTask(ctx context.Context, t queue.Task) (*session.Run, error) {
	sessionID, turnID, ok := session.SplitRunID(t.Run)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, err := s.loadRun(ctx, runKey{session.Key{Owner: t.Owner, ID: sessionID}, turnID})
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, storeFailure(err)
	}
	return stored, nil
}

// finish brings a run to its end. It may come at any time: before the run's holder is
// silent, beside itself, and long after the end.
func (s *Service) finish(ctx context.Context, t queue.Task) error {
	stored, err := s.loadTask(ctx, t)
	switch {
	case err != nil || stored == nil:
		return err
	case stored.State != session.Working:
		return s.report(ctx, stored) // a delivery before may have ended before it reported
	case !stored.Lapsed() && !stored.Begins(), s.live.get(runKey{stored.Key, stored.ID}) != nil:
		return s.lookAgain(ctx, t)
	}
	// The run's owner takes the place, as if it had called: no owner's background runs keep
	// others out.
	if !s.Places.Take(t.Owner) {
		return api.Fail(api.Overloaded, nil)
	}
	defer s.Places.Leave(t.Owner)
	asked, err := decodeRun(stored)
	if err != nil {
		return s.endUnreadable(ctx, stored, err)
	}
	// The record has the caller as it was. What it may do is judged again, because a run can
	// wait in the queue or for a person longer than a right lasts.
	who := asked.Caller
	who.Operator = s.Operates != nil && s.Operates(who.Principal) // it may be one no longer
	ctx = caller.Assume(ctx, who)
	act(ctx, api.AuditTurn, "")
	if s.Admits != nil && !s.Admits(who.Principal) {
		return s.refuse(ctx, stored)
	}
	taken, err := s.take(ctx, stored)
	switch {
	case errors.Is(err, session.ErrChanged):
		return s.lookAgain(ctx, t) // who was first may die, too
	case err != nil:
		return failure(ctx, ctx, err)
	}
	_, err = s.drive(ctx, taken, &Position{}, new(bool), nil)
	failed, _ := errors.AsType[*api.Error](err)
	if failed != nil && failed.Code == api.ShuttingDown {
		return failed // the queue hands it to another instance
	}
	if taken.ended != nil {
		return s.report(ctx, taken.ended)
	}
	// What the record has counts, not what drive returned: the end may have been stored and
	// its reply lost.
	looking, cancel := detach(ctx, storeTimeout)
	defer cancel()
	ended, err := s.loadTask(looking, t)
	switch {
	case err != nil || ended == nil:
		return err
	case ended.State == session.Working: // its end could not be stored, or it was taken over
		return s.lookAgain(ctx, t)
	case failed != nil:
		telemetry.Fail(ctx, failed)
	}
	return s.report(ctx, ended)
}

// take makes this process the holder of a run, for as long as one may take. That is
// RUN_TIMEOUT, since no client's request bounds it. The error is [session.ErrChanged] if
// another was first.
func (s *Service) take(ctx context.Context, stored *session.Run) (*run, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var taken *run
	var err error
	if stored.Begins() {
		taken, err = beginQueued(stored)
	} else {
		taken, err = s.takeOver(ctx, stored, false)
	}
	if err != nil {
		return nil, err
	}
	taken.timeout = s.RunTimeout
	return taken, nil
}

// beginQueued makes this process the holder of a run that nobody has begun. It makes no
// write: the run's first one is conditioned on the record as it was read, so of two
// deliveries one is fenced there. Until then, whoever watches or stops the run here does so by
// its record.
func beginQueued(stored *session.Run) (*run, error) {
	asked, err := decodeRun(stored)
	if err != nil {
		return nil, err
	}
	held := *stored
	held.Holder = session.NewID()
	r := resumed(asked, &held)
	r.unwritten.Store(true)
	return r, nil
}

// refuse ends a run whose caller is no longer admitted.
func (s *Service) refuse(ctx context.Context, stored *session.Run) error {
	refusal := api.Fail(api.PermissionDenied, nil)
	telemetry.Fail(ctx, refusal)
	ended := *stored
	ended.State = session.Failed
	ended.Result, _ = json.Marshal(api.Failure(ctx, refusal)) // of strings
	saving, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	saved, err := s.Store.SaveRun(saving, &ended)
	if err != nil {
		return storeFailure(err)
	}
	return s.report(ctx, saved)
}

// left has the queue look at a run whose client may leave it: at the end of its request's
// time, when whoever works on it has ended it or has died.
func (s *Service) left(ctx context.Context, r *session.Run) {
	if s.Queue == nil {
		return
	}
	// One lease time is for the lease to lapse, the other for a request that ends a little
	// late.
	if err := s.enqueue(ctx, taskOf(r), s.Now().Add(s.Timeout+2*session.LeaseTime)); err != nil {
		s.Log.WarnContext(ctx, "A run that may be left could not be scheduled; whoever asks for it finishes it.",
			"error", errors.Unwrap(err).Error(), "request_id", api.RequestID(ctx))
	}
}

// The pauses between looks at a run that somebody else holds.
const (
	firstLook = 15 * time.Second
	longLook  = 5 * time.Minute
)

// lookAgain schedules the next look at a run that has a holder now. The attempt is in the
// task's name: a queue drops a task whose name it has had. The pause doubles up to longLook.
// An error has the queue deliver t again.
func (s *Service) lookAgain(ctx context.Context, t queue.Task) error {
	t.Attempt++
	return s.enqueue(ctx, t, s.Now().Add(min(firstLook<<min(t.Attempt-1, 10), longLook)))
}

// deliveries are what is to be delivered of a run.
type deliveries struct {
	Webhook
	// Untold: the run was ended beside its task, and its webhook may not have been told. Who
	// ended it may have died since, or not have heard of its write, so whoever finds the run
	// tells it.
	Untold bool `json:"untold,omitempty"`
}

// deliveriesIn returns what is to be delivered of a run. Deliveries that cannot be read are
// none: they must not fail the run.
func deliveriesIn(r *session.Run) (d deliveries) {
	if json.Unmarshal(r.Deliveries, &d) != nil {
		return deliveries{}
	}
	return d
}

// webhookOf returns the webhook of a run, the zero Webhook for none.
func webhookOf(r *session.Run) Webhook { return deliveriesIn(r).Webhook }

// encode returns what the record of a run has to deliver, nil without a webhook.
func (d deliveries) encode() json.RawMessage {
	if d.URL == "" {
		return nil
	}
	encoded, _ := json.Marshal(d) // strings and a bool
	return encoded
}

// untold sets whether r's webhook may not have been told how the run ended. A run without one
// stays as it is.
func untold(r *session.Run, is bool) {
	if d := deliveriesIn(r); d.URL != "" {
		d.Untold = is
		r.Deliveries = d.encode()
	}
}

// eventOf are the events that a webhook receives, by the state that they report.
var eventOf = map[session.RunState]string{
	session.Done: "run.done", session.Failed: "run.failed", session.Waiting: "run.waiting", session.Stopped: "run.stopped",
}

// report has the queue report a run's state to its webhook. It may be called
// any number of times. The task's name is made of the event's id, so an event is in the queue
// once.
func (s *Service) report(ctx context.Context, r *session.Run) error {
	if s.Queue == nil || s.Webhooks == nil || webhookOf(r).URL == "" || r.State == session.Working {
		return nil
	}
	t := queue.Task{
		Kind: queue.Webhook, Owner: r.Key.Owner, Run: session.RunID(r.Key.ID, r.ID),
		Event: eventOf[r.State], ID: eventID(r), Created: r.UpdatedAt,
	}
	if err := s.enqueue(ctx, t, s.Now()); err != nil {
		return err
	}
	if err := s.expireLater(ctx, r, 0); err != nil {
		return err
	}
	if deliveriesIn(r).Untold {
		told := *r
		untold(&told, false)
		saving, cancel := detach(ctx, storeTimeout)
		defer cancel()
		_, _ = s.Store.SaveRun(saving, &told) // else it is told again, under the same id
	}
	return nil
}

// maxDelay bounds how far ahead a task may be, which is 30 days in Cloud Tasks
// (https://cloud.google.com/tasks/docs/quotas). A wait that is longer is looked at in between.
const maxDelay = 29 * 24 * time.Hour

// expireLater has the queue look at a run that waits, and whose webhook is to be told of its
// end, when the time to answer is over. It may be called any number of times: the task of one
// wait and attempt is in the queue once.
func (s *Service) expireLater(ctx context.Context, r *session.Run, attempt int) error {
	if s.Queue == nil || r.State != session.Waiting || len(r.Pending) == 0 || webhookOf(r).URL == "" {
		return nil
	}
	at := s.Now().Add(maxDelay)
	for _, p := range r.Pending { // the first that expires ends the wait for all
		if p.ExpiresAt.Before(at) {
			at = p.ExpiresAt
		}
	}
	t := queue.Task{Kind: queue.Expire, Owner: r.Key.Owner, Run: session.RunID(r.Key.ID, r.ID), Epoch: r.Epoch, Attempt: attempt}
	return s.enqueue(ctx, t, at)
}

// expire ends a run that nobody has answered in time and reports it to its webhook. Readers
// see such a run as stopped before that, too: what they are shown does not depend on the queue.
func (s *Service) expire(ctx context.Context, t queue.Task) error {
	for range stopTries {
		stored, err := s.loadTask(ctx, t)
		switch {
		case err != nil || stored == nil:
			return err
		case stored.Over():
			s.found(ctx, stored) // a delivery before may have ended before it reported
			return nil
		case stored.State != session.Waiting || stored.Epoch != t.Epoch: // it was answered
			return nil
		case s.waits(stored): // the queue takes no later task, or its clock is ahead
			return s.expireLater(ctx, stored, t.Attempt+1)
		}
		saving, cancel := context.WithTimeout(ctx, storeTimeout)
		saved, err := s.Store.SaveRun(saving, stoppedWait(stored))
		cancel()
		switch {
		case errors.Is(err, session.ErrChanged): // a webhook was set, or an answer came just in time
			continue
		case err != nil:
			return storeFailure(err)
		}
		return s.report(ctx, saved)
	}
	return api.Fail(api.SessionStoreUnavailable, session.ErrChanged)
}

// found reports a run to its webhook that somebody ended and may not have reported.
func (s *Service) found(ctx context.Context, r *session.Run) {
	if r != nil && r.Over() && deliveriesIn(r).Untold {
		s.reportEnd(ctx, r)
	}
}

// eventID returns the id of the event that r's state is: the same for any number of
// deliveries, and another each time that it waits. Receivers drop what they have had by this
// id (https://www.standardwebhooks.com). It has 144 bits of the hash.
func eventID(r *session.Run) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]any{r.Key, r.ID, r.State}) // of strings
	for _, p := range r.Pending {
		_ = json.NewEncoder(h).Encode(p.CallID)
	}
	return "msg_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// deliveryTime is how long a webhook is tried. It is counted from the event, not from the
// first try. The contract promises a day.
const deliveryTime = 24 * time.Hour

// The action and the outcome of a webhook in the audit.
const (
	webhookDeliver = "webhook.deliver"
	outcomeFailed  = "failed"
)

// deliver reports an event to a run's webhook, once. The body is made at each try, from the run
// as it is then.
func (s *Service) deliver(w http.ResponseWriter, r *http.Request, t queue.Task) error {
	ctx := r.Context()
	stored, err := s.loadTask(ctx, t)
	if err != nil {
		return err
	}
	if stored == nil || s.Webhooks == nil || webhookOf(stored).URL == "" || t.Event != eventOf[stored.State] || t.ID != eventID(stored) {
		// It is gone, or has gone on since: what it came to is another event.
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	asked, err := decodeRun(stored)
	if err != nil {
		return err
	}
	ctx = caller.Assume(ctx, asked.Caller)
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	info, err := s.describe(reading, runKey{stored.Key, stored.ID}, stored)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return err
	}
	if eventOf[info.State] != t.Event { // it went on between the two reads, or its session is gone
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	body, err := json.Marshal(struct {
		Type string  `json:"type"`
		Data RunInfo `json:"data"`
	}{t.Event, info})
	if err != nil {
		return err
	}
	to := webhookOf(stored).URL
	err = s.Webhooks.Send(ctx, to, t.ID, body)
	attributes := []any{"request_id", api.RequestID(ctx), "event", t.Event, "host", hostOf(to)}
	switch {
	case err == nil:
		act(ctx, webhookDeliver, "")
		w.WriteHeader(http.StatusNoContent)
	case s.Now().After(t.Created.Add(deliveryTime)):
		s.Log.ErrorContext(ctx, "A webhook was given up.", append(attributes, "error", err.Error())...)
		act(ctx, webhookDeliver, outcomeFailed)
		w.WriteHeader(http.StatusNoContent) // the queue is to try no more
	default:
		s.Log.WarnContext(ctx, "A webhook was not taken.", append(attributes, "error", err.Error())...)
		// Neither 429 nor 503, for which Cloud Tasks slows the whole queue down, nor any
		// 5xx, which would count as the service's error.
		w.WriteHeader(http.StatusFailedDependency)
	}
	return nil
}

// act names for the audit what a task does, for its route does many things.
func act(ctx context.Context, action, outcome string) {
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action, t.Outcome = action, outcome })
}

// hostOf returns the host of a URL: the rest of it may hold a secret.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}
