package playground_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/playground"
)

// handler serves a description at / and the page over it.
func handler() http.Handler {
	routes := playground.Add([]api.Route{{Method: "GET", Path: "/", Public: true, Handler: func(w http.ResponseWriter, r *http.Request) error {
		return api.WriteSuccess(w, r, "the description", nil)
	}}}, playground.Agent{})
	return api.NewRoutes(routes, func(route api.Route) api.Handler { return route.Handler })
}

func get(t testing.TB, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	handler().ServeHTTP(w, r)
	return w
}

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

func TestRootIsThePageForBrowsersAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, accept string
		status       int
		page         bool
	}{
		{"a browser", browser, 200, true},
		{"HTML alone", "text/html", 200, true},
		{"curl", "*/*", 200, false},
		{"JSON", "application/json", 200, false},
		{"nothing said", "", 200, false},
		{"a picture", "image/png", 406, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := get(t, "/", "Accept", tt.accept)
			if w.Code != tt.status || strings.Contains(w.Body.String(), "<!doctype html>") != tt.page {
				t.Errorf("%d %.100s", w.Code, w.Body)
			}
			if !strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Accept") {
				t.Errorf("Vary %q", w.Header().Values("Vary"))
			}
		})
	}
}

// files are the addresses that the page names, the page first.
func files(t testing.TB) []string {
	all := []string{"/"}
	for _, match := range regexp.MustCompile(`(?:src|href)="(playground/[^"]+)"`).FindAllStringSubmatch(get(t, "/", "Accept", browser).Body.String(), -1) {
		all = append(all, "/"+match[1])
	}
	return all
}

func TestFiles(t *testing.T) {
	t.Parallel()
	total, sent := 0, 0
	for _, path := range files(t) {
		plain, packed := get(t, path, "Accept", browser), get(t, path, "Accept", browser, "Accept-Encoding", "gzip, br")
		h := plain.Header()
		csp := h.Get("Content-Security-Policy")
		if plain.Code != 200 || packed.Code != 200 || packed.Header().Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: %d, %d, %v", path, plain.Code, packed.Code, packed.Header())
		}
		reader, err := gzip.NewReader(packed.Body)
		if err != nil {
			t.Fatal(err)
		}
		sent += len(packed.Body.Bytes())
		unpacked, err := io.ReadAll(reader)
		if err != nil || string(unpacked) != plain.Body.String() {
			t.Errorf("%s differs when it is packed: %v", path, err)
		}
		if !strings.HasPrefix(csp, "default-src 'none';") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if h.Get("Content-Type") == "" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
		for _, tag := range []string{h.Get("ETag"), `"x", W/` + h.Get("ETag"), "*"} {
			if again := get(t, path, "Accept", browser, "If-None-Match", tag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
				t.Errorf("%s, asked for again with %s: %d with %d bytes", path, tag, again.Code, again.Body.Len())
			}
		}
		if other := get(t, path, "Accept", browser, "If-None-Match", packed.Header().Get("ETag")); other.Code != http.StatusOK {
			t.Errorf("%s, asked for plain by a client that has it packed: %d", path, other.Code)
		}
		total += plain.Body.Len()
	}
	t.Logf("%d requests, %d bytes, %d packed", len(files(t)), total, sent)
	if sent > 120_000 {
		t.Errorf("the page has %d bytes on the wire, more than 120 KB", sent)
	}
	for _, path := range []string{"/playground/index.html", "/playground/nothing.js", "/playground/..%2fplayground.go", "/playground/"} {
		if w := get(t, path); w.Code != 404 || !strings.Contains(w.Body.String(), `"not_found"`) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := get(t, "/playground/app.js", "Accept-Encoding", "gzip;q=0"); w.Header().Get("Content-Encoding") != "" {
		t.Error("it is packed for a client that refuses that")
	}
}

// What the browser would refuse, or only show where nobody looks.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	html := get(t, "/", "Accept", browser).Body.String()
	for _, bad := range []string{`<style`, ` style=`, `<script>`, ` onclick=`, `javascript:`, `src="http`, `src="/`, `href="/`} {
		if strings.Contains(html, bad) {
			t.Errorf("the page holds %s", bad)
		}
	}
	for _, path := range files(t)[1:] {
		if strings.Contains(get(t, path).Body.String(), "innerHTML") {
			t.Errorf("%s speaks of innerHTML", path)
		}
	}
}
