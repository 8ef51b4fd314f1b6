package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A reason has characters and not bytes.
func TestTheLongestReasonOfADoor(t *testing.T) {
	t.Parallel()
	s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{})
	for reason, refused := range map[string]bool{strings.Repeat("ü", 2000): false, strings.Repeat("ü", 2001): true, "\x00": true} {
		_, err := s.ApproveAll(ofCaller(t, "caller"), session.RunID(session.NewID(), session.NewID()), []invoke.Approval{{CallID: "call", Reason: reason}}, nil)
		failed, _ := errors.AsType[*api.Error](err)
		if failed == nil || (len(failed.Details) > 0 && failed.Details[0].Field == "reason") != refused {
			t.Errorf("%d characters: %v", len([]rune(reason)), err)
		}
	}
}

// A run in the background whose webhook cannot be called, or whose files are kept nowhere, is
// refused before anything is stored.
func TestWhatADoorDoesNotHaveTheQueueDo(t *testing.T) {
	t.Parallel()
	s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{}, withFiles(t, nil, false), func(c *invoke.Config) { c.Queue, c.MaxBackground = &tasks{}, 10 })
	withFile := invoke.Request{Query: "What is this?"}
	if err := s.Attach(&withFile, "files", invoke.File{Type: "image/png", Data: picture(t, 30)}); err != nil {
		t.Fatal(err)
	}
	for field, req := range map[string]invoke.Request{"files": withFile, "webhook": {Query: "hello", Webhook: "https://hooks.example.com"}} {
		_, err := s.Begin(ofCaller(t, "caller"), req)
		if failed, _ := errors.AsType[*api.Error](err); failed == nil || failed.Code != api.ValidationFailed || failed.Details[0].Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if runs, _, err := s.Runs(ofCaller(t, "caller"), session.RunFilter{}, 10, ""); err != nil || len(runs) != 0 {
		t.Errorf("%+v, %v", runs, err)
	}
}

// A door that has found no answer in what was sent must not go on with the run.
func TestApprovalWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{})
	_, err := s.ApproveAll(ofCaller(t, "caller"), session.RunID(session.NewID(), session.NewID()), nil, nil)
	if failed, _ := errors.AsType[*api.Error](err); failed == nil || failed.Code != api.ValidationFailed {
		t.Errorf("%v", err)
	}
}

// A failingUser fails every write of a user's state with err.
type failingUser struct {
	session.Store
	err error
}

func (f failingUser) ApplyUser(context.Context, *session.User, session.UserChange) error {
	return f.err
}

// What a caller can cause when a response is removed is no failure of the store.
func TestHideOnAStoreThatRefuses(t *testing.T) {
	t.Parallel()
	for err, code := range map[error]api.Code{
		session.ErrChanged: api.RateLimited, session.ErrNotFound: api.SessionNotFound, session.ErrTooLarge: api.RequestTooLarge,
		session.ErrUnavailable: api.SessionStoreUnavailable,
	} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			s := asked(t, failingUser{newMemory(), err}, geminitest.Start(t), agent.Agent{})
			wantCode(t, s.Hide(ofCaller(t, "caller"), "removed", session.RunID(session.NewID(), session.NewID())), code)
		})
	}
}

// What is hidden is a state of the owner's, which has a bound.
func TestTooManyHidden(t *testing.T) {
	t.Parallel()
	store, ctx := newMemory(), ofCaller(t, "caller")
	s := asked(t, store, geminitest.Start(t), agent.Agent{})
	hidden, run := session.NewID(), func(turn string) string { return session.RunID("0123456789abcdef", turn) }
	hide := func(n int) {
		t.Helper()
		ids := []string{hidden}
		for len(ids) < n {
			ids = append(ids, session.NewID())
		}
		err := session.UpdateUser(ctx, store, caller.Owner(ctx), "removed", time.Now(), func(json.RawMessage) (json.RawMessage, error) { return json.Marshal(ids) })
		if err != nil {
			t.Fatal(err)
		}
	}
	hide(1999)
	if err := s.Hide(ctx, "removed", run(session.NewID())); err != nil {
		t.Errorf("the last: %v", err)
	}
	wantCode(t, s.Hide(ctx, "removed", run(session.NewID())), api.RequestTooLarge)
	if err := s.Hide(ctx, "removed", run(hidden)); err != nil {
		t.Errorf("one that is hidden: %v", err)
	}
	for turn, want := range map[string]bool{hidden: true, session.NewID(): false} {
		if is, err := s.Hidden(ctx, "removed", run(turn)); err != nil || is != want {
			t.Errorf("hidden: %t, %v, want %t", is, err, want)
		}
	}
}

// Where it cannot be known whether a key was used, the question is not asked: its first try may
// have done what it asks for.
func TestAKeyOfAConversationThatCannotBeRead(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	store := &hookedStore{Store: newMemory()}
	away := func() error { return session.ErrUnavailable }
	store.loadRun.Store(&away)
	_, err := continued(ofCaller(t, "caller"), asked(t, store, gemini, agent.Agent{}), "key", "Pay Ann.")
	wantCode(t, err, api.SessionStoreUnavailable)
	if len(gemini.Requests()) > 0 {
		t.Error("the model was asked")
	}
}

// A garbled store returns sessions whose last turn cannot be decoded, once it is on.
type garbled struct {
	session.Store
	on atomic.Bool
}

func (g *garbled) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	s, err := g.Store.Load(ctx, key)
	if err != nil || !g.on.Load() || len(s.Recent) == 0 {
		return s, err
	}
	broken := *s
	broken.Recent = slices.Clone(s.Recent)
	broken.Recent[len(broken.Recent)-1].Data = []byte("{")
	return &broken, nil
}

func (g *garbled) Turns(ctx context.Context, key session.Key, after, limit int) (session.Meta, []session.Record, error) {
	meta, records, err := g.Store.Turns(ctx, key, after, limit)
	if records = slices.Clone(records); len(records) > 0 {
		records[len(records)-1].Data = []byte("{")
	}
	return meta, records, err
}

// A turn that cannot be read is a failure, and no turn without a text.
func TestATurnThatCannotBeRead(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, &garbled{Store: newMemory()}, gemini, agent.Agent{})
	gemini.Enqueue(geminitest.Text("Hello."))
	_, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
	id := decodeAnswer(t, answer).Data.SessionID
	for _, path := range []string{"/sessions/" + id, "/chat/" + id} {
		if response, text := fetch(t, server, http.MethodGet, path); response.StatusCode != http.StatusInternalServerError || !strings.Contains(text, `"error":"internal"`) {
			t.Errorf("%s: %d %s", path, response.StatusCode, text)
		}
	}
	if _, text := fetch(t, server, http.MethodGet, "/export"); !strings.Contains(text, `"kind":"error"`) || strings.Contains(text, `"kind":"end"`) {
		t.Errorf("the export: %s", text)
	}
}

func TestAnAnswerToATurnThatCannotBeRead(t *testing.T) {
	t.Parallel()
	b, gemini, store := &bank{}, geminitest.Start(t), &garbled{Store: newMemory()}
	server, log := serveAgent(t, store, gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
	gemini.Enqueue(pays(50))
	_, answer := ask(t, server, "/invoke", `{"query": "pay"}`)
	waits := decodeAnswer(t, answer)
	store.on.Store(true)
	status, answer := ask(t, server, "/runs/"+waits.Data.RunID+"/approvals", `{"call_id": "`+waits.Data.Pending[0].CallID+`", "approve": true}`)
	server.Close() // the log is written after the answer
	if status != http.StatusInternalServerError || !strings.Contains(answer, `"error":"internal"`) || !strings.Contains(log.String(), "decoding turn 1") {
		t.Errorf("%d %s", status, answer)
	}
}

// A key whose turn is stored has the state of that turn, also when it is sent again to be
// done in the background.
func TestTheStateOfAStoredKey(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)), func(c *invoke.Config) {
		c.Queue, c.RunTimeout, c.MaxBackground = &tasks{}, time.Minute, 10
	})
	gemini.Enqueue(pays(50))
	_, answer := ask(t, server, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")
	if finish := decodeAnswer(t, answer).Data.FinishReason; finish != "WAITING" {
		t.Fatal(finish)
	}
	status, answer := ask(t, server, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key", "Prefer", "respond-async")
	if state := decodeAnswer(t, answer).Data.State; status != http.StatusAccepted || state != string(session.Waiting) {
		t.Errorf("%d %s", status, answer)
	}
}

// withStandIn adds a model that stands in for the usual one, which is gone, and says "Done.".
func withStandIn(t *testing.T, gemini *geminitest.Server) func(*invoke.Config) {
	t.Helper()
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		if r.Model == "model" {
			return geminitest.Error(404, "no such model")
		}
		return geminitest.Text("Done.")
	})
	return func(c *invoke.Config) {
		client, err := model.New(t.Context(), model.Config{APIKey: "key", BaseURL: gemini.URL, Loopback: true, Models: []string{"model", "second"}, BreakerFailures: 5, BreakerCooldown: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		c.Model = client
	}
}

// A hook that calls the model again asks the one that has answered.
func TestAHookAsksAStandInAgain(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a := hooked(agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, next func() error) error {
		if err := next(); err != nil {
			return err
		}
		c.Contents = append(c.Contents, c.Answer, genai.NewContentFromText("Again.", genai.RoleUser))
		return next()
	}})
	server, _ := serveAgent(t, newMemory(), gemini, a, withStandIn(t, gemini))
	status, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
	requests := gemini.Requests()
	last := requests[len(requests)-1]
	if status != http.StatusOK || last.Model != "second" || !strings.Contains(last.Prompt(), "Again.") || len(requests) != 3 {
		t.Errorf("%d %s; asked %d times, last: %s %s", status, answer, len(requests), last.Model, last.Prompt())
	}
}
