package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/gcp/tasks/taskstest"
	"example.com/gatehouse/internal/geminitest"
)

// An acceptedRun is the data of a 202.
type acceptedRun struct {
	RunID     string `json:"run_id"`
	SessionID string `json:"session_id"`
	State     string `json:"state"`
}

// A storedRun is the data of GET /runs/{id}.
type storedRun struct {
	acceptedRun
	Turn   int `json:"turn"`
	Result *struct {
		Data turn `json:"data"`
	} `json:"result"`
}

// async asks for a run in the background.
var async = []string{"Prefer", "respond-async"}

func wantAccepted(t *testing.T, a answer) acceptedRun {
	t.Helper()
	if a.Status != http.StatusAccepted {
		t.Fatalf("%d %s, want 202", a.Status, a.Body)
	}
	var e struct {
		Success bool        `json:"success"`
		Data    acceptedRun `json:"data"`
	}
	if err := json.Unmarshal(a.Body, &e); err != nil || !e.Success || e.Data.RunID == "" || !strings.HasPrefix(e.Data.RunID, e.Data.SessionID+".") {
		t.Fatalf("%s: %v", a.Body, err)
	}
	if got := a.Header.Get("Location"); got != "/runs/"+e.Data.RunID {
		t.Errorf("Location: %q", got)
	}
	return e.Data
}

// run reads a run.
func (s *service) run(t *testing.T, id string, headers ...string) storedRun {
	t.Helper()
	a := s.do(t, http.MethodGet, "/runs/"+id, nil, headers...)
	var e struct {
		Data storedRun `json:"data"`
	}
	if err := json.Unmarshal(a.Body, &e); err != nil || a.Status != http.StatusOK {
		t.Fatalf("GET /runs/%s: %d %s", id, a.Status, a.Body)
	}
	return e.Data
}

// ended waits until a run is over.
func (s *service) ended(t *testing.T, id string, headers ...string) storedRun {
	t.Helper()
	var run storedRun
	eventually(t, "the run is over", func() bool {
		run = s.run(t, id, headers...)
		return run.State != "working"
	})
	return run
}

// deliver posts a task to a service and returns the status.
func (s *service) deliver(t *testing.T, body string, headers ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(bounded(t), http.MethodPost, s.URL+"/tasks", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// startQueued runs the local program with a stand-in for Cloud Tasks.
func startQueued(t *testing.T, stand *taskstest.Server, gemini *geminitest.Server, env ...string) *service {
	t.Helper()
	return startQueuedAt(t, unused(t), stand, gemini, env...)
}

// startQueuedAt is startQueued at an address.
func startQueuedAt(t *testing.T, address string, stand *taskstest.Server, gemini *geminitest.Server, env ...string) *service {
	t.Helper()
	return startLocal(t, queued(address, stand, gemini, env)...)
}

// queued is the environment of a service at an address, with a queue.
func queued(address string, stand *taskstest.Server, gemini *geminitest.Server, env []string) []string {
	_, port, _ := strings.Cut(address, ":")
	return append([]string{
		"GEMINI_API_KEY=" + apiKey, "GOOGLE_GEMINI_BASE_URL=" + gemini.URL, "MODEL_FALLBACKS=none", "PORT=" + port, "SERVICE_URL=http://" + address,
		"TASKS_QUEUE=" + taskstest.Queue, "TASKS_ACCOUNT=" + taskstest.Account, "TASKS_ENDPOINT=" + stand.Addr,
	}, env...)
}

// startToBeKilled is startQueuedAt for a process that need not end well.
func startToBeKilled(t *testing.T, address string, stand *taskstest.Server, gemini *geminitest.Server, env ...string) *service {
	t.Helper()
	program, err := localProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := spawn(t, program, queued(address, stand, gemini, env)...)
	if _, err := p.stdout.Await(bounded(t), readyAt); err != nil {
		t.Fatal(err)
	}
	return newService(t, p, "http://"+address)
}

// The local program's queue is in the process.
func TestARunInTheBackground(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		gemini.Enqueue(geminitest.Text("In the background."))
		a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Take your time."}, async...)
		accepted := wantAccepted(t, a)
		run := s.ended(t, accepted.RunID)
		if run.State != "done" || run.Turn != 1 || run.Result == nil || run.Result.Data.Response != "In the background." || run.Result.Data.SessionID != accepted.SessionID {
			t.Errorf("%+v", run)
		}
		if got := turnsOf(t, s, accepted.SessionID); got != 1 {
			t.Errorf("%d turns", got)
		}
		// The session goes on as any other.
		next := s.invoke(t, map[string]any{"query": "And now?", "session_id": accepted.SessionID})
		if next.Turn != 2 {
			t.Errorf("the next turn is %d", next.Turn)
		}
		// A stranger sees none of it.
		wantError(t, s.do(t, http.MethodGet, "/runs/"+accepted.RunID, nil, "X-End-User", "somebody-else"), http.StatusNotFound, "not_found")
	})
}

func TestARetryOfABackgroundCallIsTheSameRun(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		ask := map[string]any{"query": "Once."}
		headers := append(keyed("once"), async...)
		first := wantAccepted(t, s.do(t, http.MethodPost, "/invoke", ask, headers...))
		for range 3 {
			a := s.do(t, http.MethodPost, "/invoke", ask, headers...)
			if got := wantAccepted(t, a); got.RunID != first.RunID || a.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("a retry is run %s, the first is %s", got.RunID, first.RunID)
			}
		}
		s.ended(t, first.RunID)
		if got := wantAccepted(t, s.do(t, http.MethodPost, "/invoke", ask, headers...)); got.RunID != first.RunID || got.State != "done" {
			t.Errorf("after the end: %+v", got)
		}
		if n := len(gemini.Requests()); n != 1 {
			t.Errorf("the model was asked %d times", n)
		}
		wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Another."}, headers...), http.StatusUnprocessableEntity, "idempotency_mismatch")
	})
}

// Each task three times, side by side, late and out of order, with failures between: one
// turn for each run, one id for each event.
func TestDeliveriesThatComeOftenAndLate(t *testing.T) {
	t.Parallel()
	eachQueuedStore(t, func(t *testing.T, stand *taskstest.Server, gemini *geminitest.Server, env []string) {
		hook := receiveHooks(t, func(n int) int {
			if n%3 == 1 {
				return http.StatusServiceUnavailable
			}
			return http.StatusNoContent
		})
		s := startQueued(t, stand, gemini, append(env, hook.env...)...)
		stand.Run(taskstest.Behavior{Copies: 3, Early: true, Delay: func() time.Duration { return rand.N(200 * time.Millisecond) }, Pause: 20 * time.Millisecond})
		var runs []acceptedRun
		for range 8 {
			runs = append(runs, wantAccepted(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Often.", "webhook": hook.URL + "/runs"}, async...)))
		}
		for _, run := range runs {
			if got := s.ended(t, run.RunID); got.State != "done" {
				t.Errorf("%+v", got)
			}
			if n := turnsOf(t, s, run.SessionID); n != 1 {
				t.Errorf("session %s has %d turns", run.SessionID, n)
			}
		}
		eventually(t, "each run's webhook was taken, and the queue is empty", func() bool {
			return len(hook.taken()) == len(runs) && len(stand.Waiting()) == 0
		})
		for id, events := range hook.taken() {
			run := events[0].Data
			if !slices.ContainsFunc(runs, func(r acceptedRun) bool { return r.RunID == run.RunID }) || run.State != "done" || events[0].Type != "run.done" {
				t.Errorf("event %s: %+v", id, events[0])
			}
			for _, other := range events {
				if other.Data.RunID != run.RunID || other.Type != events[0].Type {
					t.Errorf("event %s has two meanings: %+v and %+v", id, events[0], other)
				}
			}
		}
	})
}

// eachQueuedStore starts a stand-in for the queue and one for the model, and passes the
// environment of each store.
func eachQueuedStore(t *testing.T, test func(t *testing.T, stand *taskstest.Server, gemini *geminitest.Server, env []string)) {
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			test(t, taskstest.Start(t), geminitest.Start(t), store.env(t))
		})
	}
}

// Hooks are a receiver of webhooks on loopback.
type hooks struct {
	*httptest.Server
	env []string // of a service that may call it

	mu  sync.Mutex
	got int
	ok  map[string][]hookEvent // by their ids
}

type hookEvent struct {
	Type string    `json:"type"`
	Data storedRun `json:"data"`
}

func (h *hooks) taken() map[string][]hookEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := map[string][]hookEvent{}
	for id, events := range h.ok {
		taken[id] = slices.Clone(events)
	}
	return taken
}

func (h *hooks) calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got
}

const webhookSecrets = "projects/p-1/secrets/gatehouse-webhook-secrets/versions/latest"

// receiveHooks starts a receiver that answers its n-th call, from 1, with answer(n).
func receiveHooks(t *testing.T, answer func(n int) int) *hooks {
	t.Helper()
	h := &hooks{ok: map[string][]hookEvent{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e hookEvent
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.NewDecoder(bytes.NewReader(body)).Decode(&e)
		}
		if err != nil || !strings.HasPrefix(r.Header.Get("webhook-signature"), "v1,") || r.Header.Get("webhook-timestamp") == "" {
			t.Errorf("a webhook: %v %s: %v", r.Header, body, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got++
		status := answer(h.got)
		if status < 300 {
			id := r.Header.Get("webhook-id")
			h.ok[id] = append(h.ok[id], e)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(h.Close)
	secrets := secrettest.Start(t)
	secrets.Set(webhookSecrets, `[{"name": "a", "secret": "whsec_`+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))+`"}]`)
	h.env = []string{
		"WEBHOOK_HOSTS=" + strings.TrimPrefix(h.URL, "http://"), "WEBHOOK_SECRETS_SECRET=" + webhookSecrets, "SECRET_MANAGER_ENDPOINT=" + secrets.Addr,
	}
	return h
}

// What is no task of this service changes nothing, and asks nobody.
func TestTasksThatAreNone(t *testing.T) {
	t.Parallel()
	stand, gemini := taskstest.Start(t), geminitest.Start(t)
	for mode, env := range map[string][]string{"none": nil, "api_key": {"AUTH=api_key", keys()}} {
		s := startQueued(t, stand, gemini, env...)
		good := stand.Token(taskstest.Account, s.URL)
		expired := stand.Issuer.Claims(s.URL, time.Now().Add(-2*time.Hour))
		expired["email"], expired["email_verified"] = taskstest.Account, true
		const task = `{"kind": "run", "owner": "o", "run": "AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB"}`
		for _, tt := range []struct {
			name, body string
			token      string
			want       int
		}{
			{"no token", task, "", http.StatusUnauthorized},
			{"no token at all", task, "nonsense", http.StatusUnauthorized},
			{"an expired token", task, stand.Issuer.Sign(expired), http.StatusUnauthorized},
			{"another account's token", task, stand.Token("app@p-1.iam.gserviceaccount.com", s.URL), http.StatusUnauthorized},
			{"a token for another service", task, stand.Token(taskstest.Account, "https://other.example"), http.StatusUnauthorized},
			{"a token that another has signed", task, taskstest.Start(t).Token(taskstest.Account, s.URL), http.StatusUnauthorized},
			{"a run that is gone", task, good, http.StatusNoContent},
			{"a webhook of a run that is gone", `{"kind": "webhook", "owner": "o", "run": "AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB", "event": "run.done", "id": "msg_1"}`, good, http.StatusNoContent},
			{"a run's id that is none", `{"kind": "run", "owner": "o", "run": "r"}`, good, http.StatusNoContent},
			{"no JSON", "run", good, http.StatusBadRequest},
			{"an unknown kind", `{"kind": "delete", "owner": "o", "run": "r"}`, good, http.StatusBadRequest},
			{"over its bound", task + strings.Repeat(" ", 2000), good, http.StatusRequestEntityTooLarge},
		} {
			headers := []string{"Authorization", "Bearer " + tt.token}
			if tt.token == "" {
				headers = nil
			}
			if got := s.deliver(t, tt.body, headers...); got != tt.want {
				t.Errorf("AUTH=%s: %s: %d, want %d", mode, tt.name, got, tt.want)
			}
		}
		if mode == "api_key" {
			if got := s.deliver(t, task, as("one")...); got != http.StatusUnauthorized {
				t.Errorf("a caller's key: %d", got)
			}
		}
		if document := s.do(t, http.MethodGet, "/openapi.json", nil); bytes.Contains(document.Body, []byte("/tasks")) {
			t.Error("the document has /tasks")
		}
	}
	if n := len(gemini.Requests()); n != 0 {
		t.Errorf("the model was asked %d times", n)
	}
}

// An owner has so many runs at work; its next one is refused, another owner's is not.
func TestRunsOfAnOwnerAreBounded(t *testing.T) {
	t.Parallel()
	stand, gemini := taskstest.Start(t), geminitest.Start(t)
	s := startQueued(t, stand, gemini, "MAX_BACKGROUND_RUNS=2")
	ask := map[string]any{"query": "Wait."}
	for range 2 { // their tasks are not delivered
		wantAccepted(t, s.do(t, http.MethodPost, "/invoke", ask, async...))
	}
	a := s.do(t, http.MethodPost, "/invoke", ask, async...)
	wantError(t, a, http.StatusTooManyRequests, "rate_limited")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	wantAccepted(t, s.do(t, http.MethodPost, "/invoke", ask, append(async, "X-End-User", "somebody-else")...))
	stand.Run(taskstest.Behavior{Early: true})
	eventually(t, "the queue is empty", func() bool { return len(stand.Waiting()) == 0 })
	wantAccepted(t, s.do(t, http.MethodPost, "/invoke", ask, async...))
}

func TestWebhooksThatAreRefused(t *testing.T) {
	t.Parallel()
	hook := receiveHooks(t, func(int) int { return http.StatusNoContent })
	with, _ := startGemini(t, hook.env...)
	without, gemini := startGemini(t)
	ask := func(url string) map[string]any { return map[string]any{"query": "q", "webhook": url} }
	for name, url := range map[string]string{
		"localhost": "https://localhost/", "the metadata server": "https://169.254.169.254/", "mapped": "https://[::ffff:169.254.169.254]/",
		"another host": "https://hooks.example.com/", "plain": "http://hooks.example.com/", "no URL": "hooks", "too long": "https://hooks.example.com/" + strings.Repeat("x", 3000),
	} {
		e := wantError(t, with.do(t, http.MethodPost, "/invoke", ask(url), async...), http.StatusUnprocessableEntity, "validation_failed")
		if !slices.Contains(e.fields(), "webhook") {
			t.Errorf("%s: %v", name, e.fields())
		}
	}
	wantError(t, with.do(t, http.MethodPost, "/invoke", ask(hook.URL)), http.StatusUnprocessableEntity, "validation_failed")
	wantError(t, without.do(t, http.MethodPost, "/invoke", ask(hook.URL), async...), http.StatusUnprocessableEntity, "validation_failed")
	if hook.calls() != 0 || len(gemini.Requests()) != 0 {
		t.Errorf("%d webhooks were sent, the model was asked %d times", hook.calls(), len(gemini.Requests()))
	}
}

// An instance that is to end hands its run back to the queue, and another finishes it.
func TestSIGTERMHandsARunOver(t *testing.T) {
	t.Parallel()
	stand, gemini := taskstest.Start(t), geminitest.Start(t)
	env := firestore(emulatorHost(t))
	first := startQueued(t, stand, gemini, append(env, "RUN_TIMEOUT=2m")...)
	gemini.Enqueue(geminitest.Silence(), geminitest.Text("By the second."))
	run := wantAccepted(t, first.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Survive."}, async...))
	tasks := stand.Waiting()
	delivered := make(chan int, 1)
	go func() { delivered <- stand.Deliver(t.Context(), tasks[0]) }()
	if _, err := gemini.Await(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	if code := first.process.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the first ended with code %d", code)
	}
	if status := <-delivered; status >= 200 && status < 300 {
		t.Fatalf("the task was answered %d by an instance that did not finish it", status)
	}
	// The queue tries again; what it delivers to is the service's one address.
	second := startQueuedAt(t, strings.TrimPrefix(first.URL, "http://"), stand, gemini, env...)
	if status := stand.Deliver(t.Context(), tasks[0]); status != http.StatusNoContent {
		t.Errorf("the second answered %d", status)
	}
	if got := second.run(t, run.RunID); got.State != "done" || got.Result.Data.Response != "By the second." || turnsOf(t, second, run.SessionID) != 1 {
		t.Errorf("%+v", got)
	}
}

// A client leaves, its instance dies, and nobody asks for the run: the queue finishes it.
func TestTheQueueFinishesARunThatWasLeft(t *testing.T) {
	t.Parallel()
	stand, gemini := taskstest.Start(t), geminitest.Start(t)
	env := append(firestore(emulatorHost(t)), "REQUEST_TIMEOUT=20s")
	address := unused(t)
	first := startToBeKilled(t, address, stand, gemini, env...)
	gemini.Enqueue(geminitest.Text("Half of ", "the answer.").SilentAfter(1), geminitest.Text("The whole answer."))
	events := first.stream(t, map[string]any{"query": "I leave.", "on_disconnect": "continue"})
	start := events.until(t, "delta")[0]
	var started struct {
		RunID     string `json:"run_id"`
		SessionID string `json:"session_id"`
	}
	if err := json.Unmarshal(start.Data, &started); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the run is scheduled", func() bool { return len(stand.Waiting()) == 1 })
	if err := first.process.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.process.exited
	second := startQueuedAt(t, address, stand, gemini, env...)
	looks := 0
	eventually(t, "the queue has finished it", func() bool {
		for _, task := range stand.Waiting() { // before it is due: then its holder is not known to be dead
			looks++
			if status := stand.Deliver(t.Context(), task); status != http.StatusNoContent {
				t.Errorf("a task was answered %d", status)
			}
		}
		return len(stand.Waiting()) == 0
	})
	if looks < 2 {
		t.Error("the run was taken from a holder that might have lived")
	}
	run := second.run(t, started.RunID)
	if run.State != "done" || run.Result.Data.Response != "The whole answer." || turnsOf(t, second, started.SessionID) != 1 {
		t.Errorf("%+v", run)
	}
}

// A receiver that takes nothing for a day is given up, and the audit says so.
func TestAWebhookIsGivenUpAfterADay(t *testing.T) {
	t.Parallel()
	stand, gemini := taskstest.Start(t), geminitest.Start(t)
	hook := receiveHooks(t, func(int) int { return http.StatusInternalServerError })
	s := startQueued(t, stand, gemini, hook.env...)
	run := wantAccepted(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "q", "webhook": hook.URL + "/secret-path"}, async...))
	if status := stand.Deliver(t.Context(), stand.Waiting()[0]); status != http.StatusNoContent {
		t.Fatalf("the run's task was answered %d", status)
	}
	task := stand.Waiting()[0]
	for range 2 {
		if status := stand.Deliver(t.Context(), task); status != http.StatusFailedDependency {
			t.Errorf("a delivery within the day was answered %d", status)
		}
	}
	var body map[string]any
	if err := json.Unmarshal(task.GetHttpRequest().Body, &body); err != nil {
		t.Fatal(err)
	}
	body["created"] = time.Now().Add(-25 * time.Hour)
	late, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if status := s.deliver(t, string(late), "Authorization", "Bearer "+stand.Token(taskstest.Account, s.URL)); status != http.StatusNoContent {
		t.Errorf("the last delivery was answered %d: the queue would go on", status)
	}
	if hook.calls() != 3 {
		t.Errorf("%d deliveries, want 3", hook.calls())
	}
	eventually(t, "the log has two failures and one end", func() bool {
		log := s.process.stdout.String()
		return strings.Count(log, "A webhook was not taken.") == 2 && strings.Count(log, "A webhook was given up.") == 1
	})
	eventually(t, "the audit has the end", func() bool {
		for line := range strings.Lines(s.process.stdout.String()) {
			if strings.Contains(line, `"audit":true`) && strings.Contains(line, `"webhook.deliver"`) && strings.Contains(line, `"failed"`) {
				return true
			}
		}
		return false
	})
	if strings.Contains(s.process.stdout.String(), "secret-path") {
		t.Error("the log has the webhook's URL")
	}
	if got := s.run(t, run.RunID); got.State != "done" {
		t.Errorf("the run can be read no more: %+v", got)
	}
}

// A run that is stopped before the queue comes to it is told as stopped, and asks nobody.
func TestARunThatIsStoppedInTheQueue(t *testing.T) {
	t.Parallel()
	eachQueuedStore(t, func(t *testing.T, stand *taskstest.Server, gemini *geminitest.Server, env []string) {
		hook := receiveHooks(t, func(int) int { return http.StatusOK })
		s := startQueued(t, stand, gemini, append(env, hook.env...)...)
		run := wantAccepted(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "q", "webhook": hook.URL}, async...))
		if a := s.do(t, http.MethodPost, "/runs/"+run.RunID+"/stop", nil); a.Status != http.StatusAccepted {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		stand.Run(taskstest.Behavior{Early: true, Copies: 2})
		eventually(t, "the webhook was told", func() bool { return len(hook.taken()) == 1 && len(stand.Waiting()) == 0 })
		for _, events := range hook.taken() {
			if events[0].Type != "run.stopped" || events[0].Data.State != "stopped" {
				t.Errorf("%+v", events[0])
			}
		}
		if n := len(gemini.Requests()); n != 0 {
			t.Errorf("the model was asked %d times", n)
		}
	})
}

// A session that is deleted takes its queued runs with it.
func TestARunWhoseSessionIsDeleted(t *testing.T) {
	t.Parallel()
	eachQueuedStore(t, func(t *testing.T, stand *taskstest.Server, gemini *geminitest.Server, env []string) {
		hook := receiveHooks(t, func(int) int { return http.StatusOK })
		s := startQueued(t, stand, gemini, append(env, hook.env...)...)
		first := s.invoke(t, map[string]any{"query": "First."})
		asked := len(gemini.Requests())
		wantAccepted(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "q", "session_id": first.SessionID, "webhook": hook.URL}, async...))
		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+first.SessionID, nil))
		if status := stand.Deliver(t.Context(), stand.Waiting()[0]); status != http.StatusNoContent {
			t.Errorf("answered %d", status)
		}
		if len(stand.Waiting()) != 0 || hook.calls() != 0 || len(gemini.Requests()) != asked {
			t.Errorf("%d tasks wait, %d webhooks, the model was asked %d times", len(stand.Waiting()), hook.calls(), len(gemini.Requests())-asked)
		}
	})
}
