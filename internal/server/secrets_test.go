package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/geminitest"
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
	return startRotation(t, r.manager)
}

// startRotation is newRotation over what manager holds, with more variables.
func startRotation(t *testing.T, manager *secrettest.Server, variables ...string) *rotation {
	t.Helper()
	r := &rotation{manager: manager}
	r.Server, _ = newServer(t, anAgent, append([]string{"AUTH=api_key", "API_KEYS_SECRET=" + keysName, "SECRET_MANAGER_ENDPOINT=" + manager.Addr}, variables...)...)
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
	if key != "" {
		request.Header.Set("X-API-Key", key)
	}
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

// What cannot be had for the moment admits callers for an hour.
func TestASecretThatIsAwayKeepsItsValueForAnHour(t *testing.T) {
	for name, fail := range map[string]func(*rotation){
		"unavailable":          func(r *rotation) { r.manager.Fail(keysName, codes.Unavailable) },
		"quota used up":        func(r *rotation) { r.manager.Fail(keysName, codes.ResourceExhausted) },
		"not the form of keys": func(r *rotation) { r.manager.Set(keysName, "nonsense") },
		"nothing":              func(r *rotation) { r.manager.Set(keysName, "") },
		"a damaged payload":    func(r *rotation) { r.manager.Set(keysName, "[]"); r.manager.Corrupt(keysName) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotation(t)
			fail(r)
			r.pass(6 * time.Minute)
			r.want(t, "after the failure", "old", 200)
			if status, text := r.get(t, r.Health, "/health", "old"); status != 200 || !strings.Contains(text, `"status":"degraded"`) {
				t.Errorf("/health does not say degraded: %d %s", status, text)
			}
			// Not at every request: the next attempt is minutes away.
			before := r.manager.Calls(keysName)
			for range 10 {
				r.want(t, "soon after", "old", 200)
			}
			if n := r.manager.Calls(keysName); n != before {
				t.Errorf("%d attempts more", n-before)
			}
			r.pass(53 * time.Minute)
			r.want(t, "before the hour is over", "old", 200)
			r.pass(2 * time.Minute)
			r.want(t, "after an hour", "old", 503)
			r.want(t, "after an hour, with a key that never was", "other", 503)
			if status, text := r.get(t, r.Invoke, "/sessions", "old"); !strings.Contains(text, `"error":"not_ready"`) {
				t.Errorf("after an hour: %d %s", status, text)
			}
			r.rotate("new")
			r.pass(time.Minute)
			r.want(t, "after it is mended", "new", 200)
			r.want(t, "after it is mended", "old", 401)
		})
	}
}

// withdrawals are the ways to withdraw what a secret holds.
var withdrawals = map[string]func(*secrettest.Server, string){
	"the list is []":             func(m *secrettest.Server, name string) { m.Set(name, "[]") },
	"the version is disabled":    func(m *secrettest.Server, name string) { m.Fail(name, codes.FailedPrecondition) },
	"the secret is deleted":      func(m *secrettest.Server, name string) { m.Fail(name, codes.NotFound) },
	"access to it is taken away": func(m *secrettest.Server, name string) { m.Fail(name, codes.PermissionDenied) },
}

func TestAWithdrawnKeyIsDroppedWhenASecondFetchSaysTheSame(t *testing.T) {
	for name, withdraw := range withdrawals {
		t.Run(name, func(t *testing.T) {
			r := newRotation(t)
			withdraw(r.manager, keysName)
			r.pass(5 * time.Minute)
			r.want(t, "at the first fetch", "old", 200)
			r.pass(9 * time.Second)
			r.want(t, "nine seconds later", "old", 200)
			r.pass(time.Second)
			r.want(t, "ten seconds later", "old", 401)
			r.pass(24 * time.Hour)
			r.want(t, "a day later", "old", 401)
			r.rotate("new")
			r.pass(5 * time.Minute)
			r.want(t, "after it is given back", "new", 200)
		})
	}
}

// What is only away between two refusals is withdrawn by the second.
func TestARefusalIsRememberedThroughAnOutage(t *testing.T) {
	r := newRotation(t)
	r.manager.Fail(keysName, codes.PermissionDenied)
	r.pass(5 * time.Minute)
	r.want(t, "at the first refusal", "old", 200)
	r.manager.Fail(keysName, codes.ResourceExhausted)
	r.pass(10 * time.Second)
	r.want(t, "while it is away", "old", 200)
	r.manager.Fail(keysName, codes.PermissionDenied)
	r.pass(30 * time.Second)
	r.want(t, "at the second refusal", "old", 401)
}

func TestARefusalOfAMomentWithdrawsNothing(t *testing.T) {
	r := newRotation(t)
	r.manager.Fail(keysName, codes.PermissionDenied)
	r.pass(5 * time.Minute)
	r.want(t, "at the refusal", "old", 200)
	r.manager.Fail(keysName, codes.OK)
	r.pass(10 * time.Second)
	r.want(t, "when it is given back", "old", 200)
	r.manager.Fail(keysName, codes.PermissionDenied)
	r.pass(5 * time.Minute)
	r.want(t, "at another refusal", "old", 200)
}

// An instance that was frozen for hours gets two requests at once: the second does
// not go on with the keys of then.
func TestRequestsAtOnceWaitForKeysThatAreHoursOld(t *testing.T) {
	r := newRotation(t)
	r.rotate("new")
	r.manager.Delay(200 * time.Millisecond)
	r.pass(2 * time.Hour)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() { r.want(t, "two hours later", "old", 401) })
		callers.Go(func() { r.want(t, "two hours later", "new", 200) })
	}
	callers.Wait()
	if n := r.manager.Calls(keysName); n != 2 {
		t.Errorf("the secret was read %d times, want 2", n)
	}
}

func TestAWithdrawnKeyDoesNotOutliveAFrozenInstance(t *testing.T) {
	for name, withdraw := range withdrawals {
		t.Run(name, func(t *testing.T) {
			r := newRotation(t)
			withdraw(r.manager, keysName)
			r.pass(24 * time.Hour)
			r.want(t, "a day later", "old", 503) // until the second fetch
			r.pass(10 * time.Second)
			r.want(t, "and ten seconds", "old", 401)
		})
	}
}

func TestAnEmptyListAtTheStartIsNobody(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(keysName, "[]")
	r := startRotation(t, manager)
	r.want(t, "with an empty list", "old", 401)
	if status, text := r.get(t, r.Health, "/health", ""); status != 200 || !strings.Contains(text, `"status":"healthy"`) {
		t.Errorf("/health of a service that admits nobody: %d %s", status, text)
	}
}

// The other secrets stay until they are refused for good.
func TestOtherSecretsStayUntilTheyAreRefused(t *testing.T) {
	const modelKey, origins = "projects/p/secrets/gemini/versions/latest", "projects/p/secrets/origins/versions/latest"
	manager := secrettest.Start(t)
	manager.Set(modelKey, "model-key")
	manager.Set(origins, "https://app.example")
	r := &rotation{manager: manager}
	r.rotate("old")
	gemini := geminitest.Start(t)
	r = startRotation(t, manager, "GEMINI_API_KEY_SECRET="+modelKey, "ALLOWED_ORIGINS_SECRET="+origins, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
	ask := func(when string, wantStatus, wantPage int) {
		t.Helper()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/invoke", strings.NewReader(`{"query":"Hello"}`))
		request.Header.Set("X-API-Key", "old")
		request.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		r.Invoke.ServeHTTP(w, request)
		if w.Code != wantStatus {
			t.Errorf("%s: a turn is answered %d, want %d: %s", when, w.Code, wantStatus, w.Body)
		}
		request = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sessions", nil)
		request.Header.Set("X-API-Key", "old")
		request.Header.Set("Origin", "https://app.example")
		w = httptest.NewRecorder()
		r.Invoke.ServeHTTP(w, request)
		if w.Code != wantPage {
			t.Errorf("%s: a page is answered %d, want %d: %s", when, w.Code, wantPage, w.Body)
		}
	}
	ask("at first", 200, 200)
	manager.Fail(modelKey, codes.ResourceExhausted)
	manager.Fail(origins, codes.ResourceExhausted)
	r.pass(59 * time.Minute)
	ask("away for 59 minutes", 200, 200)
	r.pass(2 * time.Minute)
	ask("away for an hour", 200, 503)
	manager.Fail(modelKey, codes.PermissionDenied)
	manager.Fail(origins, codes.PermissionDenied)
	r.pass(time.Minute)
	ask("refused once", 200, 503)
	r.pass(10 * time.Second)
	ask("refused twice", 503, 403)
	manager.Set(modelKey, "model-key")
	manager.Set(origins, "https://app.example")
	r.pass(5 * time.Minute)
	ask("given back", 200, 200)
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
	if took := time.Since(begin); took >= 2*time.Second {
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
	if took := time.Since(begin); took >= 2*time.Second { // what a refresh may take
		t.Errorf("the liveness probe took %v", took)
	}
}

// An issuer that is away: those who need its keys are answered not_ready after an
// hour, and health says so.
func TestAnIssuerThatIsAway(t *testing.T) {
	issuer := authtest.Start(t, "")
	manager := secrettest.Start(t)
	(&rotation{manager: manager}).rotate("key")
	r := startRotation(t, manager, "AUTH=oidc,api_key", "OIDC_ISSUERS="+issuer.URL+"|app", "OPERATORS=key:backend")
	issuer.Fail(http.StatusServiceUnavailable)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sessions", nil)
	request.Header.Set("Authorization", "Bearer "+issuer.Sign(issuer.Claims("app", time.Now())))
	w := httptest.NewRecorder()
	r.Invoke.ServeHTTP(w, request)
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"error":"not_ready"`) {
		t.Errorf("a token of an issuer that was never reached: %d %s", w.Code, w.Body)
	}
	r.want(t, "while the issuer is away", "key", 200)
	if status, text := r.get(t, r.Health, "/health", "key"); status != 200 || !strings.Contains(text, `"status":"degraded"`) || !strings.Contains(text, issuer.URL) {
		t.Errorf("/health: %d %s", status, text)
	}
}

const cardKeysName = "projects/p/secrets/card-keys/versions/latest"

// cardKey is a private key of RFC 8037, appendix A.1, as a JWK set.
func cardKey(kid string) string {
	return `{"keys":[{"kid":"` + kid + `","kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
}

// Whoever rotates the keys that sign the card needs no deploy, and a mistake leaves it as it
// was.
func TestCardKeysRotate(t *testing.T) {
	manager := secrettest.Start(t)
	(&rotation{manager: manager}).rotate("key")
	manager.Set(cardKeysName, cardKey("first"))
	r := startRotation(t, manager, "CARD_KEYS_SECRET="+cardKeysName, "CARD_URL=http://127.0.0.1:8080")
	keys := func() string { return r.parts.Load().secrets.cardKeys.Load().ID() }
	first := keys()
	if !strings.Contains(first, "first") || r.manager.Calls(cardKeysName) != 1 {
		t.Fatalf("%q after %d reads", first, r.manager.Calls(cardKeysName))
	}
	for _, step := range []struct {
		name, payload string
		pass          time.Duration
		want          string
	}{
		{"another key", cardKey("second"), 6 * time.Minute, "second"},
		{"within five minutes", cardKey("third"), time.Minute, "second"},
		{"what is no key", "key", 6 * time.Minute, "second"},
		{"no keys", `{"keys":[]}`, 6 * time.Minute, "second"},
		{"no keys, confirmed", `{"keys":[]}`, 11 * time.Second, ""},
		{"a key again", cardKey("first"), 6 * time.Minute, "first"},
	} {
		manager.Set(cardKeysName, step.payload)
		r.pass(step.pass)
		r.want(t, step.name, "key", 200)
		if got := keys(); (step.want == "") != (got == "") || !strings.Contains(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

// A key that cannot sign is found at the start, which names its variable.
func TestABadCardKeyIsRefusedAtTheStart(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(cardKeysName, strings.Replace(cardKey("first"), `"x":"1`, `"x":"2`, 1))
	s, _ := newServer(t, anAgent, "CARD_KEYS_SECRET="+cardKeysName, "CARD_URL=http://127.0.0.1:8080", "SECRET_MANAGER_ENDPOINT="+manager.Addr)
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "CARD_KEYS_SECRET") || strings.Contains(err.Error(), "nWGxne") {
		t.Errorf("%v", err)
	}
	if status, text := ask(t, s.Invoke, "/health/ready"); status != http.StatusServiceUnavailable || !strings.Contains(text, "CARD_KEYS_SECRET") || strings.Contains(text, "nWGxne") {
		t.Errorf("%d %s", status, text)
	}
}
