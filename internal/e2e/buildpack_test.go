package e2e_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// buildpackMain is the program that Google's buildpack writes around a function
// (GoogleCloudPlatform/buildpacks, cmd/go/functions_framework).
const buildpackMain = `package main

import (
	"log"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	_ "example.com/gatehouse"
)

func main() {
	port := "8080"
	if envPort := os.Getenv("PORT"); envPort != "" {
		port = envPort
	}
	if err := funcframework.Start(port); err != nil {
		log.Fatalf("Failed to start functions framework: %v\n", err)
	}
}
`

// deployedProgram is what the buildpack makes of this tree, with the tests' own agent
// in the place of the one that ships; built once.
var deployedProgram = sync.OnceValues(func() (string, error) {
	return buildDeployed("deployed", "example.com/gatehouse/internal/testagent/function")
})

// buildDeployed builds what the buildpack makes of this tree, around the package pkg.
func buildDeployed(name, pkg string) (string, error) {
	parent, err := programs()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, "tree-"+name)
	if err := copyTree(dir, moduleRoot); err != nil {
		return "", err
	}
	app := filepath.Join(dir, "functions.local", "app")
	if err := os.MkdirAll(app, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(app, "main.go"), []byte(strings.Replace(buildpackMain, "example.com/gatehouse", pkg, 1)), 0o600); err != nil {
		return "", err
	}
	// The buildpack tidies. Here the network stays out of it, and so it works
	// only where the module cache holds what tidying wants to see.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tidy := exec.CommandContext(ctx, "go", "mod", "tidy")
	tidy.Dir = dir
	tidy.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local")
	before, _ := os.ReadFile(filepath.Join(dir, "go.mod"))
	if tidy.Run() != nil {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), before, 0o600); err != nil {
			return "", err
		}
	}
	return build(dir, name, "./functions.local/app")
}

// What ships starts as the tests' own agent does. What it needs to be ready is its own.
func TestTheRootIsDeployed(t *testing.T) {
	slowtest.Skip(t, "the program that the buildpack builds")
	t.Parallel()
	program, err := buildDeployed("root", "example.com/gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	s := startProgram(t, program, "invoke", "K_SERVICE=invoke", "ENVIRONMENT=test", "AUTH=iam", "IAM_ENFORCED=true", "SESSION_STORE=memory", "GEMINI_API_KEY="+apiKey)
	if a := s.do(t, http.MethodGet, "/health/live", nil); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// copyTree copies the module without git's files and files that are not deployed.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != from && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if !entry.Type().IsRegular() || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // an editor's temporary file
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
}

// startDeployed runs the deployed program as Cloud Run does until t ends. target
// is FUNCTION_TARGET; empty leaves it out.
func startDeployed(t *testing.T, target string, env ...string) *service {
	t.Helper()
	slowtest.Skip(t, "the program that the buildpack builds")
	program, err := deployedProgram()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, program, target, env...)
}

// startProgram is startDeployed of any program that the buildpack makes.
func startProgram(t *testing.T, program, target string, env ...string) *service {
	t.Helper()
	if target != "" {
		env = append(env, "FUNCTION_TARGET="+target, "FUNCTION_SIGNATURE_TYPE=http")
	}
	// The framework opens the port by itself, and somebody else may have been
	// quicker to take it.
	for range 5 {
		address := unused(t)
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		p := spawn(t, program, append(slices.Clone(env), "PORT="+port)...)
		if !listens(t, p, address) {
			if strings.Contains(p.stderr.String(), "address already in use") {
				continue
			}
			t.Fatalf("the deployed program ended: %s", p.stderr)
		}
		s := newService(t, p, "http://"+address)
		s.root = map[string]string{"health": "/health"}[target]
		t.Cleanup(func() {
			s.client.CloseIdleConnections()
			if code := p.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("the deployed program ended with code %d", code)
			}
			checkLogs(t, p)
		})
		return s
	}
	t.Fatal("no port stayed free")
	return nil
}

// listens waits until something listens at address, or p has ended.
func listens(t *testing.T, p *process, address string) bool {
	t.Helper()
	ctx := bounded(t)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-p.exited:
			return false
		case <-ctx.Done():
			t.Fatal("the deployed program did not open its port")
		case <-poll.C:
		}
		var dialer net.Dialer
		if conn, err := dialer.DialContext(ctx, "tcp", address); err == nil {
			_ = conn.Close()
			return true
		}
	}
}

// bearer is a token as it arrives from behind Cloud Run's IAM check, which takes
// its signature out.
func bearer(t *testing.T, subject string, claims map[string]any) string {
	t.Helper()
	now := time.Now()
	all := map[string]any{
		"iss": "https://accounts.google.com", "sub": subject, "aud": "https://gatehouse-invoke.example.run.app",
		"email": subject + "@example.com", "email_verified": true,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, value := range claims {
		all[name] = value
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return "Bearer " + encode([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." + encode(payload) + ".SIGNATURE_REMOVED_BY_GOOGLE"
}

// deployment is the environment of a well deployed function, and its model.
func deployment(t *testing.T) ([]string, *geminitest.Server) {
	t.Helper()
	gemini := geminitest.Start(t)
	return production(t, "GOOGLE_CLOUD_PROJECT="+emulator.Project(), "FIRESTORE_EMULATOR_HOST="+emulatorHost(t), "GOOGLE_GEMINI_BASE_URL="+gemini.URL), gemini
}

func TestDeployedInvoke(t *testing.T) {
	t.Parallel()
	env, gemini := deployment(t)
	s := startDeployed(t, "invoke", env...)
	ann, bob := bearer(t, "ann", nil), bearer(t, "bob", nil)

	for _, path := range []string{"/", "/health/live", "/health/ready"} {
		if a := s.do(t, http.MethodGet, path, nil); a.Status != http.StatusOK || !wantEnvelope(t, a).Success {
			t.Errorf("GET %s without a credential: status %d: %s", path, a.Status, a.Body)
		}
	}
	for path, want := range map[string]string{"/openapi.json": `"/sessions/{id}"`, "/docs": "<html", "/docs/page.css": "{"} {
		if a := s.do(t, http.MethodGet, path, nil); a.Status != http.StatusOK || !strings.Contains(string(a.Body), want) {
			t.Errorf("GET %s without a credential: status %d: %.300s", path, a.Status, a.Body)
		}
	}
	body := map[string]any{"query": "hello"}
	for name, headers := range map[string][]string{
		"no credential":     nil,
		"no token":          {"Authorization", "Bearer "},
		"another scheme":    {"Authorization", "Basic YTpi"},
		"not a token":       {"Authorization", "Bearer hello"},
		"an expired token":  {"Authorization", bearer(t, "ann", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})},
		"another issuer":    {"Authorization", bearer(t, "ann", map[string]any{"iss": "https://evil.example.com"})},
		"a good and a bad":  {"Authorization", ann, "X-Serverless-Authorization", "Bearer hello"},
		"nobody in a token": {"Authorization", bearer(t, "", nil)},
	} {
		for _, route := range []string{"POST /", "POST /invoke", "GET /sessions", "DELETE /sessions"} {
			method, path, _ := strings.Cut(route, " ")
			var sent any
			if method == http.MethodPost {
				sent = body
			}
			a := s.do(t, method, path, sent, headers...)
			wantError(t, a, http.StatusUnauthorized, "unauthenticated")
			if a.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s on %s: no WWW-Authenticate", name, route)
			}
		}
	}
	if n := len(gemini.Requests()); n != 0 {
		t.Fatalf("the model was asked %d times for nobody", n)
	}

	asAnn := []string{"Authorization", ann}
	first := wantTurn(t, s.do(t, http.MethodPost, "/", body, asAnn...))
	second := s.invoke(t, map[string]any{"query": "And?", "session_id": first.SessionID}, asAnn...)
	if second.Turn != 2 || second.Model != "gemini-3.5-flash-lite" {
		t.Errorf("second turn: %+v", second)
	}
	_, third := s.stream(t, map[string]any{"query": "And?", "session_id": first.SessionID, "stream": true}, asAnn...).wantDone(t)
	if third.Turn != 3 {
		t.Errorf("third turn: %+v", third)
	}
	// The IAM token may also be in the other header, and only there.
	if got := s.invoke(t, map[string]any{"query": "And?", "session_id": first.SessionID}, "X-Serverless-Authorization", ann); got.Turn != 4 {
		t.Errorf("fourth turn: %+v", got)
	}
	wantError(t, s.do(t, http.MethodGet, "/sessions/"+first.SessionID, nil, "Authorization", bob), http.StatusNotFound, "session_not_found")
	if got := list(t, s, "", "Authorization", bob); len(got.Sessions) != 0 {
		t.Errorf("bob sees %v", got.Sessions)
	}
	if got := list(t, s, "", asAnn...); len(got.Sessions) != 1 || got.Sessions[0].Turns != 4 {
		t.Errorf("ann sees %+v", got.Sessions)
	}
	wantError(t, s.do(t, http.MethodPost, "/invoke", body, "Authorization", ann, "X-End-User", "bob"), http.StatusForbidden, "permission_denied")
	service := bearer(t, "robot", map[string]any{"email": "robot@project-1.iam.gserviceaccount.com"})
	s.invoke(t, body, "Authorization", service, "X-End-User", "bob")
	wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+first.SessionID, nil, asAnn...))
	wantError(t, s.do(t, http.MethodGet, "/nothing", nil, asAnn...), http.StatusNotFound, "not_found")
	wantError(t, s.do(t, http.MethodPut, "/", nil, asAnn...), http.StatusMethodNotAllowed, "method_not_allowed")
	wantError(t, s.do(t, http.MethodPost, "/", "nonsense", asAnn...), http.StatusBadRequest, "malformed_request")
}

func TestDeployedHealth(t *testing.T) {
	t.Parallel()
	env, _ := deployment(t)
	s := startDeployed(t, "health", env...)
	for _, path := range []string{"/", "/health"} {
		a := s.do(t, http.MethodGet, path, nil)
		e := wantEnvelope(t, a)
		if a.Status != http.StatusOK || string(e.Data) != `{"status":"healthy"}` {
			t.Errorf("GET %s by anybody: status %d: %s", path, a.Status, a.Body)
		}
		a = s.do(t, http.MethodGet, path, nil, "Authorization", bearer(t, "ann", nil))
		var details struct {
			Status  string  `json:"status"`
			Version string  `json:"version"`
			Uptime  float64 `json:"uptime_seconds"`
		}
		if err := json.Unmarshal(wantEnvelope(t, a).Data, &details); err != nil || details.Status != "healthy" || details.Version == "" || !strings.Contains(string(a.Body), `"uptime_seconds"`) {
			t.Errorf("GET %s by a caller: status %d, %v: %s", path, a.Status, err, a.Body)
		}
		wantError(t, s.do(t, http.MethodPost, path, map[string]any{"query": "hello"}), http.StatusMethodNotAllowed, "method_not_allowed")
	}
	for _, path := range []string{"/health/live", "/health/ready"} {
		if a := s.do(t, http.MethodGet, path, nil); a.Status != http.StatusOK || !wantEnvelope(t, a).Success {
			t.Errorf("GET %s: status %d: %s", path, a.Status, a.Body)
		}
	}
	for _, path := range []string{"/invoke", "/sessions", "/nothing"} {
		wantError(t, s.do(t, http.MethodGet, path, nil, "Authorization", bearer(t, "ann", nil)), http.StatusNotFound, "not_found")
	}
}

func TestDeployedWithoutTarget(t *testing.T) {
	t.Parallel()
	env, _ := deployment(t)
	s := startDeployed(t, "", env...)
	s.invoke(t, map[string]any{"query": "hello"}, "Authorization", bearer(t, "ann", nil))
	wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"}), http.StatusUnauthorized, "unauthenticated")
	if a := s.do(t, http.MethodGet, "/health", nil); a.Status != http.StatusOK || !wantEnvelope(t, a).Success {
		t.Errorf("GET /health: status %d: %s", a.Status, a.Body)
	}
}

func TestDeployedWrongly(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-is-the-secret"
	tests := []struct {
		name, target string
		env          []string
		names        []string
	}{
		{"invoke, without authentication", "invoke", production(t, "AUTH=none"), []string{"AUTH"}},
		{"invoke, wrong in every way", "invoke", production(t, "AUTH=none", "SESSION_STORE=memory", "GEMINI_API_KEY", "ALLOWED_ORIGINS=*", "REQUEST_TIMEOUT=soon"),
			[]string{"AUTH", "SESSION_STORE", "GEMINI_API_KEY", "ALLOWED_ORIGINS", "REQUEST_TIMEOUT"}},
		{"invoke, with a bad key", "invoke", production(t, "AUTH=api_key", `API_KEYS=[{"name": "x", "sha256": "`+secret+`"}]`), []string{"API_KEYS"}},
		{"health, with sessions in memory", "health", production(t, "SESSION_STORE=memory"), []string{"SESSION_STORE"}},
		{"health, without the check on", "health", production(t, "IAM_ENFORCED"), []string{"IAM_ENFORCED"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startDeployed(t, test.target, test.env...)
			if a := s.do(t, http.MethodGet, "/health/live", nil); a.Status != http.StatusOK || !wantEnvelope(t, a).Success {
				t.Errorf("live: status %d: %s", a.Status, a.Body)
			}
			ready := s.do(t, http.MethodGet, "/health/ready", nil)
			wantError(t, ready, http.StatusServiceUnavailable, "not_ready")
			for _, name := range test.names {
				if !strings.Contains(string(ready.Body), name) {
					t.Errorf("%s is not named: %s", name, ready.Body)
				}
			}
			unhealthy := []string{"/health"}
			if test.target == "health" {
				unhealthy = append(unhealthy, "/")
			} else {
				body := map[string]any{"query": "hello"}
				for _, path := range []string{"/", "/invoke", "/chat"} {
					wantError(t, s.do(t, http.MethodPost, path, body, "Authorization", bearer(t, "ann", nil), "Accept", "application/json"), http.StatusServiceUnavailable, "not_ready")
				}
				for _, path := range []string{"/", "/sessions", "/sessions/" + unknownSession, "/openapi.json", "/docs"} {
					wantError(t, s.do(t, http.MethodGet, path, nil), http.StatusServiceUnavailable, "not_ready")
				}
				unhealthy = nil // it is the other function that serves /health
			}
			for _, path := range unhealthy {
				a := s.do(t, http.MethodGet, path, nil)
				e := wantError(t, a, http.StatusServiceUnavailable, "unhealthy")
				if string(e.Data) != `{"status":"unhealthy"}` {
					t.Errorf("data of GET %s: %s", path, e.Data)
				}
			}
			select {
			case <-s.exited:
				t.Error("the process has ended")
			default:
			}
			logged := s.stdout.String() + s.stderr.String()
			for _, value := range []string{secret, apiKey} {
				if strings.Contains(logged, value) || strings.Contains(string(ready.Body), value) {
					t.Errorf("a secret's value is shown: %s", value)
				}
			}
			for _, name := range test.names {
				if !strings.Contains(logged, name) {
					t.Errorf("the log does not name %s", name)
				}
			}
		})
	}
}
