package explore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/webhook"
	"example.com/gatehouse/session"
)

// The queue delivers each task at least once: when the scheduler lets it, to a process that
// lives, again if that fails, and twice where a fault is left for it.

// A delivery is a task in the queue.
type delivery struct {
	task queue.Task
	at   time.Time // not before
	done bool      // it was taken
}

// retryAfter is the queue's pause before it delivers a task again.
const retryAfter = 11 * time.Second

// Enqueue implements [invoke.Queue].
func (p *process) Enqueue(ctx context.Context, t queue.Task, at time.Time) error {
	return p.world.wait(ctx, &step{
		actor: actorOf(ctx), process: p, name: "adds a task (" + string(t.Kind) + ")", touches: []string{t.Name()}, write: true, broken: errors.New("the queue does not answer"),
		do: func() error { p.world.add(t, at); return nil },
	})
}

// add adds a task, unless the queue has had it.
func (w *world) add(t queue.Task, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.tasks {
		if d.task.Name() == t.Name() {
			return
		}
	}
	d := &delivery{task: t, at: at}
	w.tasks = append(w.tasks, d)
	if w.direct {
		return // what recovers delivers it
	}
	for _, again := range []bool{false, true} {
		c := &client{name: fmt.Sprintf("task %02d", len(w.tasks)), what: delivers}
		if again {
			c.name += " again"
		}
		w.clients = append(w.clients, c)
		go w.deliver(c, d, again)
	}
}

// deliver delivers a task until it is taken, or once more than that, as long as the world is
// explored: what recovers delivers what is left.
func (w *world) deliver(c *client, d *delivery, again bool) {
	at := d.at
	for {
		w.mu.Lock()
		over := w.direct
		w.mu.Unlock()
		if over {
			return
		}
		err := w.wait(w.end, &step{
			actor: c.name, name: "is delivered",
			ready: func() bool { return !time.Now().Before(at) && (!again || w.faults > 0) },
			do: func() error {
				if again {
					w.mu.Lock()
					w.faults--
					w.mu.Unlock()
				}
				w.admit(c, len(c.name))
				return nil
			},
		})
		if err != nil {
			return // the world has ended before
		}
		err = w.handle(w.end, c.process, c.name, d.task)
		w.mu.Lock()
		c.working = false
		alive := c.process.alive
		d.done = d.done || alive && err == nil
		w.mu.Unlock()
		if again || alive && err == nil {
			return
		}
		at = time.Now().Add(retryAfter)
	}
}

// handle has a process do a task.
func (w *world) handle(ctx context.Context, p *process, actor string, t queue.Task) error {
	body, err := t.Encode()
	if err != nil {
		return err
	}
	ctx, release := p.context(ctx, actor)
	defer release()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, queue.Path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	if err := p.TasksRoute().Handler(recorder, r); err != nil {
		return err
	}
	if recorder.Code >= http.StatusMultipleChoices {
		return errors.New("a status that is no 2xx")
	}
	return nil
}

// delivery returns the delivery of a task, nil beyond the last, and whether it was taken: one
// that began while the world was explored may still end.
func (w *world) delivery(i int) (d *delivery, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i >= len(w.tasks) {
		return nil, true
	}
	return w.tasks[i], w.tasks[i].done
}

// empty delivers what is in the queue until it is empty. Until somebody has come to a run, who
// has stopped or denied it may have died before its webhook was told.
func (w *world) empty(p *process, visited bool) {
	begun := time.Now()
	for i := 0; ; i++ {
		d, done := w.delivery(i)
		if d == nil {
			break
		}
		if d.task.Kind == queue.Expire && !w.expires {
			continue // days later than all that is explored
		}
		for ; !done; _, done = w.delivery(i) {
			time.Sleep(time.Until(d.at))
			ctx, cancel := context.WithTimeout(w.end, patience)
			err := w.handle(ctx, p, "the queue", d.task)
			cancel()
			if err == nil {
				w.mu.Lock()
				d.done = true
				w.mu.Unlock()
				break
			}
			if time.Since(begun) > 10*patience {
				w.violated("the queue never gets rid of a task: %v", err)
				return
			}
			time.Sleep(retryAfter)
		}
	}
	// An answer whose reply was lost may have no task: who gave it was told to try again.
	epochs := map[string]int{}
	for i := 0; ; i++ {
		d, _ := w.delivery(i)
		if d == nil {
			break
		}
		if d.task.Kind == queue.Run {
			epochs[d.task.Run] = max(epochs[d.task.Run], d.task.Epoch)
		}
	}
	for _, id := range w.order {
		k := w.runs[id]
		record, err := session.LoadRun(mustContext(p), p.Store, k.key, id)
		if err != nil {
			continue
		}
		epoch, tasked := epochs[k.runID()]
		switch {
		case !tasked || record.Answers != nil && epoch < record.Epoch:
		case record.State == session.Failed && record.Result == nil: // it was deleted, and is nobody's to hear of
		case record.State == session.Working:
			w.violated("the queue is empty, and a run of it is %s", record.State)
		case (visited || record.State != session.Stopped) && hasWebhook(record) && !w.told[k.runID()+" run."+string(record.State)]:
			w.violated("the queue is empty, and a run's webhook was not told that it is %s", record.State)
		}
	}
}

func hasWebhook(r *session.Run) bool { return strings.Contains(string(r.Deliveries), receiver) }

// receiver is the URL of a webhook.
const receiver = "https://hooks.example.com/runs"

// newSender returns what tells the webhooks of p.
func (p *process) newSender() *webhook.Sender {
	secrets, err := webhook.ParseSecrets([]byte(`[{"name": "a", "secret": "whsec_dGhlIHNlY3JldCBvZiB0aGlzIHF1YXJ0ZXIsIDMyIGI="}]`))
	if err != nil {
		panic(err) // the secret above is wrong
	}
	return webhook.New(webhook.Config{
		Hosts: []string{"hooks.example.com"}, Secrets: func() *webhook.Secrets { return secrets }, Now: time.Now, Transport: receiving{p},
	})
}

// receiving is how a process reaches the receiver of webhooks.
type receiving struct{ *process }

func (p receiving) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	id := r.Header.Get("Webhook-Id")
	err = p.world.wait(r.Context(), &step{
		actor: actorOf(r.Context()), process: p.process, name: "tells the webhook", touches: []string{id}, write: true, broken: errors.New("no answer"),
		do: func() error { return p.world.receives(id, body) },
	})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusNoContent, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: http.NoBody}, nil
}

// receives takes in an event. One that has an id of another is that one.
func (w *world) receives(id string, body []byte) error {
	var event struct {
		Type string
		Data struct {
			RunID string `json:"run_id"`
			State string
		}
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	what := event.Data.RunID + " " + event.Type
	if before, ok := w.events[id]; ok && before != what {
		w.wrong = append(w.wrong, fmt.Sprintf("one event's id is %q and %q", before, what))
	}
	if event.Type != "run."+event.Data.State {
		w.wrong = append(w.wrong, fmt.Sprintf("a webhook is told %s of a run that is %s", event.Type, event.Data.State))
	}
	if w.told[what] && w.events[id] == "" && event.Type != "run.waiting" { // it may wait several times
		w.wrong = append(w.wrong, fmt.Sprintf("%q has two ids", event.Type))
	}
	w.events[id], w.told[what] = what, true
	return nil
}

// begins is the call of a client that does not wait for its answer.
func (w *world) begins(ctx context.Context, p *process) error {
	req := w.ask()
	req.Webhook = receiver
	info, err := p.Begin(ctx, req)
	if err != nil {
		return err
	}
	id, turn, ok := session.SplitRunID(info.RunID)
	if !ok {
		return api.Fail(api.Internal, errors.New("a run without an id"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.learn(session.Key{Owner: owner.Owner, ID: id}, turn, w.query())
	return nil
}
