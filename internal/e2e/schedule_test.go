package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/tasks/taskstest"
)

const (
	serviceURL       = "http://127.0.0.1:8080"
	schedulesAccount = "gatehouse-schedules@p-1.iam.gserviceaccount.com"
)

// A schedule is a job of Cloud Scheduler, whose account stands beside the modes of AUTH.
func TestTwoDeliveriesOfAScheduleAreOneTurn(t *testing.T) {
	t.Parallel()
	stand := taskstest.Start(t)
	s, gemini := startGemini(t, "AUTH=api_key", keys(), "TASKS_ENDPOINT="+stand.Addr, "SERVICE_URL="+serviceURL, "SCHEDULES_ACCOUNT="+schedulesAccount)
	job := func(name, at string, more ...string) []string {
		return append([]string{"X-CloudScheduler-JobName", name, "X-CloudScheduler-ScheduleTime", at}, more...)
	}
	token := func(account, audience string) []string {
		return []string{"Authorization", "Bearer " + stand.Token(account, audience)}
	}
	ask := map[string]any{"query": "What changed?"}
	const monday, tuesday = "2026-11-23T07:00:00Z", "2026-11-24T07:00:00Z"
	deliver := func(headers ...string) answer {
		return s.do(t, http.MethodPost, "/invoke", ask, append(headers, token(schedulesAccount, serviceURL)...)...)
	}

	first := wantFirst(t, deliver(job("gatehouse-run-digest", monday)...))
	wantReplay(t, deliver(job("gatehouse-run-digest", monday)...), first)
	seen := map[string]string{first.SessionID: "the first"}
	for name, headers := range map[string][]string{
		"the next day":           job("gatehouse-run-digest", tuesday),
		"another job":            job("gatehouse-run-sweep", monday),
		"for an end user":        job("gatehouse-run-digest", monday, "X-End-User", "ada"),
		"by a key of its own":    job("gatehouse-run-digest", monday, "Idempotency-Key", "k"),
		"without a time":         {"X-CloudScheduler-JobName", "gatehouse-run-digest"},
		"without a time, again":  {"X-CloudScheduler-JobName", "gatehouse-run-digest"},
		"without either of them": nil,
	} {
		got := wantFirst(t, deliver(headers...))
		if other, known := seen[got.SessionID]; known {
			t.Errorf("%s is the turn of %s", name, other)
		}
		seen[got.SessionID] = name
	}
	asked := len(gemini.Requests())

	// From anybody else the headers mean nothing.
	one := wantFirst(t, s.do(t, http.MethodPost, "/invoke", ask, as("one", job("gatehouse-run-digest", monday)...)...))
	two := wantFirst(t, s.do(t, http.MethodPost, "/invoke", ask, as("one", job("gatehouse-run-digest", monday)...)...))
	if one.SessionID == two.SessionID || one.SessionID == first.SessionID {
		t.Error("another caller's turn has a schedule's key")
	}
	expired := stand.Issuer.Claims(serviceURL, time.Now().Add(-2*time.Hour))
	expired["email"], expired["email_verified"] = schedulesAccount, true
	for _, headers := range map[string][]string{
		"another account": token("app@p-1.iam.gserviceaccount.com", serviceURL),
		"another service": token(schedulesAccount, "http://127.0.0.1:9090"),
		"expired":         {"Authorization", "Bearer " + stand.Issuer.Sign(expired)},
	} {
		wantError(t, s.do(t, http.MethodPost, "/invoke", ask, append(headers, job("gatehouse-run-digest", monday)...)...), http.StatusUnauthorized, "unauthenticated")
	}
	if got := len(gemini.Requests()); got != asked+2 {
		t.Errorf("the model was asked %d times, want %d", got, asked+2)
	}
}
