package egress_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/gatehouse/internal/egress"
	"example.com/gatehouse/internal/egress/egresstest"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		addr    string
		allowed bool
	}{
		{"public IPv4", "8.8.8.8", true},
		{"public IPv4, mapped", "::ffff:8.8.8.8", true},
		{"public IPv6", "2606:4700:4700::1111", true},
		{"beside a private range", "172.32.0.1", true},
		{"beside the shared range", "100.128.0.1", true},
		{"loopback", "127.0.0.1", false},
		{"loopback, its far end", "127.255.255.254", false},
		{"loopback of IPv6", "::1", false},
		{"loopback, mapped", "::ffff:127.0.0.1", false},
		{"loopback, compatible", "::7f00:1", false},
		{"unspecified", "0.0.0.0", false},
		{"unspecified IPv6", "::", false},
		{"this network", "0.1.2.3", false},
		{"private, class A", "10.1.2.3", false},
		{"private, class B", "172.31.255.255", false},
		{"private, class C", "192.168.1.1", false},
		{"private, mapped", "::ffff:10.0.0.1", false},
		{"shared (carrier-grade NAT)", "100.64.0.1", false},
		{"Alibaba's metadata", "100.100.100.200", false},
		{"link-local", "169.254.1.1", false},
		{"the metadata server", "169.254.169.254", false},
		{"the metadata server, mapped", "::ffff:169.254.169.254", false},
		{"the metadata server by NAT64", "64:ff9b::a9fe:a9fe", false},
		{"the metadata server by local NAT64", "64:ff9b:1::a9fe:a9fe", false},
		{"the metadata server by 6to4", "2002:a9fe:a9fe::1", false},
		{"Teredo", "2001:0:a9fe:a9fe::1", false},
		{"Amazon's metadata by IPv6", "fd00:ec2::254", false},
		{"Azure's host", "168.63.129.16", false},
		{"Oracle's metadata", "192.0.0.192", false},
		{"link-local IPv6", "fe80::1", false},
		{"link-local IPv6 with a zone", "fe80::1%eth0", false},
		{"public with a zone", "2606:4700:4700::1111%eth0", false},
		{"site-local", "fec0::1", false},
		{"unique local", "fd12:3456::1", false},
		{"multicast", "224.0.0.1", false},
		{"multicast IPv6", "ff02::1", false},
		{"reserved", "240.0.0.1", false},
		{"broadcast", "255.255.255.255", false},
		{"benchmarks", "198.18.0.1", false},
		{"documentation", "203.0.113.7", false},
		{"documentation IPv6", "2001:db8::1", false},
		{"documentation IPv6, the newer", "3fff::1", false},
		{"6to4 relay", "192.88.99.1", false},
		{"unassigned IPv6", "4000::1", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := egress.Guard{}.Check(netip.MustParseAddr(test.addr))
			refused, ok := errors.AsType[*egress.AddressError](err)
			if (err == nil) != test.allowed || !test.allowed && (!ok || refused.Addr.String() != test.addr) {
				t.Errorf("%s: %v", test.addr, err)
			}
		})
	}
	if err := (egress.Guard{}).Check(netip.Addr{}); err == nil {
		t.Error("the zero address is admitted")
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	loopback := egress.Guard{Allow: egress.Loopback}
	network := egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}}
	tests := []struct {
		name    string
		guard   egress.Guard
		addr    string
		allowed bool
	}{
		{"loopback", loopback, "127.0.0.1", true},
		{"loopback of IPv6", loopback, "::1", true},
		{"loopback, mapped", loopback, "::ffff:127.0.0.1", true},
		{"public beside loopback", loopback, "8.8.8.8", true},
		{"metadata beside loopback", loopback, "169.254.169.254", false},
		{"private beside loopback", loopback, "10.8.0.1", false},
		{"a network", network, "10.8.0.1", true},
		{"a network beside it", network, "10.9.0.1", false},
		{"loopback beside a network", network, "127.0.0.1", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.guard.Check(netip.MustParseAddr(test.addr)); (err == nil) != test.allowed {
				t.Error(err)
			}
		})
	}
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	loopback := egress.Guard{Allow: egress.Loopback}
	tests := []struct {
		name  string
		guard egress.Guard
		url   string
		want  string // part of the error; "": none
	}{
		{"https", egress.Guard{}, "https://hooks.example.org/x?y=z", ""},
		{"a port", egress.Guard{}, "https://hooks.example.org:8443/", ""},
		{"a public address", egress.Guard{}, "https://8.8.8.8/", ""},
		{"plain http", egress.Guard{}, "http://hooks.example.org/", "https://"},
		{"another scheme", egress.Guard{}, "gopher://hooks.example.org/", "https://"},
		{"a file", egress.Guard{}, "file:///etc/passwd", "absolute"},
		{"a path", egress.Guard{}, "/x", "absolute"},
		{"no host", egress.Guard{}, "https://:443/", "absolute"},
		{"nonsense", egress.Guard{}, "https://[::1", "absolute"},
		{"a password", egress.Guard{}, "https://ada:hunter2@hooks.example.org/", "password"},
		{"the metadata server", egress.Guard{}, "https://169.254.169.254/", "not public"},
		{"an address in brackets", egress.Guard{}, "https://[::ffff:a9fe:a9fe]/", "not public"},
		{"loopback", egress.Guard{}, "https://127.0.0.1/", "not public"},
		{"loopback where it is allowed", loopback, "http://127.0.0.1:8080/", ""},
		{"localhost where it is allowed", loopback, "http://localhost:8080/", ""},
		{"a name in plain where loopback is allowed", loopback, "http://hooks.example.org/", "https://"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u, err := test.guard.ParseURL(test.url)
			switch {
			case test.want == "" && (err != nil || u.String() != test.url):
				t.Errorf("%v, %v", u, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want one with %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error repeats the URL: %v", err)
			}
		})
	}
}

// resolver returns one that answers every question for an IPv4 address with the next
// of addrs, the last for ever, and how many it has answered.
func resolver(t *testing.T, addrs ...string) (*net.Resolver, *atomic.Int64) {
	var asked atomic.Int64
	return egresstest.Resolver(t, func(_ string, ipv6 bool) []netip.Addr {
		if ipv6 {
			return nil
		}
		n := int(asked.Add(1))
		return []netip.Addr{netip.MustParseAddr(addrs[min(n, len(addrs))-1])}
	}), &asked
}

// server counts its requests.
func server(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s, &requests
}

func port(t *testing.T, s *httptest.Server) string {
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func get(t *testing.T, client *http.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func TestConnecting(t *testing.T) {
	t.Parallel()
	s, requests := server(t, func(http.ResponseWriter, *http.Request) {})
	inner := "http://rebind.test:" + port(t, s) + "/"
	refused := func(t *testing.T, err error) {
		t.Helper()
		if _, ok := errors.AsType[*egress.AddressError](err); !ok {
			t.Errorf("error %v, want an AddressError", err)
		}
		if n := requests.Load(); n != 0 {
			t.Errorf("the server had %d requests", n)
		}
	}

	_, err := get(t, egress.Guard{}.Client(), s.URL)
	refused(t, err)

	names, asked := resolver(t, "127.0.0.1")
	_, err = get(t, egress.Guard{Resolver: names}.Client(), inner)
	refused(t, err)
	if asked.Load() == 0 {
		t.Error("the resolver was not asked")
	}

	names, _ = resolver(t, "127.0.0.1")
	resp, err := get(t, egress.Guard{Allow: egress.Loopback, Resolver: names}.Client(), inner)
	if err != nil || resp.StatusCode != http.StatusOK || requests.Load() != 1 {
		t.Errorf("where loopback is allowed: %v, %d requests", err, requests.Load())
	}
}

// A name that resolves to an admitted address first and to an inner one afterwards is
// refused at the second connection.
func TestRebinding(t *testing.T) {
	t.Parallel()
	s, requests := server(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	names, asked := resolver(t, "127.0.0.1", "169.254.169.254")
	client := egress.Guard{Allow: egress.Loopback, Resolver: names}.Client()
	if _, err := get(t, client, "http://rebind.test:"+port(t, s)+"/"); err != nil {
		t.Fatal(err)
	}
	_, err := get(t, client, "http://rebind.test:"+port(t, s)+"/")
	refused, ok := errors.AsType[*egress.AddressError](err)
	if !ok || refused.Addr.String() != "169.254.169.254" || requests.Load() != 1 || asked.Load() != 2 {
		t.Errorf("%v, %d requests, %d look-ups", err, requests.Load(), asked.Load())
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/computeMetadata/v1/", http.StatusFound)
	})
	guard := egress.Guard{Allow: egress.Loopback}
	resp, err := get(t, guard.Client(), s.URL)
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Errorf("a client follows no redirect: %v", err)
	}
	_, err = get(t, &http.Client{Transport: guard.Transport()}, s.URL)
	if refused, ok := errors.AsType[*egress.AddressError](err); !ok || refused.Addr.String() != "169.254.169.254" {
		t.Errorf("a client that follows redirects: %v", err)
	}
}

// The environment's proxy would connect in the guard's place.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	if (egress.Guard{}).Transport().Proxy != nil {
		t.Error("the transport has a proxy")
	}
}
