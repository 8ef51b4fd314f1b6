package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
)

// keys is API_KEYS of two services, which may name end users, and a person.
func keys() string {
	entry := func(name string, endUsers bool) string {
		return fmt.Sprintf(`{"name": %q, "sha256": "%x", "end_users": %v}`, name, sha256.Sum256([]byte("key of "+name)), endUsers)
	}
	return "API_KEYS=[" + entry("one", true) + "," + entry("two", true) + "," + entry("person", false) + "]"
}

func as(key string, more ...string) []string {
	return append([]string{"X-API-Key", "key of " + key}, more...)
}

// What one owner has, no other can see, go on with, list, delete or guess.
func TestOwnersAreApart(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	bearer := func(subject string) []string {
		claims := authtest.With(issuer.Claims("app", time.Now()), "sub", subject)
		return []string{"Authorization", "Bearer " + issuer.Sign(claims)}
	}
	owners := map[string][]string{
		"a service":                        as("one"),
		"another service":                  as("two"),
		"a service for a user":             as("one", "X-End-User", "ada"),
		"a service for another user":       as("one", "X-End-User", "bob"),
		"another service for the user":     as("two", "X-End-User", "ada"),
		"a person":                         bearer("ada"),
		"another person":                   bearer("bob"),
		"a person of a key's name":         bearer("one"),
		"a service for a user named as it": as("one", "X-End-User", "one"),
	}
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		mine := map[string]turn{}
		for name, headers := range owners {
			mine[name] = s.invoke(t, map[string]any{"query": "of " + name}, append(headers, "Idempotency-Key", "the same")...)
		}
		for name, headers := range owners {
			if got := ids(list(t, s, "", headers...).Sessions); len(got) != 1 || got[0] != mine[name].SessionID {
				t.Errorf("%s lists %v, has %s", name, got, mine[name].SessionID)
			}
			for other, theirs := range mine {
				if other == name {
					continue
				}
				path := "/sessions/" + theirs.SessionID
				for _, call := range []struct {
					method, path string
					body         any
				}{
					{http.MethodGet, path, nil},
					{http.MethodDelete, path, nil},
					{http.MethodPut, path + "/turns/1/feedback", map[string]any{"score": 1}},
					{http.MethodPost, "/invoke", map[string]any{"query": "go on", "session_id": theirs.SessionID}},
					{http.MethodPost, "/invoke", map[string]any{"query": "go on", "session_id": theirs.SessionID, "stream": true}},
				} {
					a := s.do(t, call.method, call.path, call.body, headers...)
					if a.Status != http.StatusNotFound || strings.Contains(string(a.Body), "of "+other) {
						t.Errorf("%s, on the session of %s: %s %s is %d: %s", name, other, call.method, call.path, a.Status, a.Body)
					}
				}
			}
		}
		if a := s.do(t, http.MethodDelete, "/sessions", nil, owners["a service for a user"]...); a.Status != http.StatusNoContent {
			t.Fatalf("DELETE /sessions: %d", a.Status)
		}
		for name, headers := range owners {
			want := 1
			if name == "a service for a user" {
				want = 0
			}
			if got := list(t, s, "", headers...).Sessions; len(got) != want {
				t.Errorf("after somebody deleted all of theirs, %s has %d sessions", name, len(got))
			}
		}
	}, "AUTH=api_key,oidc", keys(), "OIDC_ISSUERS="+issuer.URL+"|app")
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s := startLocal(t, "AUTH=api_key", keys())
	for _, c := range []struct {
		name    string
		path    string
		headers []string
		status  int
	}{
		{"a key", "/sessions", as("one"), 200},
		{"no key", "/sessions", nil, 401},
		{"a key in the query", "/sessions?key=key%20of%20one&X-API-Key=key%20of%20one&api_key=key%20of%20one", nil, 401},
		{"a key's beginning", "/sessions", []string{"X-API-Key", "key of on"}, 401},
		{"a key and more", "/sessions", []string{"X-API-Key", "key of onex"}, 401},
		{"a key in capitals", "/sessions", []string{"X-API-Key", "KEY OF ONE"}, 401},
		{"an empty key", "/sessions", []string{"X-API-Key", ""}, 401},
		{"10 KB of key", "/sessions", []string{"X-API-Key", strings.Repeat("k", 10_000)}, 401},
		{"two keys", "/sessions", append(as("one"), as("two")...), 401},
		{"a key, and a token that nobody reads", "/sessions", as("one", "Authorization", "Bearer x.y.z"), 401},
		{"a person that names an end user", "/sessions", as("person", "X-End-User", "ada"), 403},
		{"a probe without a key", "/health/live", nil, 200},
		{"readiness without a key", "/health/ready", nil, 200},
		{"the description without a key", "/", nil, 200},
		{"health without a key", "/health", nil, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do(t, http.MethodGet, c.path, nil, c.headers...)
			if a.Status != c.status {
				t.Fatalf("status %d, want %d: %s", a.Status, c.status, a.Body)
			}
			if c.status == 401 && a.Header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 without WWW-Authenticate")
			}
		})
	}
	if a := s.do(t, http.MethodGet, "/health", nil); strings.Contains(string(a.Body), "uptime") {
		t.Errorf("anybody sees details of /health: %s", a.Body)
	}
	if a := s.do(t, http.MethodGet, "/health", nil, as("one")...); !strings.Contains(string(a.Body), "uptime") {
		t.Errorf("a key sees no details of /health: %s", a.Body)
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	s := startLocal(t, "ALLOWED_ORIGINS=https://app.example.com,http://localhost:3000")
	for _, c := range []struct {
		origin  string
		allowed bool
	}{
		{"https://app.example.com", true}, {"http://localhost:3000", true}, {s.URL, true},
		{"null", false}, {"http://app.example.com", false}, {"https://app.example.com:8443", false}, {"https://app.example.com.evil.example", false},
		{"https://evil.example", false}, {"https://sub.app.example.com", false}, {"http://localhost:30000", false}, {"https://app.example.com/", false},
	} {
		t.Run(c.origin, func(t *testing.T) {
			preflight := s.do(t, http.MethodOptions, "/invoke", nil, "Origin", c.origin,
				"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
			a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello", "stream": true}, "Origin", c.origin)
			bad := s.do(t, http.MethodPost, "/invoke", map[string]any{}, "Origin", c.origin)
			if !c.allowed {
				wantError(t, preflight, http.StatusForbidden, "origin_not_allowed")
				wantError(t, a, http.StatusForbidden, "origin_not_allowed")
				if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("allowed: %q", got)
				}
				return
			}
			if a.Status != http.StatusOK || bad.Status != http.StatusUnprocessableEntity {
				t.Errorf("status %d and %d", a.Status, bad.Status)
			}
			if c.origin == s.URL {
				return
			}
			if preflight.Status != http.StatusNoContent {
				t.Errorf("preflight %d", preflight.Status)
			}
			for _, got := range []answer{preflight, a, bad} {
				if got.Header.Get("Access-Control-Allow-Origin") != c.origin || !strings.Contains(got.Header.Get("Vary"), "Origin") {
					t.Errorf("headers %v", got.Header)
				}
			}
		})
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	s := startLocal(t, "AUTH=api_key", keys(), "RATE_LIMIT_PER_MINUTE=5", "CALLER_RATE_LIMIT_PER_MINUTE=8")
	ask := func(headers ...string) answer {
		return s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"}, headers...)
	}
	// All in one clock minute, or once more.
	for minute := time.Now().Unix() / 60; ; minute = time.Now().Unix() / 60 {
		let := map[string]int{}
		var refused answer
		for range 7 {
			for _, user := range []string{"ada", "bob"} {
				a := ask(as("one", "X-End-User", user)...)
				if a.Status == http.StatusOK {
					let[user]++
				} else {
					refused = a
				}
			}
		}
		other := ask(as("two")...).Status
		if time.Now().Unix()/60 != minute {
			continue
		}
		if let["ada"] > 5 || let["bob"] > 5 || let["ada"]+let["bob"] != 8 || other != http.StatusOK {
			t.Errorf("let through: %v of 5 each and 8 in all; another caller: %d", let, other)
		}
		wantError(t, refused, http.StatusTooManyRequests, "rate_limited")
		for _, name := range []string{"Retry-After", "RateLimit", "RateLimit-Policy"} {
			if refused.Header.Get(name) == "" {
				t.Errorf("a refusal without %s: %v", name, refused.Header)
			}
		}
		return
	}
}

// The limit is one for all instances.
func TestRateLimitAcrossInstances(t *testing.T) {
	t.Parallel()
	const most = 40
	env := append(firestore(emulatorHost(t)), "RATE_LIMIT_PER_MINUTE="+fmt.Sprint(most), "GOOGLE_CLOUD_PROJECT="+emulator.Project())
	// The emulator is slow at first: an instance that waits longer than a second uses
	// its share of the limit.
	var instances []*service
	for range 4 {
		s, _ := startGemini(t, env...)
		for begun := time.Now(); ; begun = time.Now() {
			s.do(t, http.MethodGet, "/usage", nil, "X-End-User", "warm-up")
			if time.Since(begun) < 200*time.Millisecond {
				break
			}
		}
		instances = append(instances, s)
	}
	for minute := time.Now().Unix() / 60; ; minute = time.Now().Unix() / 60 {
		var let, refused atomic.Int64
		var all sync.WaitGroup
		user := fmt.Sprintf("user-%d", minute)
		for _, s := range instances {
			for range 3 {
				all.Go(func() {
					for range most / 4 {
						a, err := s.try(bounded(t), http.MethodPost, "/invoke", map[string]any{"query": "hello"}, "X-End-User", user)
						switch {
						case err != nil:
							t.Error(err)
						case a.Status == http.StatusOK:
							let.Add(1)
						case a.Status == http.StatusTooManyRequests:
							refused.Add(1)
						default:
							t.Errorf("status %d: %s", a.Status, a.Body)
						}
					}
				})
			}
		}
		all.Wait()
		if time.Now().Unix()/60 != minute {
			continue
		}
		t.Logf("4 instances, limit %d: %d let through, %d refused", most, let.Load(), refused.Load())
		if let.Load() > most || let.Load() < most/2 {
			t.Errorf("%d calls let through, the limit is %d", let.Load(), most)
		}
		return
	}
}

// A day's tokens cannot be passed, also not by calls at once.
func TestDailyBudget(t *testing.T) {
	t.Parallel()
	for _, budget := range []string{"DAILY_TOKEN_LIMIT", "CALLER_DAILY_TOKEN_LIMIT", "SERVICE_DAILY_TOKEN_LIMIT"} {
		t.Run(budget, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t, budget+"=10000")
			gemini.Handle(func(geminitest.Request) geminitest.Reply {
				return geminitest.Text("answer").WithUsage(geminitest.Usage{Prompt: 900, Output: 100})
			})
			var spent, refused atomic.Int64
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					for range 4 {
						a, err := s.try(bounded(t), http.MethodPost, "/invoke", map[string]any{"query": "hello", "max_tokens": 100})
						switch {
						case err != nil:
							t.Error(err)
						case a.Status == http.StatusOK:
							spent.Add(1000)
						case a.Status == http.StatusTooManyRequests:
							refused.Add(1)
							wantError(t, a, http.StatusTooManyRequests, "quota_exceeded")
						default:
							t.Errorf("status %d: %s", a.Status, a.Body)
						}
					}
				})
			}
			all.Wait()
			// The prompt's estimate is below what this model counts: what is under
			// way when the budget ends may pass it, by a call each.
			if spent.Load() < 8000 || spent.Load() > 10000+6*1000 || refused.Load() == 0 {
				t.Errorf("%d tokens of 10000 spent, %d calls refused", spent.Load(), refused.Load())
			}
			var usage struct {
				Data struct {
					Limits []struct {
						Name, Unit  string
						Limit, Left int64
					}
					Today struct {
						Tokens int64 `json:"total_tokens"`
						Models []struct {
							Model  string
							Tokens int64 `json:"total_tokens"`
						}
					}
				}
			}
			a := s.do(t, http.MethodGet, "/usage", nil)
			if err := json.Unmarshal(a.Body, &usage); err != nil {
				t.Fatal(err)
			}
			if today := usage.Data.Today; today.Tokens != spent.Load() || len(today.Models) != 1 || today.Models[0].Tokens != spent.Load() {
				t.Errorf("usage says %+v, spent were %d: %s", today, spent.Load(), a.Body)
			}
		})
	}
}

func TestOverload(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "MAX_CONCURRENT=1")
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	first := s.stream(t, map[string]any{"query": "slow"})
	before := first.until(t, "delta")
	wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "too much"}), http.StatusServiceUnavailable, "overloaded")
	if a := s.do(t, http.MethodGet, "/health", nil); a.Status != http.StatusOK {
		t.Errorf("health is counted: %d", a.Status)
	}
	close(gate)
	first.wantDone(t, before...)
	if got := s.invoke(t, map[string]any{"query": "now"}); got.Turn != 1 {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	s := startLocal(t)
	if a := s.do(t, http.MethodGet, "/", nil, "X-Padding", strings.Repeat("x", 40<<10)); a.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", a.Status)
	}
	if a := s.do(t, http.MethodGet, "/", nil, "X-Padding", strings.Repeat("x", 20<<10)); a.Status != http.StatusOK {
		t.Errorf("status %d, want 200", a.Status)
	}
}
