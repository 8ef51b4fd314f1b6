// Package egress keeps outbound HTTP to addresses of the public internet. What a
// caller, a model or another server names as a URL could otherwise reach what only
// this process can: the platform's metadata server, the project's network, the machine
// itself.
//
// The check is of the address that is about to be connected to, after resolution, so
// that a name that resolves differently the second time gains nothing. Each hop of a
// redirect is another connection and is checked too; [Guard.Client] follows none.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// A Guard decides which addresses may be connected to. The zero Guard admits only
// public ones.
type Guard struct {
	// Allow are admitted besides public addresses: [Loopback] in development and tests,
	// or the range of a network that is meant to be reached.
	Allow []netip.Prefix

	// Resolver looks names up; nil is net.DefaultResolver.
	Resolver *net.Resolver
}

// Loopback are this machine's own addresses, for [Guard.Allow].
var Loopback = prefixes("127.0.0.0/8", "::1/128")

// An AddressError is the refusal of an address.
type AddressError struct{ Addr netip.Addr }

func (e *AddressError) Error() string { return "address " + e.Addr.String() + " is not public" }

// refused4 are the IPv4 ranges that are not the public internet
// (https://www.iana.org/assignments/iana-ipv4-special-registry), and one address of a
// cloud's host that lies outside them.
var refused4 = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/3", // multicast, reserved, broadcast
	"168.63.129.16/32",
)

// public6 is all of IPv6 that is assigned as global unicast, and refused6 what is
// special in it: Teredo and other protocols, documentation, 6to4
// (https://www.iana.org/assignments/iana-ipv6-special-registry). NAT64, unique local,
// link-local and multicast addresses are outside public6.
var (
	public6  = netip.MustParsePrefix("2000::/3")
	refused6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

// prefixes parses constants: it panics for one that is not a prefix.
func prefixes(texts ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		parsed[i] = netip.MustParsePrefix(text)
	}
	return parsed
}

// Check returns an [AddressError] for an address that g does not admit. An IPv4 address
// that is mapped into IPv6 is judged as the IPv4 address.
func (g Guard) Check(addr netip.Addr) error {
	plain := addr.Unmap()
	if within(g.Allow, plain) || isPublic(plain) {
		return nil
	}
	return &AddressError{addr}
}

// isPublic reports whether addr is reachable from anywhere. IPv6 is allowed by the one range
// that is assigned, IPv4 by exclusion: its special ranges are scattered over all of it.
func isPublic(addr netip.Addr) bool {
	if addr.Is4() {
		return !within(refused4, addr)
	}
	return public6.Contains(addr) && !within(refused6, addr) // a prefix contains no address with a zone
}

// within reports whether one of prefixes contains addr.
func within(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// ParseURL returns text as the URL of a server that may be asked: https, with a host,
// without user information. An address in the place of a name is checked here, and may
// be http where [Guard.Allow] admits it; so may localhost where loopback is allowed. A
// name is checked when it is connected to. The errors do not repeat text.
func (g Guard) ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, errors.New("not an absolute URL")
	case u.User != nil:
		return nil, errors.New("a URL must not hold a user name or password")
	case u.Scheme == "https" || u.Scheme == "http" && g.allowsPlain(u.Hostname()):
	default:
		return nil, errors.New("a URL must begin with https://")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := g.Check(addr); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// allowsPlain reports whether host is one that g allows by itself.
func (g Guard) allowsPlain(host string) bool {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && within(g.Allow, addr.Unmap())
}

// Transport returns a new transport that connects only where g admits it. It
// uses no proxy: a proxy would resolve and connect for itself.
func (g Guard) Transport() *http.Transport {
	dialer := &net.Dialer{
		Timeout:   10 * time.Second,
		KeepAlive: 30 * time.Second,
		Resolver:  g.Resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("the address of a connection: %w", err)
			}
			return g.Check(to.Addr())
		},
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		// A connection that died silently, as of a frozen instance, is found by a ping.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// Client returns a client over [Guard.Transport] that follows no redirect: the caller
// gets the redirect as the response. It has no timeout: a request's context bounds it.
func (g Guard) Client() *http.Client {
	return &http.Client{
		Transport:     g.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
