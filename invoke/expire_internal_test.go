package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/webhook"
	"example.com/gatehouse/session"
)

// A noted queue keeps what was added to it.
type noted []addedTask

type addedTask struct {
	task queue.Task
	at   time.Time
}

func (n *noted) Enqueue(_ context.Context, t queue.Task, at time.Time) error {
	*n = append(*n, addedTask{t, at})
	return nil
}

// A wait is looked at when its first call expires, or before, where the queue takes no task
// that is as late.
func TestWhenAWaitIsLookedAt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	hook := json.RawMessage(`{"webhook":"https://hooks.example.com/runs"}`)
	waiting := func(hook json.RawMessage, after ...time.Duration) *session.Run {
		r := &session.Run{Key: session.Key{Owner: "o", ID: "0123456789abcdef"}, ID: "0123456789abcdef", State: session.Waiting, Epoch: 3, Deliveries: hook}
		for _, d := range after {
			r.Pending = append(r.Pending, session.Pending{ExpiresAt: now.Add(d)})
		}
		return r
	}
	done := waiting(hook, time.Hour)
	done.State = session.Done
	for name, c := range map[string]struct {
		run  *session.Run
		want time.Duration // 0: never
	}{
		"one call":            {waiting(hook, 72*time.Hour), 72 * time.Hour},
		"two calls":           {waiting(hook, 3*time.Hour, 2*time.Hour), 2 * time.Hour},
		"a year":              {waiting(hook, 365*24*time.Hour), maxDelay},
		"nobody to tell":      {waiting(nil, time.Hour), 0},
		"one that is over":    {done, 0},
		"one that is working": {&session.Run{Deliveries: hook, State: session.Working}, 0},
	} {
		q := &noted{}
		s := &Service{Config: Config{Queue: q, Webhooks: &webhook.Sender{}, Now: func() time.Time { return now }}}
		if err := s.report(t.Context(), &session.Run{Deliveries: hook, State: session.Working}); err != nil || len(*q) != 0 {
			t.Errorf("a run that is worked on is reported: %+v, %v", *q, err)
		}
		// What is reported of a wait looks at it for the first time.
		if err := s.report(t.Context(), c.run); err != nil || c.want != 0 && (len(*q) != 2 || (*q)[0].task.Kind != queue.Webhook || (*q)[1].task.Kind != queue.Expire || (*q)[1].task.Attempt != 0) {
			t.Errorf("%s is reported as %+v, %v", name, *q, err)
		}
		*q = nil
		if err := s.expireLater(t.Context(), c.run, 4); err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == 0 && len(*q) > 0:
			t.Errorf("%s: %+v", name, *q)
		case c.want == 0:
		case len(*q) != 1:
			t.Errorf("%s: %d tasks", name, len(*q))
		default:
			got := (*q)[0]
			if _, err := got.task.Encode(); err != nil || got.at != now.Add(c.want) || got.task.Kind != queue.Expire || got.task.Epoch != 3 || got.task.Attempt != 4 {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}

// Who finds that a run has ended, or has ended it beside its task, tells its webhook.
func TestWhoIsToldOfAnEnd(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())
	for name, tt := range map[string]struct {
		deliveries string
		state      session.RunState
		found      int // tasks, of who finds it
		ended      int // of who has ended it
	}{
		"an end that may not be told": {`{"webhook":"https://hooks.example.com/runs","untold":true}`, session.Done, 1, 1},
		"one that is told":            {`{"webhook":"https://hooks.example.com/runs"}`, session.Stopped, 0, 1},
		"a run that is worked on":     {`{"webhook":"https://hooks.example.com/runs","untold":true}`, session.Working, 0, 0},
		"a run without a webhook":     {`{}`, session.Done, 0, 0},
	} {
		record, err := store.SaveRun(t.Context(), &session.Run{
			Key: session.Key{Owner: "o", ID: session.NewID()}, ID: session.NewID(), State: tt.state, Request: json.RawMessage("{}"), Deliveries: json.RawMessage(tt.deliveries),
		})
		if err != nil {
			t.Fatal(name, err)
		}
		for who, c := range map[string]struct {
			tells func(*Service)
			want  int
		}{
			"finds it":     {func(s *Service) { s.found(t.Context(), record) }, tt.found},
			"has ended it": {func(s *Service) { s.ended(t.Context(), record) }, tt.ended},
		} {
			q := &noted{}
			c.tells(&Service{Config: Config{Queue: q, Webhooks: &webhook.Sender{}, Store: store, Now: time.Now, Log: telemetry.Discard()}})
			if len(*q) != c.want {
				t.Errorf("%s: who %s adds %+v, want %d tasks", name, who, *q, c.want)
			}
		}
	}
}

// The audit has the host of a webhook, and nothing else of its address.
func TestTheHostOfAWebhook(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"https://hooks.example.com/runs?token=secret": "hooks.example.com", "https://[": "", "": ""} {
		if got := hostOf(address); got != want {
			t.Errorf("the host of %q is %q", address, got)
		}
	}
}

// The log has the session whose newest run is asked for, also if none goes on.
func TestTheSessionOfANewestRun(t *testing.T) {
	t.Parallel()
	key, logged := session.Key{Owner: "o", ID: session.NewID()}, &telemetry.Record{}
	ctx := caller.NewContext(telemetry.WithRecord(t.Context(), logged), caller.Caller{Owner: key.Owner})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.SetPathValue("id", key.ID)
	s := &Service{Config: Config{Store: session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())}}
	if _, found, err := s.newestRun(r); found || err != nil || logged.Turn().Session != key.Hash() {
		t.Errorf("found: %t, %v; the log has %+v", found, err, logged.Turn())
	}
}

// Who stops a run that waits has its webhook told of it at once.
func TestAStopOfAWaitIsReported(t *testing.T) {
	t.Parallel()
	store, q := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler)), &noted{}
	s := &Service{Config: Config{Store: store, Queue: q, Webhooks: &webhook.Sender{}, Now: time.Now}}
	key := runKey{session.Key{Owner: "owner", ID: "0123456789abcdef"}, session.NewID()}
	_, err := store.SaveRun(t.Context(), &session.Run{
		Key: key.session, ID: key.id, Turn: 1, State: session.Waiting, Request: json.RawMessage("{}"), Deliveries: json.RawMessage(`{"webhook":"https://hooks.example.com/runs"}`),
		Pending: []session.Pending{{CallID: "call", ExpiresAt: time.Now().Add(time.Hour)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if stopped, err := s.stopRecord(t.Context(), t.Context(), key); !stopped || err != nil {
		t.Fatal(stopped, err)
	}
	if len(*q) != 1 || (*q)[0].task.Kind != queue.Webhook || (*q)[0].task.Event != "run.stopped" {
		t.Errorf("the queue has %+v", *q)
	}
	if record, err := store.LoadRun(t.Context(), key.session, key.id); err != nil || record.State != session.Stopped || deliveriesIn(record).Untold {
		t.Errorf("the record: %+v, %v", record, err)
	}
}

// A webhook is set while there is an end to tell it of, and refused afterwards.
func TestAWebhookOfARunThatIsOver(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	s := &Service{Config: Config{Store: store, Queue: &noted{}, Webhooks: webhook.New(webhook.Config{Hosts: []string{"hooks.example.com"}}), Now: time.Now}}
	ctx, key := caller.NewContext(t.Context(), caller.Caller{Owner: "owner"}), session.Key{Owner: "owner", ID: session.NewID()}
	for name, tt := range map[string]struct {
		state   session.RunState
		expires time.Duration
		refused bool
	}{
		"goes on":          {session.Working, 0, false},
		"waits":            {session.Waiting, time.Hour, false},
		"waited too long":  {session.Waiting, -time.Hour, true},
		"has ended":        {session.Done, 0, true},
		"has been stopped": {session.Stopped, 0, true},
		"has failed":       {session.Failed, 0, true},
	} {
		record := &session.Run{Key: key, ID: session.NewID(), Turn: 1, State: tt.state, Holder: "holder", Request: json.RawMessage("{}")}
		if tt.expires != 0 {
			record.Pending = []session.Pending{{CallID: "call", ExpiresAt: time.Now().Add(tt.expires)}}
		}
		if _, err := store.SaveRun(ctx, record); err != nil {
			t.Fatal(err)
		}
		want := Webhook{URL: "https://hooks.example.com/runs", ID: "id"}
		_, err := s.SetWebhook(ctx, session.RunID(key.ID, record.ID), func(Webhook) (Webhook, error) { return want, nil })
		failed, ok := errors.AsType[*api.Error](err)
		if refused := ok && failed.Code == api.SessionConflict; refused != tt.refused || err != nil && !refused {
			t.Errorf("of a run that %s: %v", name, err)
		}
		if is, err := s.Webhook(ctx, session.RunID(key.ID, record.ID)); err != nil || (is == want) == tt.refused {
			t.Errorf("of a run that %s: it has %+v, %v", name, is, err)
		}
	}
}
