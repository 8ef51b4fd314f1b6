package gate_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/invoke"
)

// echo is a door whose protocol is the query in a URL, and which brings its own history.
func echo(room server.Room) []api.Route {
	s := room.Invoke
	return []api.Route{{
		Method: http.MethodGet, Path: "/echo", Summary: "Ask.", Audit: api.AuditTurn,
		Doc: api.Doc{ID: "echo", Tag: api.TagAgent, Description: "Ask.", Answers: api.NoContent("None.")},
		Handler: func(w http.ResponseWriter, r *http.Request) error {
			req := invoke.Request{Query: r.FormValue("q"), Options: invoke.Options{
				Sessionless: true,
				History:     []json.RawMessage{json.RawMessage(`[{"role":"user","parts":[{"text":"I am Ada."}]},{"role":"model","parts":[{"text":"Hello."}]}]`)},
			}}
			if err := req.Validate("q"); err != nil {
				return err
			}
			var kinds []string
			response, err := s.Ask(r.Context(), req, func(e invoke.Event) error {
				kinds = append(kinds, string(e.Kind))
				return nil
			})
			if err != nil {
				return err
			}
			_, err = w.Write([]byte(strings.Join(kinds, " ") + ": " + response.Response))
			return err
		},
	}}
}

func TestADoorStandsBesideTheOthers(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Enqueue(geminitest.Text("You are Ada."))
	h, shutdown := gate.Handler(newAgent, gate.Door("echo", echo),
		environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL), gate.Log(io.Discard))
	t.Cleanup(func() { _ = shutdown(t.Context()) })
	if status, body := call(t, h, http.MethodGet, "/echo?q=Who+am+I%3F", ""); status != http.StatusOK || body != "start delta done: You are Ada." {
		t.Errorf("%d: %s", status, body)
	}
	if status, body := call(t, h, http.MethodGet, "/echo?q=+", ""); status != http.StatusUnprocessableEntity || !strings.Contains(body, `"field":"q"`) {
		t.Errorf("%d: %s", status, body)
	}
	if sent := string(gemini.Requests()[0].Raw); !strings.Contains(sent, "I am Ada.") {
		t.Errorf("the model was sent %s", sent)
	}
	if _, body := call(t, h, http.MethodGet, "/sessions", ""); !strings.Contains(body, `"sessions":[]`) {
		t.Errorf("a run without a session left %s", body)
	}
	if _, body := call(t, h, http.MethodGet, "/openapi.json", ""); !strings.Contains(body, `"/echo"`) {
		t.Error("the door is in no document")
	}
}

// DOORS serves those that it names, and no other.
func TestDoorsAreSwitchedOff(t *testing.T) {
	t.Parallel()
	paths := map[string]string{"openai": "/v1/responses", "mcp": "/mcp", "a2a": "/a2a"}
	for _, value := range []string{"", "openai", "mcp", "a2a", "mcp,a2a", "none"} {
		t.Run("DOORS="+value, func(t *testing.T) {
			t.Parallel()
			h, shutdown := gate.Handler(newAgent, openai.Door(), mcp.Door(), a2a.Door(), gate.Log(io.Discard),
				environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:1", "DOORS="+value))
			t.Cleanup(func() { _ = shutdown(context.Background()) })
			_, document := call(t, h, http.MethodGet, "/openapi.json", "")
			for name, path := range paths {
				served := value == "" || strings.Contains(value, name)
				if status, body := call(t, h, http.MethodPost, path, "{}"); served == (status == http.StatusNotFound) {
					t.Errorf("%s: %d %s", path, status, body)
				}
				if strings.Contains(document, `"`+path+`"`) != served {
					t.Errorf("%s is in the document: %t", path, !served)
				}
			}
		})
	}
}
