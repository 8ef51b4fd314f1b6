package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/internal/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start makes a service of an environment given as "NAME=value", which is shut
// down at the test's end.
func start(t testing.TB, pairs ...string) (*server.Server, *testlog.Buffer) {
	t.Helper()
	env := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	out := &testlog.Buffer{}
	s := server.New(testagent.Options(func(name string) (string, bool) { value, ok := env[name]; return value, ok }, out))
	t.Cleanup(func() {
		if err := s.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("shutting down: %v", err)
		}
	})
	return s, out
}

type answer struct {
	status  int
	header  http.Header
	text    string
	Success bool            `json:"success"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
	Details []struct {
		Field string `json:"field"`
		Issue string `json:"issue"`
	} `json:"details"`
}

// fields are the variables that an answer names.
func (a answer) fields() []string {
	var fields []string
	for _, d := range a.Details {
		fields = append(fields, d.Field)
	}
	slices.Sort(fields)
	return fields
}

// call asks h; a POST carries a question.
func call(t testing.TB, h http.Handler, method, path string, headers ...string) answer {
	t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(`{"query":"How are you?"}`)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, body)
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), text: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s %s: %q: %v", method, path, w.Body, err)
	}
	return a
}

// want fails the test unless a is the error named code, or a success for "".
func (a answer) want(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.Error != code {
		t.Errorf("%d %s, want %d %s", a.status, a.text, status, code)
	}
}

func TestDevelopmentWorksOutOfTheBox(t *testing.T) {
	s, _ := start(t)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, h := range []http.Handler{s.Both, s.Invoke} {
		call(t, h, "POST", "/invoke").want(t, 200, "")
		call(t, h, "GET", "/sessions").want(t, 200, "")
		call(t, h, "GET", "/health/live").want(t, 200, "")
		call(t, h, "GET", "/health/ready").want(t, 200, "")
		if a := call(t, h, "GET", "/"); !strings.Contains(a.text, `"/invoke"`) {
			t.Errorf("GET / does not list what there is: %s", a.text)
		}
	}
	for path, h := range map[string]http.Handler{"/": s.Health, "/health": s.Health} {
		a := call(t, h, "GET", path)
		a.want(t, 200, "")
		if !strings.Contains(a.text, `"session_store":{"status":"healthy"`) {
			t.Errorf("GET %s: %s", path, a.text)
		}
	}
	call(t, s.Both, "GET", "/health").want(t, 200, "")
	call(t, s.Health, "POST", "/invoke").want(t, 404, "not_found")
	call(t, s.Invoke, "GET", "/health").want(t, 404, "not_found")
}

// A separate handler answers the liveness probe until the service is set up. Its answers are
// the same as those that follow.
func TestLivenessBeforeTheServiceIsSetUp(t *testing.T) {
	s, _ := start(t)
	answers := func() []string {
		var all []string
		for _, h := range []http.Handler{s.Invoke, s.Health, s.Both} {
			for _, host := range []string{"localhost", "rebound.example"} {
				for _, method := range []string{"GET", "HEAD", "POST"} {
					r := httptest.NewRequestWithContext(t.Context(), method, "/health/live", nil)
					r.Host = host
					r.Header.Set("X-Request-ID", "probe")
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					text, _, _ := strings.Cut(w.Body.String(), `"timestamp"`)
					all = append(all, fmt.Sprint(w.Code, w.Header()["Allow"], text))
				}
			}
		}
		return all
	}
	before := answers()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, answers()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if !strings.HasPrefix(before[0], "200 ") || !strings.HasPrefix(before[2], "405 ") || !strings.HasPrefix(before[len(before)-1], "403 ") {
		t.Errorf("%q", before)
	}
}

func TestAServiceThatIsSetUpWrongly(t *testing.T) {
	const secret = "hunter2-that-nobody-may-see"
	s, out := start(t, "REQUEST_TIMEOUT=30", "AUTH=none,basic", "API_KEYS="+secret, "GEMINI_API_KEY="+secret, "API_KEYS_SECRET="+secret)
	if err := s.Ready(t.Context()); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("Ready says %v", err)
	}
	atFault := []string{"API_KEYS", "API_KEYS_SECRET", "AUTH", "REQUEST_TIMEOUT"}
	for name, h := range map[string]http.Handler{"invoke": s.Invoke, "health": s.Health, "local": s.Both} {
		call(t, h, "GET", "/health/live").want(t, 200, "")
		a := call(t, h, "GET", "/health/ready")
		a.want(t, 503, "not_ready")
		if diff := cmp.Diff(a.fields(), atFault); diff != "" {
			t.Errorf("%s: /health/ready names (-got +want):\n%s", name, diff)
		}
		if a.header.Get("Retry-After") == "" || strings.Contains(a.text, "basic") || strings.Contains(a.text, secret) {
			t.Errorf("%s: /health/ready: Retry-After %q, %s", name, a.header.Get("Retry-After"), a.text)
		}
		call(t, h, "GET", "/nothing").want(t, 404, "not_found")
	}
	for _, h := range []http.Handler{s.Invoke, s.Both} {
		for _, route := range []string{"POST /invoke", "POST /", "GET /sessions", "DELETE /sessions", "GET /sessions/0123456789abcdef", "GET /",
			"POST /chat", "GET /chat/0123456789abcdef/stream", "GET /openapi.json", "GET /docs", "GET /docs/page.js"} {
			method, path, _ := strings.Cut(route, " ")
			t.Run(route, func(t *testing.T) { call(t, h, method, path, "Accept", "application/json").want(t, 503, "not_ready") })
		}
	}
	call(t, s.Health, "GET", "/health").want(t, 503, "unhealthy")
	call(t, s.Health, "GET", "/").want(t, 503, "unhealthy")
	call(t, s.Both, "GET", "/health").want(t, 503, "unhealthy")
	if n := strings.Count(out.String(), `"severity":"CRITICAL"`); n != 1 {
		t.Errorf("%d critical lines, want 1", n)
	}
	for _, variable := range atFault {
		if !strings.Contains(out.String(), variable) {
			t.Errorf("the log does not name %s", variable)
		}
	}
	if strings.Contains(out.String(), secret) {
		t.Errorf("the log holds a secret: %s", out)
	}
}

// The names of the secrets in the stand-in.
const (
	keysName    = "projects/p/secrets/keys/versions/latest"
	originsName = "projects/p/secrets/origins/versions/latest"
	geminiName  = "projects/p/secrets/gemini/versions/latest"
)

// entry is API_KEYS of the one key.
func entry(key string) string {
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf(`[{"name":"backend","sha256":%q}]`, hex.EncodeToString(sum[:]))
}

// byKey is the environment of a service whose API keys are a secret.
func byKey(manager *secrettest.Server) []string {
	return []string{"AUTH=api_key", "API_KEYS_SECRET=" + keysName, "SECRET_MANAGER_ENDPOINT=" + manager.Addr}
}

func TestAPIKeysFromSecretManager(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(keysName, entry("the-key"))
	s, out := start(t, byKey(manager)...)
	call(t, s.Invoke, "POST", "/invoke", "X-API-Key", "the-key").want(t, 200, "")
	call(t, s.Invoke, "POST", "/invoke", "X-API-Key", "another").want(t, 401, "unauthenticated")
	a := call(t, s.Invoke, "POST", "/invoke")
	a.want(t, 401, "unauthenticated")
	if got := a.header.Get("WWW-Authenticate"); got != `ApiKey realm="gatehouse"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
	if n := manager.Calls(keysName); n != 1 {
		t.Errorf("the secret was read %d times for three requests", n)
	}
	if strings.Contains(out.String(), "the-key") || strings.Contains(out.String(), "sha256") {
		t.Errorf("the log holds a key: %s", out)
	}
}

func TestTheModelsKeyFromSecretManager(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(geminiName, " the-model-key\n")
	var mu sync.Mutex
	var keys []string
	gemini := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		keys = append(keys, r.Header.Get("X-Goog-Api-Key"))
		mu.Unlock()
		_, _ = io.WriteString(w, `{"candidates":[{"content":{"role":"model","parts":[{"text":"Fine."}]},"finishReason":"STOP"}]}`)
	}))
	defer gemini.Close()
	s, out := start(t, "GEMINI_API_KEY_SECRET="+geminiName, "SECRET_MANAGER_ENDPOINT="+manager.Addr, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
	if a := call(t, s.Invoke, "POST", "/invoke"); a.status != 200 || !strings.Contains(a.text, "Fine.") {
		t.Errorf("%d %s", a.status, a.text)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(keys, []string{"the-model-key"}); diff != "" || strings.Contains(out.String(), "the-model-key") {
		t.Errorf("(-got +want):\n%s\n%s", diff, out)
	}
}

// until calls f now and again until it is true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(10 * time.Second)
	defer end.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestWhatCannotBeFetchedIsTriedAgain(t *testing.T) {
	tests := []struct {
		name  string
		first func(*secrettest.Server)
	}{
		{"no permission", func(m *secrettest.Server) { m.Fail(keysName, codes.PermissionDenied) }},
		{"no such secret", func(*secrettest.Server) {}},
		{"a wrong checksum", func(m *secrettest.Server) { m.Set(keysName, entry("the-key")); m.Corrupt(keysName) }},
		{"not the form of keys", func(m *secrettest.Server) { m.Set(keysName, "hunter2-that-nobody-may-see") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			manager := secrettest.Start(t)
			tt.first(manager)
			s, out := start(t, byKey(manager)...)
			a := call(t, s.Invoke, "GET", "/health/ready")
			a.want(t, 503, "not_ready")
			if diff := cmp.Diff(a.fields(), []string{"API_KEYS_SECRET"}); diff != "" {
				t.Errorf("/health/ready names (-got +want):\n%s", diff)
			}
			for _, upstream := range []string{"secrettest", "projects/", "hunter2", manager.Addr} {
				if strings.Contains(a.text, upstream) {
					t.Errorf("the answer holds %q: %s", upstream, a.text)
				}
			}
			call(t, s.Invoke, "POST", "/invoke", "X-API-Key", "the-key").want(t, 503, "not_ready")
			call(t, s.Health, "GET", "/health").want(t, 503, "unhealthy")
			call(t, s.Invoke, "GET", "/health/live").want(t, 200, "")
			if err := s.Ready(t.Context()); err == nil {
				t.Error("Ready says that it is")
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Errorf("the log holds the secret: %s", out)
			}

			// It is mended, and the service comes up without a restart.
			manager.Set(keysName, entry("the-key"))
			until(t, "ready", func() bool { return call(t, s.Invoke, "GET", "/health/ready").status == 200 })
			call(t, s.Invoke, "POST", "/invoke", "X-API-Key", "the-key").want(t, 200, "")
			call(t, s.Health, "GET", "/health").want(t, 200, "")
			if err := s.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEverySecretThatCannotBeFetchedIsNamed(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(geminiName, "k")
	s, _ := start(t, append(byKey(manager), "ALLOWED_ORIGINS_SECRET="+originsName, "GEMINI_API_KEY_SECRET="+geminiName)...)
	a := call(t, s.Invoke, "GET", "/health/ready")
	a.want(t, 503, "not_ready")
	if diff := cmp.Diff(a.fields(), []string{"ALLOWED_ORIGINS_SECRET", "API_KEYS_SECRET"}); diff != "" {
		t.Errorf("/health/ready names (-got +want):\n%s", diff)
	}
}

// A storm of requests on a service that cannot come up is no storm on what it
// waits for: the attempts are some time apart, and ever more.
func TestTheAttemptsAreSomeTimeApart(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Fail(keysName, codes.PermissionDenied)
	s, _ := start(t, byKey(manager)...)
	begin := time.Now()
	for range 500 {
		call(t, s.Invoke, "GET", "/health/ready").want(t, 503, "not_ready")
	}
	// The first waits are 200, 400 and 800 ms.
	most := 1 + int(time.Since(begin)/(200*time.Millisecond))
	if n := manager.Calls(keysName); n > most {
		t.Errorf("%d attempts in %v, want at most %d", n, time.Since(begin), most)
	}
}

// panicking is a log whose first writers of a line panic, as a part of the service
// that fails while it is set up.
type panicking struct {
	testlog.Buffer
	line  string
	times int
}

func (p *panicking) Write(b []byte) (int, error) {
	if p.times > 0 && bytes.Contains(b, []byte(p.line)) {
		p.times--
		panic("a part of the service")
	}
	return p.Buffer.Write(b)
}

func TestAPanicWhileItIsSetUp(t *testing.T) {
	t.Parallel()
	out := &panicking{line: "Sessions are kept in memory", times: 1}
	s := server.New(testagent.Options(func(name string) (string, bool) { return "", false }, out))
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	get := func() (int, string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/health/ready", nil)
		s.Both.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if status, body := get(); status != http.StatusServiceUnavailable || !strings.Contains(body, `"error":"not_ready"`) {
		t.Errorf("the request that met it: %d %s", status, body)
	}
	if got := out.String(); !strings.Contains(got, "could not be set up") || !strings.Contains(got, "panic: a part of the service") {
		t.Errorf("the log: %s", got)
	}
	if status, _ := get(); status != http.StatusServiceUnavailable || strings.Count(out.String(), "could not be set up") != 1 {
		t.Errorf("a request right after it: %d, %s", status, out.String())
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if status, body := get(); status == http.StatusOK {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("it never stands: %d %s", status, body)
		}
	}
}

func TestTheFirstRequestsBuildOneService(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(keysName, entry("the-key"))
	manager.Delay(50 * time.Millisecond)
	s, _ := start(t, byKey(manager)...)
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() { call(t, s.Invoke, "GET", "/sessions", "X-API-Key", "the-key").want(t, 200, "") })
	}
	callers.Wait()
	if n := manager.Calls(keysName); n != 1 {
		t.Errorf("the secret was read %d times", n)
	}
}

func TestSecretsAreFetchedSideBySide(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(keysName, entry("the-key"))
	manager.Set(originsName, "https://a.example")
	manager.Set(geminiName, "k")
	manager.Delay(50 * time.Millisecond)
	s, _ := start(t, append(byKey(manager), "ALLOWED_ORIGINS_SECRET="+originsName, "GEMINI_API_KEY_SECRET="+geminiName)...)
	call(t, s.Invoke, "GET", "/health/ready").want(t, 200, "")
	if n := manager.Peak(); n != 3 {
		t.Errorf("%d at once, want 3", n)
	}
}

func TestLivenessWaitsForNothing(t *testing.T) {
	manager := secrettest.Start(t)
	s, _ := start(t, byKey(manager)...)
	call(t, s.Invoke, "GET", "/health/live").want(t, 200, "")
	if n := manager.Calls(""); n != 0 {
		t.Errorf("the liveness probe reads secrets: %d", n)
	}
	call(t, s.Invoke, "GET", "/health/ready").want(t, 503, "not_ready")
	if n := manager.Calls(""); n != 1 {
		t.Errorf("the startup probe reads secrets %d times, want once", n)
	}
}

func TestDetailsOfHealthAreForOperators(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(keysName, entry("the-key"))
	tests := []struct {
		name    string
		pairs   []string
		key     string
		details bool
	}{
		{"nobody", nil, "", false},
		{"any key, where no operator is named", nil, "the-key", true},
		{"an operator", []string{"OPERATORS=account:ops@example.com,key:backend"}, "the-key", true},
		{"a key that is none", []string{"OPERATORS=account:ops@example.com"}, "the-key", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := start(t, append(byKey(manager), tt.pairs...)...)
			var headers []string
			if tt.key != "" {
				headers = []string{"X-API-Key", tt.key}
			}
			a := call(t, s.Health, "GET", "/health", headers...)
			a.want(t, 200, "")
			if got := strings.Contains(a.text, "dependencies"); got != tt.details {
				t.Errorf("details %t, want %t: %s", got, tt.details, a.text)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	s, _ := start(t)
	call(t, s.Invoke, "POST", "/invoke").want(t, 200, "")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	call(t, s.Invoke, "POST", "/invoke").want(t, 503, "shutting_down")
	call(t, s.Health, "GET", "/health").want(t, 503, "shutting_down")
	call(t, s.Invoke, "GET", "/health/live").want(t, 200, "")
}

func TestShutdownOfAServiceThatNeverStood(t *testing.T) {
	s, _ := start(t)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	call(t, s.Invoke, "GET", "/sessions").want(t, 503, "shutting_down")
}

// Whoever may call the service, anybody may read what it answers.
func TestTheDocumentOnCloudRun(t *testing.T) {
	deployed := []string{"K_SERVICE=invoke", "ENVIRONMENT=test", "SESSION_STORE=firestore", "FIRESTORE_EMULATOR_HOST=127.0.0.1:1", "GOOGLE_CLOUD_PROJECT=p", "GEMINI_API_KEY=k",
		"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none"} // else the metadata server is asked
	key := `API_KEYS=[{"name":"a","sha256":"` + strings.Repeat("a", 64) + `"}]`
	tests := []struct {
		name string
		env  []string
		ways []string // to say who calls
	}{
		{"Cloud Run's check", []string{"AUTH=iam", "IAM_ENFORCED=true"}, []string{"iam", "iamServerless"}},
		{"tokens of an issuer", []string{"AUTH=oidc", "OIDC_ISSUERS=https://issuer.example.com|app"}, []string{"oidc"}},
		{"Identity-Aware Proxy", []string{"AUTH=oidc", "OIDC_ISSUERS=https://cloud.google.com/iap|/projects/1/global/backendServices/2"}, []string{"iap"}},
		{"keys", []string{"AUTH=api_key", key}, []string{"apiKey"}},
		{"all of them", []string{"AUTH=iam,oidc,api_key", key, "IAM_ENFORCED=true", "OIDC_ISSUERS=https://issuer.example.com|app"}, []string{"apiKey", "iam", "iamServerless", "oidc"}},
		{"nothing", []string{"AUTH=none"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each waits for its figures, which no Firestore takes
			s, _ := start(t, slices.Concat(deployed, tt.env)...)
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			document := call(t, s.Invoke, "GET", "/openapi.json", "Accept", "text/html")
			for path, media := range map[string]string{
				"/docs": "text/html; charset=utf-8", "/docs/page.js": "text/javascript; charset=utf-8", "/docs/swagger-ui.css": "text/css; charset=utf-8",
			} {
				r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
				r.Header.Set("Accept", "text/html,*/*;q=0.8")
				w := httptest.NewRecorder()
				s.Invoke.ServeHTTP(w, r)
				if w.Code != 200 || w.Header().Get("Content-Type") != media {
					t.Errorf("%s: %d %v", path, w.Code, w.Header())
				}
			}
			var d struct {
				Components struct {
					SecuritySchemes map[string]any `json:"securitySchemes"`
				} `json:"components"`
				Paths map[string]any `json:"paths"`
			}
			if err := json.Unmarshal([]byte(document.text), &d); err != nil || document.status != 200 {
				t.Fatalf("status %d: %v", document.status, err)
			}
			if ways := slices.Sorted(maps.Keys(d.Components.SecuritySchemes)); !slices.Equal(ways, tt.ways) {
				t.Errorf("the document names %q, want %q", ways, tt.ways)
			}
			if d.Paths["/chat"] == nil || d.Paths["/health"] != nil { // the latter is the other function's
				t.Errorf("the document's paths are %q", slices.Sorted(maps.Keys(d.Paths)))
			}
			call(t, s.Health, "GET", "/openapi.json").want(t, 404, "not_found")
		})
	}
}

func TestPlayground(t *testing.T) {
	onCloudRun := func(more ...string) []string {
		return append([]string{"K_SERVICE=invoke", "IAM_ENFORCED=true", "SESSION_STORE=firestore", "FIRESTORE_EMULATOR_HOST=127.0.0.1:1", "GOOGLE_CLOUD_PROJECT=p", "GEMINI_API_KEY=k",
			"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none"}, more...)
	}
	tests := []struct {
		name string
		env  []string
		on   bool
	}{
		{"in development", nil, true},
		{"switched off", []string{"PLAYGROUND=false"}, false},
		{"elsewhere", []string{"ENVIRONMENT=test", "AUTH=none"}, true},
		{"on Cloud Run", onCloudRun(), false},
		{"on Cloud Run, switched on", onCloudRun("PLAYGROUND=true"), true},
		{"with keys asked for", []string{"AUTH=api_key", `API_KEYS=[{"name":"a","sha256":"` + strings.Repeat("a", 64) + `"}]`}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := start(t, tt.env...)
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, h := range []http.Handler{s.Both, s.Invoke} {
				for _, path := range []string{"/", "/playground/app.js"} {
					r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
					r.Host = "localhost"
					r.Header.Set("Accept", "text/html,*/*;q=0.8")
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					if on := w.Header().Get("Content-Security-Policy") != ""; on != tt.on {
						t.Errorf("GET %s: %d %v", path, w.Code, w.Header())
					}
				}
				a := call(t, h, "GET", "/")
				a.want(t, 200, "")
				if strings.Contains(a.text, "/playground") {
					t.Errorf("the description lists the page's files: %s", a.text)
				}
			}
		})
	}
	t.Run("set up wrongly", func(t *testing.T) {
		s, _ := start(t, "SESSION_TTL=never")
		call(t, s.Invoke, "GET", "/", "Accept", "text/html").want(t, 503, "not_ready")
	})
}

// A server is one part of somebody's program: only a program that is one passes it the
// globals of the process.
func TestGlobals(t *testing.T) {
	logger, handler := slog.Default(), otel.GetErrorHandler()
	t.Cleanup(func() {
		otel.SetErrorHandler(handler)
		slog.SetDefault(logger)
		log.SetOutput(os.Stderr)
	})
	var own []error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { own = append(own, err) }))
	s, out := start(t, "OTEL_TRACES_EXPORTER=console", "OTEL_METRICS_EXPORTER=prometheus")
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	otel.Handle(errors.New("the program's"))
	if len(own) != 1 || slog.Default() != logger || strings.Contains(out.String(), "the program's") {
		t.Errorf("the program's own handler got %v; the log: %s", own, out)
	}
	s.LogLibraries()
	otel.Handle(errors.New("the server's"))
	log.Print("the standard logger's")
	for _, text := range []string{`"OpenTelemetry reports an error."`, "the server's", "the standard logger's"} {
		if len(out.Lines(text)) != 1 {
			t.Errorf("the log has no line of %q: %s", text, out)
		}
	}
}
