package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/gcp/gcpsecret/secrettest"
	"example.com/gatehouse/internal/offline"
)

const keysName = "projects/p/secrets/keys/versions/latest"

// A rotation is a service whose API keys are a secret, and a clock that a test
// moves.
type rotation struct {
	*Server
	manager *secrettest.Server
	ahead   atomic.Int64 // of the machine's clock
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{manager: secrettest.Start(t)}
	r.rotate("old")
	env := map[string]string{"AUTH": "api_key", "API_KEYS_SECRET": keysName, "SECRET_MANAGER_ENDPOINT": r.manager.Addr}
	r.Server = New(Options{Agent: anAgent, Lookup: func(name string) (string, bool) { value, ok := env[name]; return value, ok }, Log: io.Discard, StandIn: &StandIn{Model: offline.Model, Transport: offline.New()}})
	t.Cleanup(func() {
		if err := r.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.parts.Load().secrets.now = func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	return r
}

// rotate makes key the only one.
func (r *rotation) rotate(key string) {
	sum := sha256.Sum256([]byte(key))
	r.manager.Set(keysName, fmt.Sprintf(`[{"name":"backend","sha256":%q}]`, hex.EncodeToString(sum[:])))
}

func (r *rotation) pass(d time.Duration) { r.ahead.Add(int64(d)) }

// get asks h with key.
func (r *rotation) get(t *testing.T, h http.Handler, path, key string) (int, string) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	request.Header.Set("X-API-Key", key)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request)
	return w.Code, w.Body.String()
}

func (r *rotation) want(t *testing.T, when, key string, status int) {
	t.Helper()
	if got, text := r.get(t, r.Invoke, "/sessions", key); got != status {
		t.Errorf("%s: the key %q is answered %d, want %d: %s", when, key, got, status, text)
	}
}

func TestARotatedKeyIsTakenWithoutADeploy(t *testing.T) {
	r := newRotation(t)
	r.rotate("new")
	r.pass(4 * time.Minute)
	r.want(t, "within five minutes", "old", 200)
	if n := r.manager.Calls(keysName); n != 1 {
		t.Errorf("the secret was read %d times within five minutes", n)
	}
	r.pass(2 * time.Minute)
	r.want(t, "after five minutes", "new", 200)
	r.want(t, "after five minutes", "old", 401)
	if n := r.manager.Calls(keysName); n != 2 {
		t.Errorf("the secret was read %d times, want 2", n)
	}
}

func TestARefreshThatFailsLeavesTheLastGoodValue(t *testing.T) {
	for name, fail := range map[string]func(*rotation){
		"no permission":        func(r *rotation) { r.manager.Fail(keysName, codes.PermissionDenied) },
		"not the form of keys": func(r *rotation) { r.manager.Set(keysName, "nonsense") },
		"nothing":              func(r *rotation) { r.manager.Set(keysName, "") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotation(t)
			fail(r)
			r.pass(6 * time.Minute)
			r.want(t, "after the failure", "old", 200)
			if status, text := r.get(t, r.Health, "/health", "old"); status != 200 || !strings.Contains(text, `"status":"degraded"`) {
				t.Errorf("/health does not say degraded: %d %s", status, text)
			}
			// Not at every request: the next attempt is five minutes away.
			before := r.manager.Calls(keysName)
			for range 10 {
				r.want(t, "soon after", "old", 200)
			}
			if n := r.manager.Calls(keysName); n != before {
				t.Errorf("%d attempts more within five minutes", n-before)
			}
			r.rotate("new")
			r.pass(6 * time.Minute)
			r.want(t, "after it is mended", "new", 200)
		})
	}
}

func TestARefreshIsOneRequestsWork(t *testing.T) {
	r := newRotation(t)
	r.manager.Delay(100 * time.Millisecond)
	r.pass(6 * time.Minute)
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() { r.want(t, "while it is fetched", "old", 200) })
	}
	callers.Wait()
	if n := r.manager.Calls(keysName); n != 2 {
		t.Errorf("the secret was read %d times, want 2", n)
	}
}

func TestASecretManagerThatHangsCostsOneRequestTwoSeconds(t *testing.T) {
	r := newRotation(t)
	r.manager.Delay(time.Minute)
	r.pass(6 * time.Minute)
	begin := time.Now()
	r.want(t, "while it hangs", "old", 200)
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("the request took %v", took)
	}
	begin = time.Now()
	r.want(t, "the next one", "old", 200)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the next request took %v", took)
	}
}

func TestLivenessIsNotHeldUpByARefresh(t *testing.T) {
	r := newRotation(t)
	r.manager.Delay(time.Minute)
	r.pass(6 * time.Minute)
	begin := time.Now()
	if status, text := r.get(t, r.Invoke, "/health/live", ""); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the liveness probe took %v", took)
	}
}
