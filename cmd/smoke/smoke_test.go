package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const apiKey = "the-key-of-the-smoke-test-0123456789"

// A deployed is the real service in this process, as two functions behind what a case
// inserts.
type deployed struct{ invoke, health string }

// deploy serves until t ends. A non-nil broken wraps each function.
func deploy(t *testing.T, broken func(function string, real http.Handler) http.Handler, env ...string) deployed {
	t.Helper()
	variables := map[string]string{
		"ENVIRONMENT": "development", "AUTH": "api_key", "LOG_LEVEL": "error",
		"API_KEYS": fmt.Sprintf(`[{"name": "smoke", "sha256": "%x"}]`, sha256.Sum256([]byte(apiKey))),
	}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	s := server.New(testagent.Options(func(name string) (string, bool) { value, ok := variables[name]; return value, ok }, t.Output()))
	serve := func(function string, handler http.Handler) string {
		if broken != nil {
			handler = broken(function, handler)
		}
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	d := deployed{serve("invoke", s.Invoke), serve("health", s.Health)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutting down: %v", err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return d
}

// smoke runs the command and returns its table.
func smoke(t *testing.T, d deployed, key string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"-invoke", d.invoke, "-health", d.health}, args...), func(name string) string {
		return map[string]string{"GATEHOUSE_API_KEY": key}[name]
	}, &out)
	if strings.Contains(out.String(), apiKey) {
		t.Errorf("the key shows:\n%s", out.String())
	}
	return out.String(), err
}

func TestTheServicePasses(t *testing.T) {
	table, err := smoke(t, deploy(t, nil), apiKey)
	if err != nil || !strings.Contains(table, "13 checks passed") || strings.Contains(table, "--") {
		t.Errorf("%v\n%s", err, table)
	}
}

// on changes the response of one route of a function.
func on(function, path string, change func(w http.ResponseWriter, r *http.Request, real http.Handler)) func(string, http.Handler) http.Handler {
	return func(name string, real http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name == function && strings.HasPrefix(r.URL.Path, path) {
				change(w, r, real)
				return
			}
			real.ServeHTTP(w, r)
		})
	}
}

// replaced replaces text in the real response.
func replaced(old, with string) func(http.ResponseWriter, *http.Request, http.Handler) {
	pattern := regexp.MustCompile(old)
	return func(w http.ResponseWriter, r *http.Request, real http.Handler) {
		recorded := httptest.NewRecorder()
		real.ServeHTTP(recorded, r)
		body := pattern.ReplaceAllString(recorded.Body.String(), with)
		for name, values := range recorded.Header() {
			w.Header()[name] = values
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(recorded.Code)
		_, _ = w.Write([]byte(body))
	}
}

func status(code int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(code) }
}

func TestBrokenDeploymentsFail(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken func(string, http.Handler) http.Handler
		env    []string
		fails  string // the check that must fail
	}{
		{"everything is away", func(string, http.Handler) http.Handler { return http.NotFoundHandler() }, nil, "it serves"},
		{"set up wrongly", nil, []string{"REQUEST_TIMEOUT=never"}, "it is set up"},
		{"unhealthy", on("health", "/health", replaced(`"status": ?"healthy"`, `"status":"unhealthy"`)), nil, "its health"},
		{"health answers something else", on("health", "/health", replaced(`(?s).*`, `hello`)), nil, "its health"},
		{"health is down", on("health", "/health", status(http.StatusServiceUnavailable)), nil, "its health"},
		{"the agent fails", on("invoke", "/invoke", status(http.StatusInternalServerError)), nil, "a turn"},
		{"the answer is empty", on("invoke", "/invoke", replaced(`"response": ?"(\\"|[^"])*"`, `"response":" "`)), nil, "a turn"},
		{"turns are not saved", on("invoke", "/invoke", replaced(`"warnings": ?\[\]`, `"warnings":["session_not_saved"]`)), nil, "a turn"},
		{"sessions are forgotten", on("invoke", "/invoke", replaced(`"turn": ?2`, `"turn":1`)), nil, "a stream, on the same session"},
		{"streams are cut off", on("invoke", "/invoke", replaced(`event: done`, `: gone`)), nil, "a stream, on the same session"},
		{"streams end with an error", on("invoke", "/invoke", replaced(`event: done`, `event: error`)), nil, "a stream, on the same session"},
		{"streams lose text", on("invoke", "/invoke", replaced(`event: delta\n(id: .*\n)?data: .*\n`, ``)), nil, "a stream, on the same session"},
		{"retries make a turn each", on("invoke", "/invoke", func(w http.ResponseWriter, r *http.Request, real http.Handler) {
			r.Header.Del("Idempotency-Key")
			real.ServeHTTP(w, r)
		}), nil, "a repeated call with an idempotency key"},
		{"anybody may call", nil, []string{"AUTH=none"}, "refused: no credential"},
		{"any key will do", on("invoke", "/invoke", func(w http.ResponseWriter, r *http.Request, real http.Handler) {
			if r.Header.Get("X-Api-Key") != "" {
				r.Header.Set("X-Api-Key", apiKey)
			}
			real.ServeHTTP(w, r)
		}), nil, "refused: a credential that does not verify"},
		{"bodies are not checked", on("invoke", "/invoke", replaced(`"malformed_request"`, `"internal"`)), nil, "refused: a body that is no JSON"},
		{"any session is found", on("invoke", "/sessions/", status(http.StatusOK)), nil, "refused: a session that is nobody's"},
		{"any page may call", on("invoke", "/invoke", func(w http.ResponseWriter, r *http.Request, real http.Handler) {
			r.Header.Del("Origin")
			real.ServeHTTP(w, r)
		}), nil, "refused: a page from elsewhere"},
		{"nothing is deleted", on("invoke", "/sessions/", func(w http.ResponseWriter, r *http.Request, real http.Handler) {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			real.ServeHTTP(w, r)
		}), nil, "deletion of what was made"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := smoke(t, deploy(t, c.broken, c.env...), apiKey)
			if !errors.Is(err, errChecksFailed) {
				t.Errorf("error %v", err)
			}
			if !regexp.MustCompile(`(?m)^FAIL +` + regexp.QuoteMeta(c.fails)).MatchString(table) {
				t.Errorf("%q does not fail:\n%s", c.fails, table)
			}
		})
	}
}

func TestItIsBounded(t *testing.T) {
	begun := time.Now()
	hanging := func(_ string, _ http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}
	table, err := smoke(t, deploy(t, hanging), apiKey, "-timeout", "300ms")
	if !errors.Is(err, errChecksFailed) || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %v\n%s", err, time.Since(begun), table)
	}
}

func TestAnAnswerWithoutEndIsBounded(t *testing.T) {
	endless := on("invoke", "/invoke", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("event: delta\ndata: {\"text\": \"x\"}\n\n"), 1000)); err != nil {
				return
			}
		}
	})
	d := deployment{client: newClient(), apiKey: apiKey, invoke: function{base: deploy(t, endless).invoke}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := d.open(ctx, "{}"); err == nil || ctx.Err() != nil {
		t.Errorf("error %v, %v", err, ctx.Err())
	}
	d.client.CloseIdleConnections()
}

// TestTokens uses a stand-in for gcloud that prints the token.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$@\" >>" + calls + "\necho not-a-key\n"
	if err := os.WriteFile(filepath.Join(dir, "gcloud"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var got []string
	seen := on("invoke", "/health/live", func(w http.ResponseWriter, r *http.Request, real http.Handler) {
		got = append(got, r.Header.Get("Authorization"))
		real.ServeHTTP(w, r)
	})
	d := deploy(t, seen)
	if _, err := smoke(t, d, "", "-impersonate", "smoke@p.iam.gserviceaccount.com"); err == nil {
		t.Error("a service that takes API keys alone takes a token")
	}
	if len(got) != 1 || got[0] != "Bearer not-a-key" {
		t.Errorf("Authorization %q", got)
	}
	said, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	want := "auth print-identity-token --quiet --impersonate-service-account=smoke@p.iam.gserviceaccount.com --audiences=" + d.invoke + " --include-email\n"
	if !strings.Contains(string(said), want) {
		t.Errorf("gcloud was called with\n%s, want\n%s", said, want)
	}
}

// TestAKeyAndAnAccount checks a deployment whose invoke takes keys while Cloud Run
// protects health.
func TestAKeyAndAnAccount(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	if err := os.WriteFile(filepath.Join(dir, "gcloud"), []byte("#!/bin/sh\necho \"$@\" >>"+calls+"\necho identity-token\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	d := deploy(t, func(function string, real http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case function == "invoke":
			case r.Header.Get("Authorization") != "Bearer identity-token" || r.Header.Get("X-Api-Key") != "":
				w.WriteHeader(http.StatusForbidden) // as Cloud Run does
				return
			default:
				r.Header.Del("Authorization") // Cloud Run has already verified it
				r.Header.Set("X-Api-Key", apiKey)
			}
			real.ServeHTTP(w, r)
		})
	})
	if table, err := smoke(t, d, apiKey, "-impersonate", "smoke@p.iam.gserviceaccount.com"); err != nil {
		t.Errorf("%v\n%s", err, table)
	}
	if table, err := smoke(t, d, apiKey); err == nil {
		t.Errorf("health opens to a key alone:\n%s", table)
	}
	said, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if want := "auth print-identity-token --quiet --impersonate-service-account=smoke@p.iam.gserviceaccount.com --audiences=" + d.health + " --include-email\n"; string(said) != want {
		t.Errorf("gcloud was called with\n%s, want\n%s", said, want)
	}
}

func TestAudienceIsTheServicesOwn(t *testing.T) {
	for address, want := range map[string]string{
		"https://c0ffee---invoke-abc-uc.a.run.app":   "https://invoke-abc-uc.a.run.app",
		"https://invoke-123.us-central1.run.app/any": "https://invoke-123.us-central1.run.app",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := audience(u); got != want {
			t.Errorf("audience(%s) = %s, want %s", address, got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"nothing":     {},
		"no URL":      {"-invoke", "invoke", "-health", "health"},
		"one missing": {"-invoke", "https://invoke.example"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), args, func(string) string { return "" }, &bytes.Buffer{})
			if err == nil || errors.Is(err, flag.ErrHelp) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A refusal by Cloud Run is not the service's fault and may be temporary, so the
// deployment distinguishes it.
func TestACallerThatCloudRunDoesNotLetIn(t *testing.T) {
	for code, id := range map[int]string{http.StatusForbidden: "", http.StatusUnauthorized: "", http.StatusTeapot: "", http.StatusNotFound: "request-1"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if id != "" {
				w.Header().Set("X-Request-ID", id)
			}
			w.WriteHeader(code)
		}))
		env := func(name string) string { return map[string]string{"GATEHOUSE_TOKEN": "token"}[name] }
		var out strings.Builder
		err := run(t.Context(), []string{"-invoke", server.URL, "-health", server.URL}, env, &out)
		server.Close()
		if notLetIn := code == http.StatusForbidden || code == http.StatusUnauthorized; !errors.Is(err, errChecksFailed) || errors.Is(err, errNotLetIn) != notLetIn {
			t.Errorf("%d: %v\n%s", code, err, out.String())
		}
	}
}
