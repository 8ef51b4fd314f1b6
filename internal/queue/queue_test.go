package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"example.com/gatehouse/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	run     = queue.Task{Kind: queue.Run, Owner: "owner-1", Run: "session-1.turn-1"}
	expiry  = queue.Task{Kind: queue.Expire, Owner: "owner-1", Run: "session-1.turn-1", Epoch: 2, Attempt: 1}
	webhook = queue.Task{
		Kind: queue.Webhook, Owner: "owner-1", Run: "session-1.turn-1", Event: "run.done", ID: "msg_1",
		Created: time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC),
	}
)

func TestATaskIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, want := range []queue.Task{run, webhook, expiry} {
		body, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := queue.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":                 "",
		"no object":               `["run"]`,
		"no kind":                 `{"owner": "o", "run": "r"}`,
		"an unknown kind":         `{"kind": "delete", "owner": "o", "run": "r"}`,
		"an unknown member":       `{"kind": "run", "owner": "o", "run": "r", "token": "x"}`,
		"a member twice":          `{"kind": "run", "owner": "o", "run": "r", "run": "s"}`,
		"trailing data":           `{"kind": "run", "owner": "o", "run": "r"} {}`,
		"no owner":                `{"kind": "run", "run": "r"}`,
		"no run":                  `{"kind": "run", "owner": "o"}`,
		"a path for a run":        `{"kind": "run", "owner": "o", "run": "../r"}`,
		"a run with an event":     `{"kind": "run", "owner": "o", "run": "r", "event": "run.done"}`,
		"an expiry with an id":    `{"kind": "expire", "owner": "o", "run": "r", "id": "i"}`,
		"a webhook without event": `{"kind": "webhook", "owner": "o", "run": "r", "id": "i"}`,
		"a webhook without id":    `{"kind": "webhook", "owner": "o", "run": "r", "event": "run.done"}`,
		"a long name":             `{"kind": "run", "owner": "o", "run": "` + strings.Repeat("r", 161) + `"}`,
		"a long body":             `{"kind": "run", "owner": "o", "run": "r"}` + strings.Repeat(" ", queue.MaxBodyBytes),
		"invalid UTF-8":           "{\"kind\": \"run\", \"owner\": \"o\", \"run\": \"\xff\"}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if task, err := queue.Parse([]byte(body)); !errors.Is(err, queue.ErrInvalid) {
				t.Errorf("%+v, %v", task, err)
			}
		})
	}
}

func TestNamesTellTasksApart(t *testing.T) {
	t.Parallel()
	change := func(change func(*queue.Task)) queue.Task {
		task := webhook
		change(&task)
		return task
	}
	seen := map[string]string{}
	for what, task := range map[string]queue.Task{
		"a run":            run,
		"its expiry":       {Kind: queue.Expire, Owner: run.Owner, Run: run.Run},
		"a webhook":        webhook,
		"its next attempt": change(func(t *queue.Task) { t.Attempt = 1 }),
		"after an answer":  change(func(t *queue.Task) { t.Epoch = 1 }),
		"another event":    change(func(t *queue.Task) { t.ID = "msg_2" }),
		"another owner's":  change(func(t *queue.Task) { t.Owner = "owner-2" }),
		"another run's":    change(func(t *queue.Task) { t.Run = "session-1.turn-2" }),
		"letters moved":    change(func(t *queue.Task) { t.Owner, t.Run = "owner-1s", "ession-1.turn-1" }),
		"a digit moved":    change(func(t *queue.Task) { t.Run, t.Attempt = "session-1.turn-", 1 }),
	} {
		name := task.Name()
		if other, twice := seen[name]; twice {
			t.Errorf("%s and %s have one name", what, other)
		}
		seen[name] = what
		later := task
		later.Created = later.Created.Add(time.Hour)
		if later.Name() != name {
			t.Errorf("%s has another name an hour later", what)
		}
	}
}
