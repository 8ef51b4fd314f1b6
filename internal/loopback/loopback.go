// Package loopback recognizes this machine's own addresses. What is there is
// trusted as the machine itself is: it may be spoken to in plaintext.
package loopback

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Host reports whether host, without a port, is this machine for every
// resolver: localhost, or an address of 127.0.0.0/8 or ::1.
func Host(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// HostPort is Host for host or host:port, as in an HTTP Host header; an IPv6
// address may be in brackets.
func HostPort(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return Host(host)
}

// HTTP reports whether u is plain HTTP to this machine.
func HTTP(u *url.URL) bool { return u.Scheme == "http" && Host(u.Hostname()) }

// URL is Host for the server of an absolute URL.
func URL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && Host(u.Hostname())
}
