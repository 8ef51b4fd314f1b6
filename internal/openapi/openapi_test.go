package openapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/openapi"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/invoke"
)

// doors are all that there are.
var doors = []gate.Option{mcp.Door(), openai.Door(), a2a.Door()}

// local is a service with this environment and these doors, as cmd/local serves it.
func local(t *testing.T, env map[string]string, doors ...gate.Option) http.Handler {
	t.Helper()
	o := testagent.Options(func(name string) (string, bool) { value, ok := env[name]; return value, ok }, io.Discard)
	for _, door := range doors {
		door(&o)
	}
	s := server.New(o)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.Both
}

func get(t *testing.T, h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// parsed is as much of a document as the tests look at.
type parsed struct {
	OpenAPI    string                          `json:"openapi"`
	Security   []map[string][]string           `json:"security"`
	Groups     map[string][]string             `json:"x-error-codes"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas         map[string]any            `json:"schemas"`
		SecuritySchemes map[string]map[string]any `json:"securitySchemes"`
	} `json:"components"`
}

type operation struct {
	ID         string                `json:"operationId"`
	Summary    string                `json:"summary"`
	Tags       []string              `json:"tags"`
	Security   []map[string][]string `json:"security"`
	Responses  map[string]any        `json:"responses"`
	Codes      []string              `json:"x-error-codes"`
	Parameters []map[string]any      `json:"parameters"`
}

func document(t *testing.T, h http.Handler) parsed {
	t.Helper()
	w := get(t, h, "/openapi.json")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, %s: %.200s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var d parsed
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Every route that is served is described, and nothing else is.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	h := local(t, nil, doors...)
	var listed struct {
		Data openapi.Description `json:"data"`
	}
	if err := json.Unmarshal(get(t, h, "/").Body.Bytes(), &listed); err != nil {
		t.Fatal(err)
	}
	var served, described []string
	for _, endpoint := range listed.Data.Endpoints {
		served = append(served, endpoint.Method+" "+endpoint.Path)
	}
	ids := map[string]bool{}
	for path, item := range document(t, h).Paths {
		for method, op := range item {
			described = append(described, strings.ToUpper(method)+" "+path)
			if op.ID == "" || ids[op.ID] || op.Summary == "" || len(op.Tags) != 1 || op.Tags[0] == "" || len(op.Responses) == 0 {
				t.Errorf("%s %s: id %q, summary %q, tags %q", method, path, op.ID, op.Summary, op.Tags)
			}
			ids[op.ID] = true
		}
	}
	for _, route := range served {
		if !slices.Contains(described, route) {
			t.Errorf("%s is served and not in the document", route)
		}
	}
	for _, route := range described {
		if !slices.Contains(served, route) {
			t.Errorf("%s is described and not served", route)
		}
	}
}

// Every error of the table is some operation's, but what no operation can be
// answered with.
func TestEveryErrorIsDescribed(t *testing.T) {
	t.Parallel()
	described := map[string]bool{string(api.MethodNotAllowed): true}
	d := document(t, local(t, map[string]string{"AUTH": "api_key,none", "API_KEYS": keys}))
	for _, codes := range d.Groups {
		for _, code := range codes {
			described[code] = true
		}
	}
	for path, item := range d.Paths {
		for method, op := range item {
			for _, code := range op.Codes {
				described[code] = true
				if slices.Contains(d.Groups["all"], code) && !strings.HasPrefix(path, "/health/") {
					t.Errorf("%s %s repeats %s", method, path, code)
				}
			}
			if op.Responses["default"] == nil {
				t.Errorf("%s %s has no response for its errors", method, path)
			}
		}
	}
	for _, info := range api.Table() {
		if !described[string(info.Code)] {
			t.Errorf("%s is no operation's", info.Code)
		}
	}
}

const keys = `[{"name": "test", "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}]`

func TestSecurity(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		env     map[string]string
		schemes []string
		private int // ways to call what needs a credential
		public  int // ways to call what does not, none at all among them
		refused bool
	}{
		{"nobody needs a credential", map[string]string{"AUTH": "none"}, nil, 0, 0, false},
		{"a key", map[string]string{"AUTH": "api_key", "API_KEYS": keys}, []string{"apiKey"}, 1, 2, true},
		{"a key or nothing", map[string]string{"AUTH": "api_key,none", "API_KEYS": keys}, []string{"apiKey"}, 2, 2, true},
		{"a token of an issuer, or a key", map[string]string{"AUTH": "oidc,api_key", "API_KEYS": keys, "OIDC_ISSUERS": "https://issuer.example.com|audience"},
			[]string{"apiKey", "oidc"}, 2, 3, true},
		{"behind IAP", map[string]string{"AUTH": "oidc", "OIDC_ISSUERS": "https://cloud.google.com/iap|/projects/1/global/backendServices/2"}, []string{"iap"}, 1, 2, true},
		{"behind Cloud Run's check", map[string]string{"AUTH": "iam", "IAM_ENFORCED": "true", "K_SERVICE": "invoke", "ENVIRONMENT": "test"},
			[]string{"iam", "iamServerless"}, 2, 3, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := document(t, local(t, test.env))
			var schemes []string
			for name := range d.Components.SecuritySchemes {
				schemes = append(schemes, name)
			}
			slices.Sort(schemes)
			if !slices.Equal(schemes, test.schemes) {
				t.Errorf("schemes %q, want %q", schemes, test.schemes)
			}
			private, public := d.Paths["/invoke"]["post"], d.Paths["/docs"]["get"]
			if private.Security == nil {
				private.Security = d.Security
			}
			if public.Security == nil {
				public.Security = d.Security
			}
			if len(private.Security) != test.private || len(public.Security) != test.public {
				t.Errorf("%v for /invoke and %v for /docs", private.Security, public.Security)
			}
			if probe := d.Paths["/health/live"]["get"]; len(probe.Security) != 0 || d.Security != nil && probe.Security == nil {
				t.Errorf("%v for a probe", probe.Security)
			}
			if refused := slices.Contains(d.Groups["all"], "unauthenticated"); refused != test.refused {
				t.Errorf("unauthenticated is described: %t", refused)
			}
		})
	}
}

// The document is small, with all doors: what operations share is referred to.
func TestTheDocumentIsSmallAndPacked(t *testing.T) {
	t.Parallel()
	h := local(t, map[string]string{"AUTH": "api_key,none", "API_KEYS": keys}, doors...)
	plain, packed := get(t, h, "/openapi.json"), get(t, h, "/openapi.json", "Accept-Encoding", "gzip")
	if n := plain.Body.Len(); n > 60_000 {
		t.Errorf("%d bytes", n)
	}
	if n := packed.Body.Len(); n > 13_000 || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("%d bytes packed: %q", n, packed.Header())
	}
	if plain.Header().Get("ETag") == packed.Header().Get("ETag") {
		t.Error("both forms have one entity tag")
	}
}

// What the configuration bounds, the document says.
func TestConfiguredLimits(t *testing.T) {
	t.Parallel()
	w := get(t, local(t, map[string]string{"MAX_OUTPUT_TOKENS": "1234", "MAX_BODY_BYTES": "54321", "RATE_LIMIT_PER_MINUTE": "77"}), "/openapi.json")
	for _, want := range []string{`"maximum":1234`, "54321 bytes", "| 77, 600;"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	h := local(t, nil)
	for _, path := range []string{"/openapi.json", "/docs", "/docs/page.js", "/docs/swagger-ui-bundle.js"} {
		tag := get(t, h, path).Header().Get("ETag")
		tests := []struct {
			name, value string
			status      int
		}{
			{"its own tag", tag, 304},
			{"its own tag, weak", "W/" + tag, 304},
			{"one of several", `"x", ` + tag, 304},
			{"any", "*", 304},
			{"another", `"x"`, 200},
			{"not a tag", "x", 200},
		}
		for _, test := range tests {
			w := get(t, h, path, "If-None-Match", test.value)
			if w.Code != test.status || w.Header().Get("ETag") != tag || (w.Body.Len() > 0) != (test.status == 200) {
				t.Errorf("%s, %s: status %d, ETag %s, %d bytes", path, test.name, w.Code, w.Header().Get("ETag"), w.Body.Len())
			}
		}
	}
}

func TestPackedFiles(t *testing.T) {
	t.Parallel()
	h := local(t, nil)
	plain := get(t, h, "/docs/swagger-ui.css")
	if plain.Header().Get("Content-Encoding") != "" || !strings.Contains(plain.Body.String(), ".swagger-ui") {
		t.Errorf("packed for a client that did not ask: %q", plain.Header())
	}
	tests := []struct {
		accept string
		packed bool
	}{
		{"gzip", true}, {"br, GZIP;q=0.5", true}, {"*", true}, {"gzip; q=0", false}, {"*, gzip;q=0", false}, {"br", false}, {"gzip;q=x", false},
	}
	for _, test := range tests {
		w := get(t, h, "/docs/swagger-ui.css", "Accept-Encoding", test.accept)
		if packed := w.Header().Get("Content-Encoding") == "gzip"; packed != test.packed || w.Code != 200 {
			t.Errorf("Accept-Encoding %q: status %d, packed %t", test.accept, w.Code, packed)
		}
		if !slices.Contains(w.Header().Values("Vary"), "Accept-Encoding") {
			t.Errorf("Vary: %q", w.Header().Values("Vary"))
		}
	}
	if w := get(t, h, "/docs/nothing.js"); w.Code != 404 || !strings.Contains(w.Body.String(), "not_found") {
		t.Errorf("a file that is not there: %d %s", w.Code, w.Body)
	}
}

// A browser, or a tool that takes nothing but HTML, gets the page.
func TestAnyAcceptHeader(t *testing.T) {
	t.Parallel()
	h := local(t, nil)
	for _, path := range []string{"/docs", "/openapi.json", "/docs/page.css"} {
		if w := get(t, h, path, "Accept", "text/html"); w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// Making the document is part of one request, not of the start.
func BenchmarkDocument(b *testing.B) {
	s := server.New(testagent.Options(func(string) (string, bool) { return "", false }, io.Discard))
	if err := s.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := openapi.Rebuild(s.Config, (*invoke.Service)(nil).Routes()); err != nil {
			b.Fatal(err)
		}
	}
}
