package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/api"
)

// routes answer with their own pattern and the path's value.
func routes() *api.Routes {
	list := []api.Route{
		{Method: "POST", Path: "/invoke"}, {Method: "POST", Path: "/"}, {Method: "GET", Path: "/"},
		{Method: "GET", Path: "/sessions"}, {Method: "DELETE", Path: "/sessions"},
		{Method: "GET", Path: "/sessions/{id}"}, {Method: "DELETE", Path: "/sessions/{id}"},
		{Method: "PUT", Path: "/sessions/{id}/turns/{turn}/feedback"},
	}
	return api.NewRoutes(list, func(route api.Route) api.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			return api.WriteSuccess(w, r, route.Pattern()+" "+r.PathValue("id")+" "+r.PathValue("turn"), nil)
		}
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method, path string
		status             int
		message            string // of a 200
		allow              string
	}{
		{"a path", "POST", "/invoke", 200, "POST /invoke  ", ""},
		{"the root", "POST", "/", 200, "POST /  ", ""},
		{"the root by another method", "GET", "/", 200, "GET /  ", ""},
		{"a value", "GET", "/sessions/abc", 200, "GET /sessions/{id} abc ", ""},
		{"two values", "PUT", "/sessions/abc/turns/7/feedback", 200, "PUT /sessions/{id}/turns/{turn}/feedback abc 7", ""},
		{"a value that is escaped", "GET", "/sessions/a%2Fb%20c", 200, "GET /sessions/{id} a/b c ", ""},
		{"a query", "GET", "/sessions?limit=1", 200, "GET /sessions  ", ""},
		{"HEAD, by GET's handler", "HEAD", "/sessions", 200, "GET /sessions  ", ""},
		{"a path nobody knows", "GET", "/nothing", 404, "", ""},
		{"a path below one", "POST", "/invoke/x", 404, "", ""},
		{"a slash too many at the end", "GET", "/sessions/", 404, "", ""},
		{"another case", "POST", "/Invoke", 404, "", ""},
		{"a method that is not there", "GET", "/invoke", 405, "", "POST"},
		{"a method that is not there, where there are several", "PUT", "/sessions/abc", 405, "", "DELETE, GET, HEAD"},
		{"a method that is not there, at the root", "DELETE", "/", 405, "", "GET, HEAD, POST"},
		{"OPTIONS", "OPTIONS", "/invoke", 405, "", "POST"},
		{"CONNECT", "CONNECT", "/invoke", 405, "", "POST"},
		{"CONNECT to another server", "CONNECT", "other.example:443", 404, "", ""},
		{"a method nobody knows", "BREW", "/sessions", 405, "", "DELETE, GET, HEAD"},
	}
	rs := routes()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			rs.ServeHTTP(w, request(t, tt.method, tt.path))
			if w.Code != tt.status || w.Header().Get("Allow") != tt.allow {
				t.Errorf("status %d, Allow %q; want %d, %q", w.Code, w.Header().Get("Allow"), tt.status, tt.allow)
			}
			e := read(t, w)
			if tt.status == 200 {
				if diff := cmp.Diff(e.Message, tt.message); diff != "" {
					t.Errorf("(-got +want):\n%s", diff)
				}
				return
			}
			want := map[int]string{404: "not_found", 405: "method_not_allowed"}[tt.status]
			if e.Success || e.Error == nil || *e.Error != want {
				t.Errorf("answer %s", w.Body)
			}
		})
	}
}

func TestPathsThatAreNotCleanAreRedirected(t *testing.T) {
	t.Parallel()
	rs := routes()
	for path, want := range map[string]string{"//invoke": "/invoke", "/a/../invoke": "/invoke", "/./invoke": "/invoke", "//": "/"} {
		w := httptest.NewRecorder()
		r := request(t, http.MethodPost, "/")
		r.URL.Path = path
		rs.ServeHTTP(w, r)
		if w.Code < 300 || w.Code > 399 || w.Header().Get("Location") != want {
			t.Errorf("%s: %d to %q, want a redirect to %s", path, w.Code, w.Header().Get("Location"), want)
		}
	}
}

// What a route does not answer itself has its form, and the envelope where it has none.
func TestFailInTheFormOfARoute(t *testing.T) {
	t.Parallel()
	own := func(w http.ResponseWriter, _ *http.Request, e *api.Error) error {
		w.WriteHeader(e.Status())
		_, err := w.Write([]byte("own"))
		return err
	}
	rs := api.NewRoutes([]api.Route{{Method: "POST", Path: "/own", Fail: own}, {Method: "POST", Path: "/"}}, func(api.Route) api.Handler { return nil })
	for target, want := range map[string]string{"/own": "own", "/": "", "/nothing": ""} {
		w := httptest.NewRecorder()
		rs.Fail(w, request(t, http.MethodPost, target), api.Fail(api.Overloaded, nil))
		if w.Code != 503 || want != "" && w.Body.String() != want || want == "" && *read(t, w).Error != "overloaded" {
			t.Errorf("%s: %d, %s", target, w.Code, w.Body)
		}
	}
}

// A HEAD answer has GET's headers and no body.
func TestHead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(routes())
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+"/sessions", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != 200 || answer.ContentLength <= 0 || answer.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d, %d bytes, %q", answer.StatusCode, answer.ContentLength, answer.Header.Get("Content-Type"))
	}
}
