// Package egresstest has a resolver for tests, which answers with the addresses that a
// test wants a name to have.
package egresstest

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver returns a resolver that asks lookup for all addresses of a name, at each
// question: once for those of IPv4, once for those of IPv6. lookup must be safe for
// concurrent use.
func Resolver(t testing.TB, lookup func(name string, ipv6 bool) []netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			if err := answer(server, lookup); err != nil {
				t.Errorf("egresstest: %v", err)
			}
		}()
		return client, nil
	}}
}

func answer(conn net.Conn, lookup func(string, bool) []netip.Addr) error {
	length := make([]byte, 2) // a pipe is no packet connection: the resolver speaks as over TCP
	if _, err := io.ReadFull(conn, length); err != nil {
		return nil //nolint:nilerr // the resolver has ended
	}
	question := make([]byte, int(length[0])<<8|int(length[1]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return nil //nolint:nilerr // as above
	}
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA {
		for _, addr := range lookup(strings.TrimSuffix(q.Name.String(), "."), q.Type == dnsmessage.TypeAAAA) {
			var body dnsmessage.ResourceBody
			if q.Type == dnsmessage.TypeA {
				body = &dnsmessage.AResource{A: addr.As4()}
			} else {
				body = &dnsmessage.AAAAResource{AAAA: addr.As16()}
			}
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: body})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	_, _ = conn.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...))
	return nil
}
