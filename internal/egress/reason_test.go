package egress_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/egress"
	"example.com/gatehouse/internal/egress/egresstest"
)

// What each of these servers does is quoted by the text of net/http's error.
func TestReason(t *testing.T) {
	t.Parallel()
	raw := func(text string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(text))
				_ = c.Close()
			}
		}()
		return l.Addr().String()
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS10}
	old.StartTLS()
	t.Cleanup(old.Close)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()

	guard := egress.Guard{Allow: egress.Loopback, Resolver: egresstest.Resolver(t, func(string, bool) []netip.Addr { return nil })}
	for _, tt := range []struct{ name, url, want string }{
		{"a line that is not HTTP", "http://" + raw("quoted-secret\r\n\r\n"), "its response is not valid"},
		{"a status that is none", "http://" + raw("HTTP/1.1 quoted-secret\r\n\r\n"), "its response is not valid"},
		{"a header that is none", "http://" + raw("HTTP/1.1 200 OK\r\nquoted-secret\r\n\r\n"), "its response is not valid"},
		{"nothing", "http://" + raw(""), "the connection was lost"},
		{"HTTP where TLS is expected", "https://" + raw("HTTP/1.1 400 quoted-secret\r\n\r\n"), "TLS failed"},
		{"no TLS", "https://" + raw("quoted-secret"), "TLS failed"},
		{"an old TLS", old.URL, "TLS failed"},
		{"a certificate of nobody", untrusted.URL, "its certificate is not trusted"},
		{"no response", silent.URL, "it timed out"},
		{"nobody listens", closed.URL, "it refused the connection"},
		{"no such name", "https://quoted-secret.example", "its name cannot be resolved"},
		{"a private address", "https://10.0.0.8", "address 10.0.0.8 is not public"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := guard.Client()
			defer client.CloseIdleConnections()
			wait := 10 * time.Second
			if tt.url == silent.URL {
				wait = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, tt.url+"/?quoted-secret", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(r)
			if err == nil {
				_ = response.Body.Close()
				t.Fatal("no error")
			}
			got := egress.Reason(err)
			if got.Error() != tt.want || !errors.Is(got, err) || strings.Contains(got.Error(), "quoted") {
				t.Errorf("%q for %v, want %q", got, err, tt.want)
			}
		})
	}
}
