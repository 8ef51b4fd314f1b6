package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testlog"
)

// A door's routes stand behind the guard, with errors in the door's own form, unless
// DOORS has another's name.
func TestDoors(t *testing.T) {
	t.Parallel()
	door := func(name string) server.Door {
		return server.Door{Name: name, Routes: func(room server.Room) []api.Route {
			return []api.Route{{
				Method: http.MethodPost, Path: "/" + name, Summary: "A door.", Doc: api.Doc{ID: name, Tag: api.TagAgent},
				Handler: func(w http.ResponseWriter, r *http.Request) error {
					if room.Agent.Name != "an-agent" || room.Invoke == nil || room.Config == nil {
						t.Errorf("the room is %+v", room)
					}
					if r.Header.Get("X-Fault") != "" {
						panic("oh no")
					}
					_, err := w.Write([]byte(`{}`))
					return err
				},
				Fail: func(w http.ResponseWriter, _ *http.Request, e *api.Error) error {
					e.SetHeader(w.Header())
					w.WriteHeader(e.Status())
					_, err := w.Write([]byte(`{"own": "` + e.Sentence() + `"}`))
					return err
				},
			}}
		}}
	}
	open := func(env map[string]string) *server.Server {
		s := server.New(server.Options{
			Agent:   func(context.Context, agent.Env) (agent.Agent, error) { return agent.Agent{Name: "an-agent"}, nil },
			Log:     &testlog.Buffer{},
			Doors:   []server.Door{door("red"), door("blue")},
			Lookup:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
			StandIn: &server.StandIn{Model: "stand-in", Transport: http.DefaultTransport},
		})
		t.Cleanup(func() { _ = s.Drain(context.Background()) })
		return s
	}
	for _, test := range []struct {
		doors     string
		red, blue int // the status of each
	}{
		{"", 200, 200}, {"red,blue", 200, 200}, {"blue", 404, 200}, {"none", 404, 404}, {"green", 404, 404},
	} {
		s := open(map[string]string{"DOORS": test.doors})
		want := test.red
		if test.doors == "green" {
			if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "DOORS") {
				t.Errorf("an unknown door: %v", err)
			}
			continue
		}
		if got := call(t, s.Both, "POST", "/red"); got.status != want {
			t.Errorf("DOORS=%s: red is %d", test.doors, got.status)
		}
		if got := call(t, s.Both, "POST", "/blue"); got.status != test.blue {
			t.Errorf("DOORS=%s: blue is %d", test.doors, got.status)
		}
	}
	if got := call(t, open(nil).Both, "POST", "/red", "X-Fault", "1"); got.status != 500 || !strings.HasPrefix(got.text, `{"own": `) {
		t.Errorf("a panic: %d %s", got.status, got.text)
	}
	keys := `[{"name":"x","sha256":"` + strings.Repeat("0", 64) + `"}]`
	guarded := open(map[string]string{"AUTH": "api_key", "API_KEYS": keys})
	if got := call(t, guarded.Both, "POST", "/red"); got.status != 401 || got.text != `{"own": "You are not signed in, or your sign-in has expired. Sign in and try again."}` || got.header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a credential: %d %s", got.status, got.text)
	}
	unready := open(map[string]string{"REQUEST_TIMEOUT": "soon"})
	if got := call(t, unready.Both, "POST", "/red"); got.status != 503 || !strings.HasPrefix(got.text, `{"own": `) || got.header.Get("Retry-After") == "" {
		t.Errorf("not ready: %d %s", got.status, got.text)
	}
}
