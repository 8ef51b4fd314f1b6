package invoke

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"example.com/gatehouse/internal/queue"
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
