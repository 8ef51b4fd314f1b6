package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testlog"
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

// A broken dialect cannot write a text.
type broken struct{ panics bool }

func (broken) Headers(http.Header) {}

func (d broken) Event(b *bytes.Buffer, e invoke.Event) error {
	switch {
	case e.Kind == "delta" && d.panics:
		panic("hunter2")
	case e.Kind == "delta":
		return errors.New("hunter2")
	}
	return invoke.AppendEvent(b, string(e.Kind), e.Envelope)
}

// What a door cannot write is an error of the service, in the door's form, and not a client
// that has left.
func TestADoorThatCannotWriteAnEvent(t *testing.T) {
	t.Parallel()
	for _, d := range []broken{{false}, {true}} {
		for _, disconnect := range []string{invoke.DisconnectCancel, invoke.DisconnectContinue} {
			gemini, log := geminitest.Start(t), &testlog.Buffer{}
			gemini.Enqueue(geminitest.Text("Hello", " Ada."))
			h, shutdown := gate.Handler(newAgent, gate.Log(log), environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL), gate.Door("broken", func(room server.Room) []api.Route {
				return []api.Route{{
					Method: http.MethodGet, Path: "/broken", Summary: "Ask.", Audit: api.AuditTurn,
					Doc: api.Doc{ID: "broken", Tag: api.TagAgent, Description: "Ask.", Answers: api.NoContent("None.")},
					Handler: func(w http.ResponseWriter, r *http.Request) error {
						req := invoke.Request{Query: "Hello", OnDisconnect: disconnect}
						return invoke.Show(w, r, d, room.Invoke.Asking(r.Context(), req))
					},
				}}
			}))
			status, body := call(t, h, http.MethodGet, "/broken", "")
			if status != http.StatusOK || !strings.HasSuffix(strings.TrimSpace(body), "}") || strings.Count(body, "event: ") != 2 || !strings.Contains(body, "event: error") ||
				!strings.Contains(body, `"error":"internal"`) || strings.Contains(body, "hunter2") {
				t.Errorf("%+v, %s: %d %s", d, disconnect, status, body)
			}
			_ = shutdown(context.Background())
			if text := log.String(); !strings.Contains(text, "writing the event delta") || strings.Contains(text, "client_closed_request") {
				t.Errorf("%+v, %s: %s", d, disconnect, text)
			}
		}
	}
}

// A door stays small.
func TestLinesOfADoor(t *testing.T) {
	t.Parallel()
	for _, door := range []string{"openai", "mcp", "a2a"} {
		files, err := filepath.Glob(filepath.Join(door, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(text, []byte("\n"))
		}
		if lines == 0 || lines > 900 {
			t.Errorf("gate/%s has %d lines, want at most 900", door, lines)
		}
		t.Logf("gate/%s has %d lines", door, lines)
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
