package invoke_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
	"example.com/gatehouse/tool"
)

// starts makes a run that waits.
func starts(t *testing.T, server *httptest.Server, gemini *geminitest.Server) answered {
	t.Helper()
	gemini.Enqueue(pays(50))
	_, body := ask(t, server, "/invoke", `{"query": "pay"}`)
	waits := decodeAnswer(t, body)
	if waits.Data.FinishReason != "WAITING" || len(waits.Data.Pending) != 1 {
		t.Fatalf("the waiting answer: %s", body)
	}
	return waits
}

// Bad answers change nothing: what waits can be approved afterwards.
func TestBadApprovals(t *testing.T) {
	t.Parallel()
	everyStore(t, badApprovals)
}

func badApprovals(t *testing.T, open func(*testing.T) session.Store) {
	b, gemini := &bank{}, geminitest.Start(t)
	server, _ := serveAgent(t, open(t), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
	one, other := starts(t, server, gemini).Data, starts(t, server, gemini).Data
	call := one.Pending[0].CallID
	good := fmt.Sprintf(`{"call_id": %q, "approve": true}`, call)
	tests := []struct {
		name, run, body string
		status          int
	}{
		{"a call that never was", one.RunID, `{"call_id": "call_9_9", "approve": true}`, 404},
		{"a run that never was", one.SessionID + "." + session.NewID(), good, 404},
		{"the turn of one run in the session of another", other.SessionID + "." + strings.SplitN(one.RunID, ".", 2)[1], good, 404},
		{"an id that is none", "x", good, 404},
		{"nothing", one.RunID, ``, 400},
		{"no object", one.RunID, `[]`, 400},
		{"an empty object", one.RunID, `{}`, 422},
		{"no answer", one.RunID, fmt.Sprintf(`{"call_id": %q}`, call), 422},
		{"an answer that is a text", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": "true"}`, call), 422},
		{"an answer that is null", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": null}`, call), 422},
		{"two answers", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": true, "approve": false}`, call), 400},
		{"other arguments", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": true, "args": {"amount": 1}}`, call), 422},
		{"an empty call", one.RunID, `{"call_id": "", "approve": true}`, 422},
		{"a call of 10 kB", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": true}`, strings.Repeat("x", 10<<10)), 422},
		{"a reason that is too long", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": true, "reason": %q}`, call, strings.Repeat("x", 2001)), 422},
		{"a reason with NUL", one.RunID, fmt.Sprintf(`{"call_id": %q, "approve": true, "reason": "\u0000"}`, call), 422},
	}
	for _, test := range tests {
		if status, body := ask(t, server, "/runs/"+test.run+"/approvals", test.body); status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.name, status, test.status, body)
		}
	}
	part := func(changes string) string {
		return fmt.Sprintf(`{"id": %q, "messages": [{"role": "assistant", "parts": [{"type": "tool-pay", "toolCallId": %q, "state": "approval-responded", "input": {"to": "Ann", "amount": 50}%s}]}]}`,
			one.SessionID, call, changes)
	}
	chats := []struct {
		name, body string
		status     int
	}{
		{"no approval", part(``), 422},
		{"an approval that is a text", part(`, "approval": "yes"`), 422},
		{"no answer", part(`, "approval": {"id": "a"}`), 422},
		{"an answer that is a text", part(`, "approval": {"id": "a", "approved": "true"}`), 422},
		{"an id that was not given out", part(`, "approval": {"id": "a", "approved": true}`), 409},
		{"a reason that is too long", part(fmt.Sprintf(`, "approval": {"id": "a", "approved": true, "reason": %q}`, strings.Repeat("x", 2001))), 422},
		{"an approval twice", part(`, "approval": {"id": "a", "approved": true, "approved": false}`), 400},
		{"33 answers", fmt.Sprintf(`{"id": %q, "messages": [{"role": "assistant", "parts": [%s]}]}`, one.SessionID,
			strings.TrimSuffix(strings.Repeat(`{"type": "tool-pay", "state": "approval-responded", "approval": {"id": "a", "approved": true}},`, 33), ",")), 422},
		{"no parts", fmt.Sprintf(`{"id": %q, "messages": [{"role": "assistant"}]}`, one.SessionID), 409},
	}
	for _, test := range chats {
		if status, body := ask(t, server, "/chat", test.body); status != test.status {
			t.Errorf("on /chat, %s: status %d, want %d: %s", test.name, status, test.status, body)
		}
	}
	if b.sum() != 0 {
		t.Fatalf("paid %d", b.sum())
	}
	gemini.Enqueue(geminitest.Text("Paid."))
	if status, body := approve(t, server, one.RunID, call, true); status != http.StatusOK || b.sum() != 50 {
		t.Errorf("status %d, paid %d: %s", status, b.sum(), body)
	}

	if response, body := fetch(t, server, http.MethodDelete, "/sessions/"+other.SessionID); response.StatusCode != http.StatusNoContent {
		t.Fatalf("status %d: %s", response.StatusCode, body)
	}
	if status, body := approve(t, server, other.RunID, other.Pending[0].CallID, true); status != http.StatusNotFound || b.sum() != 50 {
		t.Errorf("in a deleted session: status %d, paid %d: %s", status, b.sum(), body)
	}
	if list := get(t, server, "/runs?state=waiting"); strings.Contains(list, one.SessionID) || strings.Contains(list, other.SessionID) {
		t.Errorf("the list of what waits: %s", list)
	}
}

// A run that fails after its approval shows why, and not the turn with which it waited.
func TestAnApprovedRunThatFails(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Confirm(question)))
	waits := starts(t, server, gemini).Data
	gemini.Enqueue(geminitest.Blocked("SAFETY"))
	if status, body := approve(t, server, waits.RunID, waits.Pending[0].CallID, true); status != http.StatusUnprocessableEntity || b.sum() != 50 {
		t.Fatalf("%d, paid %d: %s", status, b.sum(), body)
	}
	if run := get(t, server, "/runs/"+waits.RunID); !strings.Contains(run, `"state":"failed"`) || !strings.Contains(run, `"error":"content_blocked"`) || strings.Contains(run, `"WAITING"`) {
		t.Errorf("the run: %s", run)
	}
}

// A forgetful store does not store turns.
type forgetful struct {
	session.Store
	turns atomic.Bool
}

func (f *forgetful) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn != nil && f.turns.Load() {
		return nil, errors.New("no")
	}
	return f.Store.Apply(ctx, s, c)
}

// A message whose turn is not stored denies nothing.
func TestAMessageThatIsNotStoredDeniesNothing(t *testing.T) {
	t.Parallel()
	b, gemini, store := &bank{}, geminitest.Start(t), &forgetful{Store: newMemory()}
	server, _ := serveAgent(t, store, gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
	waits := starts(t, server, gemini).Data
	store.turns.Store(true)
	gemini.Enqueue(geminitest.Text("Fine."))
	if _, body := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "never mind", "session_id": %q}`, waits.SessionID)); !strings.Contains(body, "session_not_saved") {
		t.Fatalf("the answer: %s", body)
	}
	store.turns.Store(false)
	gemini.Enqueue(geminitest.Text("Paid."))
	if status, body := approve(t, server, waits.RunID, waits.Pending[0].CallID, true); status != http.StatusOK || b.sum() != 50 {
		t.Errorf("status %d, paid %d: %s", status, b.sum(), body)
	}
}

// Who approved what is in the audit, by POST /runs/{id}/approvals and by /chat.
func TestApprovalsInTheAudit(t *testing.T) {
	t.Parallel()
	byRun := func(t *testing.T, server *httptest.Server, waits answered, yes bool) (int, string) {
		return approve(t, server, waits.Data.RunID, waits.Data.Pending[0].CallID, yes)
	}
	byChat := func(t *testing.T, server *httptest.Server, waits answered, yes bool) (int, string) {
		_, id, _ := strings.Cut(get(t, server, "/chat/"+waits.Data.SessionID), `"approval":{"id":"`)
		id, _, _ = strings.Cut(id, `"`)
		return ask(t, server, "/chat", fmt.Sprintf(`{"id": %q, "messages": [{"role": "assistant", "parts": [{"type": "tool-pay", "toolCallId": %q, "state": "approval-responded",
			"input": {"to": "Ann", "amount": 50}, "approval": {"id": %q, "approved": %t}}]}]}`, waits.Data.SessionID, waits.Data.Pending[0].CallID, id, yes))
	}
	for _, test := range []struct {
		name          string
		answer        func(t *testing.T, server *httptest.Server, waits answered, yes bool) (int, string)
		approve       bool
		action, calls string
	}{
		{"approved", byRun, true, `"action":"run.approve"`, `"calls":"approved pay `},
		{"denied", byRun, false, `"action":"run.deny"`, `"calls":"denied pay `},
		{"approved by chat", byChat, true, `"action":"run.approve"`, `"calls":"approved pay `},
		{"denied by chat", byChat, false, `"action":"run.deny"`, `"calls":"denied pay `},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, gemini, written := &bank{}, geminitest.Start(t), &testlog.Buffer{}
			var service *invoke.Service
			_, _ = serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)), func(c *invoke.Config) { service = invoke.New(*c) })
			log, err := audit.New(t.Context(), "", audit.Off, "", written)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(middleware.New(middleware.Config{
				Log: telemetry.Discard(), Gate: &drain.Gate{}, Authenticator: auth.New(&auth.None{}), Now: time.Now,
				Audit: middleware.NewAudit(log, true),
			}, service.Routes()))
			t.Cleanup(server.Close)
			waits := starts(t, server, gemini)
			gemini.Enqueue(geminitest.Text("Well."))
			if status, text := test.answer(t, server, waits, test.approve); status != http.StatusOK {
				t.Fatalf("%d %s", status, text)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			line, err := written.Await(ctx, regexp.MustCompile(".*"+test.calls+".*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{test.action, waits.Data.Pending[0].CallID, `"principal":`, `"session_id":`} {
				if !strings.Contains(line[0], want) {
					t.Errorf("the audit has %q, want %s", line, want)
				}
			}
		})
	}
}

// A revision that knows no runs stores its turn behind one that waits without denying it, and
// deletes a session without its runs. Nothing is left that could be approved.
func TestARevisionWithoutRunsBeside(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		b, gemini, store := &bank{}, geminitest.Start(t), open(t)
		server, _ := serveAgent(t, store, gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
		anybody, _, err := (&auth.None{}).Authenticate(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name   string
			change func(*session.Session) error
			read   string
			answer int
		}{
			{"it goes on", func(s *session.Session) error {
				_, err := session.Commit(t.Context(), store, s, sessiontest.Turn("theirs"), session.Conditions{})
				return err
			}, `"state":"stopped"`, 409},
			{"it deletes the session", func(s *session.Session) error {
				_, err := store.Apply(t.Context(), s, session.Change{Remove: true})
				return err
			}, `"error":"not_found"`, 404},
		} {
			waits := starts(t, server, gemini).Data
			loaded, err := store.Load(t.Context(), session.Key{Owner: anybody.Owner(), ID: waits.SessionID})
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(loaded); err != nil {
				t.Fatal(err)
			}
			if body := get(t, server, "/runs/"+waits.RunID); !strings.Contains(body, test.read) {
				t.Errorf("%s: the run: %s", test.name, body)
			}
			answer := fmt.Sprintf(`{"call_id": %q, "approve": true}`, waits.Pending[0].CallID)
			if status, body := ask(t, server, "/runs/"+waits.RunID+"/approvals", answer); status != test.answer {
				t.Errorf("%s: the approval: %d, want %d: %s", test.name, status, test.answer, body)
			}
		}
		if body := get(t, server, "/runs?state=waiting"); !strings.Contains(body, `"runs":[]`) {
			t.Errorf("what waits: %s", body)
		}
	})
}
