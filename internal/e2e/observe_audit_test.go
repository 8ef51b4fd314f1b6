package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/geminitest"
)

// audited returns the environment of a service that writes its audit log to api.
func audited(api *loggingtest.Server, more ...string) []string {
	slow := fmt.Sprintf(`{"name": "slow", "sha256": "%x", "rate_limit_per_minute": 1}]`, sha256.Sum256([]byte("key of slow")))
	return append([]string{"GOOGLE_CLOUD_PROJECT=project-1", "LOGGING_ENDPOINT=" + api.Addr, "AUTH=api_key",
		strings.TrimSuffix(keys(), "]") + ", " + slow}, more...)
}

// A script does everything that is audited, and some things that are not, each with a
// request id, and returns the expected entries.
type script struct {
	s      *service
	gemini *geminitest.Server
	want   map[string]string // by request id
	n      int
}

func (c *script) do(t *testing.T, did, method, path string, body any, headers ...string) answer {
	t.Helper()
	c.n++
	id := fmt.Sprintf("request-%d", c.n)
	if did != "" {
		c.want[id] = did
	}
	return c.s.do(t, method, path, body, append(headers, "X-Request-ID", id)...)
}

const (
	prompt   = "The prompt: my number is 4711-0815."
	response = "The answer: your number is 4711-0815, dear Zenobia."
	opinion  = "The comment: well said, 4711-0815."
)

// all does everything once.
func (c *script) all(t *testing.T) {
	t.Helper()
	ann, person := as("one", "X-End-User", "ann@example.com"), as("person")
	ask := map[string]any{"query": prompt}
	c.gemini.Enqueue(geminitest.Text(response))
	id := wantTurn(t, c.do(t, "session.turn ok", http.MethodPost, "/invoke", ask, ann...)).SessionID
	c.gemini.Enqueue(geminitest.Text(response))
	streamOf(t, c.do(t, "session.turn ok", http.MethodPost, "/", map[string]any{"query": prompt, "session_id": id, "stream": true}, ann...)).wantDone(t)
	c.gemini.Enqueue(geminitest.Blocked("SAFETY"))
	wantError(t, c.do(t, "session.turn content_blocked", http.MethodPost, "/invoke", ask, ann...), 422, "content_blocked")
	c.do(t, "session.turn session_not_found", http.MethodPost, "/invoke", map[string]any{"query": prompt, "session_id": id}, person...)
	c.do(t, "session.turn ok", http.MethodPost, "/chat", said(chatID, prompt), ann...)
	c.do(t, "session.turn ok", http.MethodPost, "/chat", after(again(chatID, prompt), 1), ann...)
	cut := geminitest.Text("This breaks ", "off.").CutAfter(1)
	c.gemini.Enqueue(cut, cut, cut) // in every attempt
	c.do(t, "session.turn model_unavailable", http.MethodPost, "/invoke", map[string]any{"query": prompt, "stream": true}, ann...)
	c.do(t, "session.list ok", http.MethodGet, "/sessions", nil, ann...)
	c.do(t, "session.read ok", http.MethodGet, "/sessions/"+id, nil, ann...)
	run := wantTurn(t, c.do(t, "session.turn ok", http.MethodPost, "/invoke", map[string]any{"query": prompt, "session_id": id}, ann...)).RunID
	for path, did := range map[string]string{"/runs": "run.list", "/runs/" + run: "run.read", "/runs/" + run + "/events": "run.read", "/chat/" + id + "/stream": "run.read"} {
		c.do(t, did+" ok", http.MethodGet, path, nil, ann...)
	}
	c.do(t, "session.read session_not_found", http.MethodGet, "/sessions/"+id, nil, person...)
	c.do(t, "turn.feedback ok", http.MethodPut, "/sessions/"+id+"/turns/1/feedback", map[string]any{"score": 1, "comment": opinion}, ann...)
	c.do(t, "session.delete ok", http.MethodDelete, "/sessions/"+id, nil, ann...)
	c.do(t, "session.delete_all ok", http.MethodDelete, "/sessions", nil, ann...)
	c.do(t, "credential.refused unauthenticated", http.MethodPost, "/invoke", ask)
	c.do(t, "credential.refused unauthenticated", http.MethodGet, "/sessions", nil, "X-API-Key", "guessed")
	c.do(t, "credential.refused unauthenticated", http.MethodGet, "/nothing", nil, "X-API-Key", "guessed")
	c.do(t, "credential.refused unauthenticated", http.MethodDelete, "/usage", nil, "X-API-Key", "guessed")
	c.do(t, "credential.refused unauthenticated", http.MethodPost, "/invoke", ask, "X-API-Key", "guessed", "Accept", "image/png")
	c.do(t, "session.turn malformed_request", http.MethodPost, "/invoke", ask, as("one", "X-End-User", strings.Repeat("x", 129))...)
	c.do(t, "request malformed_request", http.MethodGet, "/usage", nil, as("one", "X-End-User", "")...)
	c.do(t, "session.turn not_acceptable", http.MethodPost, "/invoke", ask, append(ann, "Accept", "image/png")...)
	c.do(t, "session.turn permission_denied", http.MethodPost, "/invoke", ask, as("person", "X-End-User", "ann@example.com")...)
	c.do(t, "request origin_not_allowed", http.MethodPost, "/invoke", ask, append(ann, "Origin", "https://evil.example.com")...)
	// The first of the key "slow" may pass; another minute may begin between two.
	for a := (answer{}); a.Status != http.StatusTooManyRequests; {
		c.n++
		name := fmt.Sprintf("request-%d", c.n)
		a = c.s.do(t, http.MethodPost, "/invoke", ask, as("slow", "X-Request-ID", name)...)
		c.want[name] = map[bool]string{true: "session.turn ok", false: "session.turn rate_limited"}[a.Status == http.StatusOK]
	}
	for _, path := range []string{"/", "/health", "/health/live", "/nothing"} {
		c.do(t, "", http.MethodGet, path, nil, ann...)
	}
	// What anybody may send without a credential fills no log.
	c.do(t, "", http.MethodGet, "/nothing", nil)
	c.do(t, "", http.MethodPost, "/invoke", ask, "Accept", "image/png")
}

// Each turn, each read and deletion of sessions, each refused credential and limit has
// exactly one entry, even if the Logging API fails.
func TestAuditTrail(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(api *loggingtest.Server){
		"that is well":                 func(*loggingtest.Server) {},
		"that dies":                    func(api *loggingtest.Server) { api.Stop() },
		"that is restarted":            func(api *loggingtest.Server) { api.Stop(); api.Restart() },
		"that refuses us":              func(api *loggingtest.Server) { api.Fail(codes.PermissionDenied) },
		"that is overloaded":           func(api *loggingtest.Server) { api.FailNext(codes.ResourceExhausted, 2) },
		"that hangs":                   func(api *loggingtest.Server) { api.Hold() },
		"that is slow":                 func(api *loggingtest.Server) { api.Delay(50 * time.Millisecond) },
		"whose connections break":      func(api *loggingtest.Server) { api.BreakNext(3) },
		"whose answers are lost":       func(api *loggingtest.Server) { api.LoseNext(3) },
		"whose answers never come":     func(api *loggingtest.Server) { api.LoseNext(1 << 20) },
		"that was away from the start": nil,
	} {
		t.Run("an API "+name, func(t *testing.T) {
			t.Parallel()
			api := loggingtest.Start(t)
			if trouble == nil {
				api.Stop()
			}
			s, gemini := startGemini(t, audited(api, "ALLOWED_ORIGINS=https://app.example.com")...)
			c := &script{s: s, gemini: gemini, want: map[string]string{}}
			c.all(t)
			if trouble != nil {
				trouble(api)
				c.all(t)
			}
			if code := s.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
			entries := trail(t, api, s.process)
			wantTrail(t, entries, c.want)
			printed := 0
			for _, e := range entries {
				if e.Printed {
					printed++
				}
				text := fmt.Sprint(e.Payload)
				for _, secret := range []string{"4711", "Zenobia", "key of", "guessed", "ann@example.com", "person"} {
					if strings.Contains(text, secret) {
						t.Errorf("an entry holds %q: %s", secret, text)
					}
				}
			}
			if trouble == nil && printed != len(entries) {
				t.Errorf("%d of %d entries printed", printed, len(entries))
			}
			if sent := len(copies(t, api, s.process)); name == "that is well" && (printed != 0 || sent != len(entries)) {
				t.Errorf("%d entries were sent %d times, and %d printed, though the API took all", len(entries), sent, printed)
			}
		})
	}
}

// SIGTERM in the middle of turns: the answers that still go out have their
// entries, with an API that hangs.
func TestAuditAtShutdown(t *testing.T) {
	t.Parallel()
	api := loggingtest.Start(t)
	api.Hold()
	s, gemini := startGemini(t, audited(api)...)
	const turns = 5
	gate := make(chan struct{})
	want, answers := map[string]string{}, make([]<-chan answer, turns)
	ctx := bounded(t)
	for i := range turns {
		gemini.Enqueue(geminitest.Text("Done in time.").WithGate(0, gate))
		id := fmt.Sprintf("turn-%d", i)
		want[id] = "session.turn ok"
		answers[i] = s.background(ctx, t, map[string]any{"query": "hello", "stream": i%2 == 0}, as("one", "X-Request-ID", id)...)
	}
	if _, err := gemini.Await(ctx, turns); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := s.stdout.Await(ctx, regexp.MustCompile(`Ending`)); err != nil {
		t.Fatal(err)
	}
	close(gate)
	for i := range answers {
		if a := <-answers[i]; a.Status != http.StatusOK {
			t.Errorf("status %d: %s", a.Status, a.Body)
		}
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantTrail(t, trail(t, api, s.process), want)
}

// A process that dies between storing a turn and writing its entry leaves the
// turn: the next call on the session, by any process, writes the entry.
func TestAuditOfADeadProcess(t *testing.T) {
	t.Parallel()
	next := map[string]func(t *testing.T, s *service, id string, headers []string){
		"a turn": func(t *testing.T, s *service, id string, headers []string) {
			s.invoke(t, map[string]any{"query": "And?", "session_id": id}, headers...)
		},
		"a stream": func(t *testing.T, s *service, id string, headers []string) {
			s.stream(t, map[string]any{"query": "And?", "session_id": id, "stream": true}, headers...).wantDone(t)
		},
		"a keyed turn": func(t *testing.T, s *service, id string, headers []string) {
			s.invoke(t, map[string]any{"query": "And?", "session_id": id}, append(headers, "Idempotency-Key", "another")...)
		},
		"a retry": func(t *testing.T, s *service, _ string, headers []string) {
			s.invoke(t, map[string]any{"query": prompt}, append(headers, "Idempotency-Key", "first")...)
		},
		"a read": func(t *testing.T, s *service, id string, headers []string) {
			s.do(t, http.MethodGet, "/sessions/"+id, nil, headers...)
		},
		"a deletion": func(t *testing.T, s *service, id string, headers []string) {
			wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil, headers...))
		},
	}
	did := map[string]string{"a retry": "session.replay ok", "a read": "session.read ok", "a deletion": "session.delete ok"}
	for name, call := range next {
		for _, dies := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " after a death", false: " elsewhere, after an entry that was delivered"}[dies], func(t *testing.T) {
				t.Parallel()
				api, gemini := loggingtest.Start(t), geminitest.Start(t)
				env := append(audited(api), firestore(emulatorHost(t))...)
				env = append(env, "GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
				reached := api // by the first process
				if dies {
					reached = loggingtest.Start(t)
					reached.Hold()
				}
				first, second := startDoomed(t, append(env, "LOGGING_ENDPOINT="+reached.Addr)...), startLocal(t, env...)
				user := as("one", "X-End-User", "ann")
				asked := time.Now()
				got := first.invoke(t, map[string]any{"query": prompt}, append(user, "X-Request-ID", "lost", "Idempotency-Key", "first")...)
				select {
				case <-reached.Arrived():
				case <-bounded(t).Done():
					t.Fatal("no entry was sent")
				}
				if dies {
					first.end(t, os.Kill)
				} else if code := first.end(t, syscall.SIGTERM); code != 0 {
					t.Errorf("exit code %d", code)
				}
				call(t, second, got.SessionID, append(user, "X-Request-ID", "next"))
				second.end(t, syscall.SIGTERM)

				want := map[string]string{"lost": "session.turn ok", "next": did[name]}
				if did[name] == "" {
					want["next"] = "session.turn ok"
				}
				entries := trail(t, api, first.process, second.process)
				wantTrail(t, entries, want)
				lost := byRequest(t, entries)["lost"]
				if lost.Time.Before(asked) || lost.Time.After(time.Now()) {
					t.Errorf("the entry's time: %v, asked at %v", lost.Time, asked)
				}
				if lost.Payload["tokens"] == nil || lost.Payload["model"] == nil || lost.Payload["turn"] != 1.0 || lost.Payload["session_id"] == nil {
					t.Errorf("the entry of a lost turn: %v", lost.Payload)
				}
			})
		}
	}
}

func TestAuditNames(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("AUDIT_NAMES=", named), func(t *testing.T) {
			t.Parallel()
			api := loggingtest.Start(t)
			var env []string
			if named {
				env = append(env, "AUDIT_NAMES=true")
			}
			s, _ := startGemini(t, audited(api, env...)...)
			const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
			got := s.invoke(t, map[string]any{"query": prompt}, as("one", "X-End-User", "ann", "X-Request-ID", "r1",
				"traceparent", "00-"+trace+"-00f067aa0ba902b7-01")...)
			s.do(t, http.MethodGet, "/sessions", nil, as("two", "X-Request-ID", "r2")...)
			s.end(t, syscall.SIGTERM)
			entries := byRequest(t, trail(t, api, s.process))
			one, two := entries["r1"], entries["r2"]
			if one.Trace != "projects/project-1/traces/"+trace {
				t.Errorf("trace %q", one.Trace)
			}
			principal, endUser := fmt.Sprint(one.Payload["principal"]), fmt.Sprint(one.Payload["end_user"])
			if named {
				if principal != "one" || endUser != "ann" || two.Payload["principal"] != "two" || two.Payload["end_user"] != nil {
					t.Errorf("named: %v, %v", one.Payload, two.Payload)
				}
			} else {
				hash := regexp.MustCompile(`^[A-Za-z0-9_-]{20,64}$`)
				if !hash.MatchString(principal) || !hash.MatchString(endUser) || principal == endUser {
					t.Errorf("hashed: %v", one.Payload)
				}
				if logged := s.summary(t, "r1"); logged["principal"] != principal {
					t.Errorf("the log calls the caller %v, the audit %v", logged["principal"], principal)
				}
			}
			if session := fmt.Sprint(one.Payload["session_id"]); session == got.SessionID || session == "<nil>" {
				t.Errorf("session %q", session)
			}
			for name, want := range map[string]any{"turn": 1.0, "model": "gemini-3.5-flash-lite", "tokens": float64(got.Usage.TotalTokens), "status": 200.0} {
				if one.Payload[name] != want {
					t.Errorf("%s: %v, want %v", name, one.Payload[name], want)
				}
			}
			if cost, _ := one.Payload["cost_usd"].(float64); got.Usage.EstimatedCostUSD == nil || cost != *got.Usage.EstimatedCostUSD {
				t.Errorf("cost %v, want %v", one.Payload["cost_usd"], got.Usage.EstimatedCostUSD)
			}
		})
	}
}
