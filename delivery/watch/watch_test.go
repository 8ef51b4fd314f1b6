package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/delivery/internal/monitoringtest"
)

func TestJudge(t *testing.T) {
	old := figures{requests: 1000, refused: 100, failed: 10, p95: 3000}
	cases := []struct {
		name     string
		old, new figures
		want     verdict
	}{
		{"the same", old, figures{requests: 100, refused: 10, failed: 1, p95: 3100}, good},
		{"nothing came", old, figures{}, tooFew},
		{"a few came, and one failed", old, figures{requests: 10, failed: 1}, tooFew},
		{"a few came, and all failed", old, figures{requests: 4, failed: 4}, harm},
		{"two of two failed, which chance may do", old, figures{requests: 2, failed: 2}, tooFew},
		{"a few fail, on both alike", figures{requests: 1000, failed: 600}, figures{requests: 20, failed: 11}, tooFew},
		{"fails a little more", old, figures{requests: 1000, failed: 29, p95: 3000}, good},
		{"fails clearly more", old, figures{requests: 1000, failed: 31, p95: 3000}, harm},
		{"fails as much as an old one that is in trouble", figures{requests: 1000, failed: 400}, figures{requests: 100, failed: 41}, good},
		{"two failures are chance", figures{requests: 1000}, figures{requests: 50, failed: 2}, good},
		{"refuses what the old one does not", old, figures{requests: 100, refused: 31, p95: 3000}, harm},
		{"both are sent nonsense", figures{requests: 1000, refused: 900}, figures{requests: 100, refused: 95}, good},
		{"slower by half", old, figures{requests: 100, p95: 4600}, harm},
		{"slower by half of very little", figures{requests: 1000, p95: 200}, figures{requests: 100, p95: 600}, good},
		{"the old one has nothing to compare with", figures{}, figures{requests: 100, p95: 9000}, good},
		{"the old one has nothing, and the new one fails", figures{}, figures{requests: 100, failed: 5}, harm},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, why := judge(c.old, c.new); got != c.want {
				t.Errorf("judge = %d (%s), want %d", got, why, c.want)
			}
		})
	}
}

// watchFor runs the command against an endpoint.
func watchFor(t *testing.T, ctx context.Context, endpoint string, args ...string) (int, string, error) {
	t.Helper()
	var out bytes.Buffer
	env := map[string]string{"MONITORING_TOKEN": "token", "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": endpoint + "/"}
	code, err := run(ctx, append([]string{"-project", "p", "-region", "us-central1", "-old", "invoke-1", "-new", "invoke-2"}, args...),
		func(name string) string { return env[name] }, &out)
	return code, out.String(), err
}

func TestWatch(t *testing.T) {
	healthy := map[string]monitoringtest.Figures{"invoke-1": {OK: 900, P95: 2000}, "invoke-2": {OK: 100, P95: 2100}}
	cases := []struct {
		name    string
		figures map[string]monitoringtest.Figures
		status  int // of Cloud Monitoring
		args    []string
		want    verdict
	}{
		{"as good as the old one", healthy, http.StatusOK, []string{"-for", "0s"}, good},
		{"no figures yet", map[string]monitoringtest.Figures{}, http.StatusOK, []string{"-for", "0s"}, tooFew},
		{"requests, but no latency", map[string]monitoringtest.Figures{"invoke-1": {OK: 900}, "invoke-2": {OK: 100}}, http.StatusOK, []string{"-for", "0s"}, good},
		{"harm ends it at once", map[string]monitoringtest.Figures{"invoke-1": {OK: 900}, "invoke-2": {OK: 50, Failed: 50}}, http.StatusOK, []string{"-for", "1h", "-every", "1ms"}, harm},
		{"slow is harm too", map[string]monitoringtest.Figures{"invoke-1": {OK: 900, P95: 2000}, "invoke-2": {OK: 100, P95: 8000}}, http.StatusOK, []string{"-for", "0s"}, harm},
		{"it may not read them", healthy, http.StatusForbidden, []string{"-for", "20ms", "-every", "5ms"}, unread},
		{"they are away", healthy, http.StatusServiceUnavailable, []string{"-for", "0s"}, unread},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			server := monitoringtest.New(t, func(revision string) (monitoringtest.Figures, bool) {
				f, ok := c.figures[revision]
				return f, ok
			})
			server.Answer(c.status)
			code, out, err := watchFor(t, t.Context(), server.URL, c.args...)
			if err != nil || code != int(c.want) {
				t.Errorf("exit %d, %v, want %d; it said:\n%s", code, err, c.want, out)
			}
			if server.Asked() == 0 {
				t.Error("nobody was asked")
			}
			if strings.Contains(out, "token") {
				t.Errorf("the token shows:\n%s", out)
			}
		})
	}
}

func TestFiguresThatComeBackCount(t *testing.T) {
	server := monitoringtest.New(t, func(revision string) (monitoringtest.Figures, bool) {
		return monitoringtest.Figures{OK: 500, P95: 100}, true
	})
	server.Answer(http.StatusServiceUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for server.Asked() < 2 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		server.Answer(http.StatusOK)
	}()
	code, out, err := watchFor(t, ctx, server.URL, "-for", "500ms", "-every", "10ms")
	if err != nil || code != int(good) {
		t.Errorf("exit %d, %v; it said:\n%s", code, err, out)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"not JSON":               "<html>",
		"an error with 200":      `{"status": "error", "error": "bad"}`,
		"no data":                `{"status": "success"}`,
		"numbers that are words": `{"status": "success", "data": {"result": [{"metric": {}, "value": [1, "many"]}]}}`,
		"no numbers":             `{"status": "success", "data": {"result": [{"metric": {}, "value": [1, null]}]}}`,
		"endless":                `{"status": "` + strings.Repeat("x", maxAnswer+1) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
			defer server.Close()
			if code, out, err := watchFor(t, t.Context(), server.URL, "-for", "0s"); err != nil || code != int(unread) {
				t.Errorf("exit %d, %v; it said:\n%s", code, err, out)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	server := monitoringtest.New(t, func(string) (monitoringtest.Figures, bool) { return monitoringtest.Figures{}, true })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if code, _, err := watchFor(t, ctx, server.URL, "-for", "1h"); code != exitFailed || err == nil {
		t.Errorf("exit %d, %v", code, err)
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no project":         {"-old", "a", "-new", "b", "-region", "r"},
		"a name with quotes": {"-project", "p", "-region", "r", "-old", `a"} or vector(1`, "-new", "b"},
		"an unknown flag":    {"-what"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _ := run(t.Context(), args, func(string) string { return "" }, &bytes.Buffer{}); code != exitUsage {
				t.Errorf("exit %d, want %d", code, exitUsage)
			}
		})
	}
}
