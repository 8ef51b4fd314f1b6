package egress_test

import (
	"net/netip"
	"strings"
	"testing"

	"example.com/gatehouse/internal/egress"
)

// FuzzParseURL checks that a URL that is admitted is https, has a host and no password, names no
// address that is not public, and is admitted again as it is written.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.org/hook", "http://example.org", "https://127.0.0.1", "https://[::1]/", "https://[::ffff:169.254.169.254]/",
		"https://user:pass@example.org", "https://@example.org", "https://169.254.169.254:443/x", "https://[fe80::1%25eth0]/", "https://2130706433/",
		"https://0x7f.1/", "https://1.1.1.1:99999", "//example.org", "https:///x", "https://:443", "HTTPS://EXAMPLE.ORG#x", "https://exa mple.org",
		"https://[64:ff9b::7f00:1]/", "https://10.0.0.1.", "https://example.org:", "http://localhost:8080", "https://%31%32%37.0.0.1/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := egress.Guard{}.ParseURL(text)
		if err != nil {
			// One letter may be in any sentence.
			if len(text) > 30 && strings.Contains(err.Error(), text) {
				t.Errorf("the error repeats the URL: %v", err)
			}
			return
		}
		if u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			t.Errorf("%q is admitted as %v", text, u)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
			if plain := addr.Unmap(); plain.IsLoopback() || plain.IsPrivate() || plain.IsLinkLocalUnicast() || plain.IsMulticast() || plain.IsUnspecified() {
				t.Errorf("%q is admitted with the address %v", text, addr)
			}
		}
		again, err := egress.Guard{}.ParseURL(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q became %q: %v", text, u, err)
		}
	})
}

// FuzzCheck checks that an address that may be connected to is none of this machine's or its
// network's, in either form of an IPv4 address.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{"8.8.8.8", "10.0.0.1", "169.254.169.254", "::1", "fd20:ce::254", "2001:4860:4860::8888", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::1", "fe80::1"} {
		raw := netip.MustParseAddr(seed).AsSlice()
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		err := egress.Guard{}.Check(addr)
		if plain := addr.Unmap(); err == nil && !plain.IsGlobalUnicast() || err == nil && plain.IsPrivate() {
			t.Errorf("%v is admitted", addr)
		}
		if addr.Is4() {
			if mapped := (egress.Guard{}).Check(netip.AddrFrom16(addr.As16())); (mapped == nil) != (err == nil) {
				t.Errorf("%v: %v, mapped into IPv6: %v", addr, err, mapped)
			}
		}
		if err := (egress.Guard{Allow: []netip.Prefix{netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())}}).Check(addr); err != nil {
			t.Errorf("%v is allowed: %v", addr, err)
		}
	})
}
