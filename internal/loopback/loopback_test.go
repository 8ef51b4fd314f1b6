package loopback

import "testing"

func TestHostPort(t *testing.T) {
	for hostport, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]": true, "[::1]:80": true, "::1": true,
		"[::ffff:127.0.0.1]:80": true,
		"":                      false, ":8080": false, "0.0.0.0:80": false, "example.com": false, "localhost.example.com:80": false,
		"127.0.0.1.example.com": false, "10.0.0.1:80": false, "LOCALHOST.": false, "[::2]:80": false,
	} {
		if got := HostPort(hostport); got != want {
			t.Errorf("HostPort(%q) = %v", hostport, got)
		}
	}
}

func TestURL(t *testing.T) {
	for text, want := range map[string]bool{
		"http://127.0.0.1:9/": true, "https://localhost": true, "http://[::1]:9/x": true,
		"": false, "127.0.0.1:9": false, "http://127.0.0.1@example.com/": false, "https://example.com/": false,
	} {
		if got := URL(text); got != want {
			t.Errorf("URL(%q) = %v", text, got)
		}
	}
}
