package webhook_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"example.com/gatehouse/internal/egress"
	"example.com/gatehouse/internal/egress/egresstest"
	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/internal/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const event = `{"type":"run.done","data":{"run_id":"r","state":"done","text":"ünïcode"}}`

func newSecret(text string) string {
	return webhook.Prefix + base64.StdEncoding.EncodeToString([]byte(text))
}

var (
	oldSecret = newSecret("the secret of last quarter, 32 b")
	newest    = newSecret("the secret of this quarter, 32 b")
)

func secrets(t testing.TB, entries string) func() *webhook.Secrets {
	t.Helper()
	all, err := webhook.ParseSecrets([]byte(entries))
	if err != nil {
		t.Fatal(err)
	}
	return func() *webhook.Secrets { return all }
}

func oneSecret(t testing.TB) func() *webhook.Secrets {
	return secrets(t, `[{"name": "a", "secret": "`+newest+`"}]`)
}

// A receiver keeps what it got.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []received
}

type received struct {
	headers http.Header
	body    string
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// receive starts one over TLS, whose certificate is of *.example.com.
func receive(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, received{req.Header.Clone(), string(body)})
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// sender returns a sender to r, which hooks.example.com resolves to, besides the
// addresses given; only 127.0.0.1 may be connected to.
func sender(t testing.TB, r *receiver, all func() *webhook.Secrets, addrs ...string) (s *webhook.Sender, url string) {
	t.Helper()
	guard := egress.Guard{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Resolver: egresstest.Resolver(t, func(_ string, ipv6 bool) (found []netip.Addr) {
			for _, addr := range addrs {
				if addr := netip.MustParseAddr(addr); addr.Is6() == ipv6 {
					found = append(found, addr)
				}
			}
			return found
		}),
	}
	transport := guard.Transport()
	transport.TLSClientConfig = r.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	host := "hooks.example.com:" + port
	s = webhook.New(webhook.Config{Hosts: []string{host}, Guard: guard, Secrets: all, Transport: transport, Now: time.Now})
	t.Cleanup(s.Close)
	return s, "https://" + host + "/events?tenant=7"
}

func TestSend(t *testing.T) {
	t.Parallel()
	r := receive(t, ok)
	s, url := sender(t, r, oneSecret(t), "127.0.0.1")
	for range 2 {
		if err := s.Send(t.Context(), url, "msg_1", []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	got := r.all()
	if len(got) != 2 || got[0].body != event || got[0].headers.Get("Content-Type") != "application/json" ||
		got[0].headers.Get("webhook-id") != "msg_1" || got[1].headers.Get("webhook-id") != "msg_1" {
		t.Errorf("received: %v", got)
	}
}

// The receiver's side is the package that receivers use.
func TestStandardWebhooksVerifies(t *testing.T) {
	t.Parallel()
	dir := npmtest.InstallLocked(t, "the signature by npm's standardwebhooks", "testdata/verify")
	r := receive(t, ok)
	s, url := sender(t, r, secrets(t, fmt.Sprintf(
		`[{"name": "new", "secret": %q}, {"name": "old", "secret": %q, "expires": %q}, {"name": "older", "secret": %q, "expires": "2026-01-01T00:00:00Z"}]`,
		newest, oldSecret, time.Now().Add(time.Hour).Format(time.RFC3339), newSecret("one that has expired a while ago"))), "127.0.0.1")
	if err := s.Send(t.Context(), url, "msg_1", []byte(event)); err != nil {
		t.Fatal(err)
	}
	got := r.all()[0]
	for _, tt := range []struct {
		name, secret, body string
		id                 string
		want               bool
	}{
		{"the newest secret", newest, event, "msg_1", true},
		{"the one that it replaces", oldSecret, event, "msg_1", true},
		{"one that has expired", newSecret("one that has expired a while ago"), event, "msg_1", false},
		{"another secret", newSecret("a secret that was never in use"), event, "msg_1", false},
		{"another body", newest, event + " ", "msg_1", false},
		{"another id", newest, event, "msg_2", false},
	} {
		headers := map[string]string{
			"webhook-id": tt.id, "webhook-timestamp": got.headers.Get("webhook-timestamp"), "webhook-signature": got.headers.Get("webhook-signature"),
		}
		input, err := json.Marshal(map[string]any{"secret": tt.secret, "headers": headers, "body": tt.body})
		if err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), "node", "verify.mjs")
		command.Dir, command.Stdin = dir, bytes.NewReader(input)
		out, err := command.CombinedOutput()
		if exit, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed || (exit == nil) != tt.want {
			t.Errorf("%s: %v\n%s", tt.name, err, out)
		}
		if tt.want && strings.TrimSpace(string(out)) != event {
			t.Errorf("%s: verified as %s", tt.name, out)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := webhook.New(webhook.Config{Hosts: []string{"hooks.example.com", "ci.example.com:8443"}, Secrets: func() *webhook.Secrets { return nil }, Now: time.Now})
	for _, tt := range []struct {
		name, url string
		want      bool
	}{
		{"a host that is listed", "https://hooks.example.com/x?y=z", true},
		{"its default port", "https://hooks.example.com:443/", true},
		{"in capitals", "https://HOOKS.example.com/", true},
		{"a port that is listed", "https://ci.example.com:8443/", true},
		{"another port", "https://hooks.example.com:8443/", false},
		{"no port where one is listed", "https://ci.example.com/", false},
		{"a host below", "https://a.hooks.example.com/", false},
		{"a host above", "https://example.com/", false},
		{"a host that ends alike", "https://evilhooks.example.com/", false},
		{"another", "https://example.org/", false},
		{"a dot at the end", "https://hooks.example.com./", false},
		{"http", "http://hooks.example.com/", false},
		{"no scheme", "hooks.example.com/x", false},
		{"a user", "https://ada:pw@hooks.example.com/", false},
		{"the host as a user", "https://hooks.example.com@evil.example/", false},
		{"a backslash", `https://hooks.example.com\@evil.example/`, false},
		{"a fragment", "https://hooks.example.com/#x", false},
		{"localhost", "https://localhost/", false},
		{"the metadata server", "https://169.254.169.254/", false},
		{"an address, mapped", "https://[::ffff:127.0.0.1]/", false},
		{"a number for an address", "https://2130706433/", false},
		{"nothing", "", false},
		{"a line end", "https://hooks.example.com/\n", false},
		{"too long", "https://hooks.example.com/" + strings.Repeat("x", webhook.MaxURLBytes), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if issue := s.Check(tt.url); (issue == "") != tt.want {
				t.Errorf("%q: %q", tt.url, issue)
			}
			if err := s.Send(t.Context(), tt.url, "msg_1", nil); err == nil {
				t.Errorf("%q was sent to without a secret", tt.url)
			}
		})
	}
}

// What the operator has listed may still resolve to what only this process reaches.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		addrs []string
		want  bool // it arrives
	}{
		{"the metadata server", []string{"169.254.169.254"}, false},
		{"a private network", []string{"10.0.0.8"}, false},
		{"loopback beside the one that is allowed", []string{"127.0.0.2"}, false},
		{"loopback of IPv6", []string{"::1"}, false},
		{"the metadata server, mapped", []string{"::ffff:169.254.169.254"}, false},
		{"two, one of them private", []string{"127.0.0.2", "127.0.0.1"}, true},
		{"the same, the other way round", []string{"127.0.0.1", "127.0.0.2"}, true},
		{"no address", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := receive(t, ok)
			// On every address of this machine, so that what is connected to is there.
			inner, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", port(t, r)))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = inner.Close() }()
			connected := make(chan struct{})
			go func() {
				defer close(connected)
				if conn, err := inner.Accept(); err == nil {
					_ = conn.Close()
					t.Error("the private address was connected to")
				}
			}()
			s, url := sender(t, r, oneSecret(t), tt.addrs...)
			err = s.Send(t.Context(), url, "msg_1", []byte(event))
			failed, ok := errors.AsType[*webhook.DeliveryError](err)
			switch {
			case tt.want && (err != nil || len(r.all()) != 1):
				t.Errorf("%v; %d arrived", err, len(r.all()))
			case !tt.want && (!ok || failed.Status != 0 || len(r.all()) != 0):
				t.Errorf("%v; %d arrived", err, len(r.all()))
			case err != nil && strings.Contains(err.Error(), "tenant"):
				t.Errorf("the error repeats the URL: %v", err)
			}
			_ = inner.Close()
			<-connected
		})
	}
}

func port(t testing.TB, r *receiver) string {
	t.Helper()
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAnythingBut2xxIsAFailure(t *testing.T) {
	t.Parallel()
	target := receive(t, ok)
	for _, status := range []int{300, 301, 302, 303, 307, 308, 400, 404, 410, 429, 500, 503} {
		r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target.URL)
			w.WriteHeader(status)
		})
		s, url := sender(t, r, oneSecret(t), "127.0.0.1")
		err := s.Send(t.Context(), url, "msg_1", []byte(event))
		if failed, ok := errors.AsType[*webhook.DeliveryError](err); !ok || failed.Status != status {
			t.Errorf("%d: %v", status, err)
		}
	}
	if n := len(target.all()); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestAReceiverThatHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := receive(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	s, url := sender(t, r, oneSecret(t), "127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Send(ctx, url, "msg_1", []byte(event)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestACertificateThatNobodyKnows(t *testing.T) {
	t.Parallel()
	r := receive(t, ok)
	s, url := sender(t, r, oneSecret(t), "127.0.0.1")
	s.Transport.(*http.Transport).TLSClientConfig.RootCAs = x509.NewCertPool()
	if err := s.Send(t.Context(), url, "msg_1", []byte(event)); err == nil || err.Error() != "webhook: its certificate is not trusted" || len(r.all()) != 0 {
		t.Errorf("%v; %d arrived", err, len(r.all()))
	}
}

// The errors are logged, and a receiver may send what it got.
func TestNothingOfTheReceiverIsInAnError(t *testing.T) {
	t.Parallel()
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, event+"\r\n\r\n")
		_ = conn.Close()
	})
	s, url := sender(t, r, oneSecret(t), "127.0.0.1")
	if err := s.Send(t.Context(), url, "msg_1", []byte(event)); err == nil || err.Error() != "webhook: its response is not valid" {
		t.Error(err)
	}
}

func TestParseSecrets(t *testing.T) {
	t.Parallel()
	entry := func(secret string) string { return `{"name": "a", "secret": "` + secret + `"}` }
	for _, tt := range []struct {
		name, text string
		want       string // part of the error; "": none
	}{
		{"one", "[" + entry(newest) + "]", ""},
		{"two", "[" + entry(newest) + "," + entry(oldSecret) + "]", ""},
		{"nobody", "[]", ""},
		{"no list", entry(newest), "not a JSON list"},
		{"nothing", "", "not a JSON list"},
		{"null", "null", "not a JSON list"},
		{"too many", "[" + strings.Repeat(entry(newest)+",", 5) + entry(newest) + "]", "6 entries"},
		{"no name", `[{"secret": "` + newest + `"}]`, "entry 1: name"},
		{"no prefix", "[" + entry(strings.TrimPrefix(newest, webhook.Prefix)) + "]", "entry 1: secret"},
		{"no base64", "[" + entry(newest) + "," + entry("whsec_hunter2!") + "]", "entry 2: secret"},
		{"a line break", "[" + entry(newest+`\n`) + "]", "entry 1: secret"},
		{"too short", "[" + entry(newSecret("23 bytes are too short.")) + "]", "entry 1: secret"},
		{"too long", "[" + entry(newSecret(strings.Repeat("x", 65))) + "]", "entry 1: secret"},
		{"an unknown field", `[{"name": "a", "secret": "` + newest + `", "hunter2": 1}]`, "entry 1: want an object"},
		{"a field twice", `[{"name": "a", "name": "b", "secret": "` + newest + `"}]`, "not a JSON list"},
		{"no time", `[{"name": "a", "secret": "` + newest + `", "expires": "soon"}]`, "entry 1: want an object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all, err := webhook.ParseSecrets([]byte(tt.text))
			switch {
			case tt.want == "" && (err != nil || all == nil):
				t.Errorf("%v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			case err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), newest)):
				t.Errorf("the error repeats the text: %v", err)
			}
		})
	}
}

func TestNothingIsSentUnsigned(t *testing.T) {
	t.Parallel()
	r := receive(t, ok)
	expired := secrets(t, `[{"name": "a", "secret": "`+newest+`", "expires": "2026-01-01T00:00:00Z"}]`)
	for name, all := range map[string]func() *webhook.Secrets{
		"no secret is known": func() *webhook.Secrets { return nil },
		"all have expired":   expired,
	} {
		s, url := sender(t, r, all, "127.0.0.1")
		if err := s.Send(t.Context(), url, "msg_1", []byte(event)); !errors.Is(err, webhook.ErrNoSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(0, len(r.all())); diff != "" {
		t.Errorf("what arrived (-want +got):\n%s", diff)
	}
}
