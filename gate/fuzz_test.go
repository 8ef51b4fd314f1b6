package gate_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/session"
)

// allDoors returns the service with all doors and the model within the process, for
// inputs of any form and number.
func allDoors(tb testing.TB) http.Handler { return allDoorsOn(tb, nil, io.Discard) }

// allDoorsOn is [allDoors] on a store, a new one for nil, and with a log.
func allDoorsOn(tb testing.TB, store session.Store, log io.Writer) http.Handler {
	env := map[string]string{
		"RATE_LIMIT_PER_MINUTE": "1000000", "CALLER_RATE_LIMIT_PER_MINUTE": "1000000", "LOG_LEVEL": "error", "AUDIT_LOG": "off", "CONVERSATION_HEADERS": "X-Conversation-Id",
	}
	o := testagent.Options(func(name string) (string, bool) { value, ok := env[name]; return value, ok }, log)
	o.Store = store
	for _, door := range []gate.Option{mcp.Door(), openai.Door(), a2a.Door()} {
		door(&o)
	}
	s := server.New(o)
	tb.Cleanup(func() { _ = s.Shutdown(tb.Context()) })
	if err := s.Ready(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s.Both
}

// knock sends a request and checks what holds for all answers: none is a fault of the
// service's, and what is JSON or an event stream can be read as such.
func knock(t *testing.T, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1/", strings.NewReader(body))
	u, err := url.Parse("http://127.0.0.1" + target)
	if err != nil {
		t.Skip("no URL, so no client can ask for it")
	}
	r.URL = u
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 500 && w.Code != http.StatusNotImplemented && w.Code != http.StatusServiceUnavailable {
		t.Fatalf("%s %s %q: %d %s", method, target, body, w.Code, w.Body)
	}
	text := w.Body.String()
	switch media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";"); media {
	case "application/json":
		if !json.Valid([]byte(text)) {
			t.Fatalf("%s %s %q: %q", method, target, body, text)
		}
	case "text/event-stream":
		lines := bufio.NewScanner(strings.NewReader(text))
		for lines.Buffer(nil, 8<<20); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && data != "[DONE]" && !json.Valid([]byte(data)) {
				t.Fatalf("%s %s %q: the event %q", method, target, body, data)
			}
		}
	}
	return w
}

// FuzzOpenAI checks that any body is answered, by an answer or by an error in OpenAI's form.
func FuzzOpenAI(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":null},{"role":"user","content":[{"type":"text","text":"q"}]}]}`,
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}},{"type":"input_audio","input_audio":{"format":"mp3","data":"eA=="}}]}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"input":"q","stream":true,"store":false}`, `{"input":[{"role":"user","content":"q"}],"conversation":{"id":"0123456789abcdef"}}`,
		`{"input":[{"type":"mcp_approval_response","approval_request_id":"x","approve":true}],"previous_response_id":"resp_MDEyMzQ1Njc4OWFiY2RlZi4wMTIzNDU2Nzg5YWJjZGVm"}`,
		`{"input":"q","previous_response_id":"resp_!","max_output_tokens":1,"text":{"format":{"type":"json_schema","schema":{}}}}`,
		`{"messages":"q","n":2}`, `{"input":7}`, `{"input":{}}`, `{"messages":[{"role":"user","content":{}}]}`, `{"messages":[null],"tools":[{}]}`, `{`, `null`, `{"input":"q","conversation":7,"temperature":1e400}`,
	} {
		f.Add(seed)
	}
	h := allDoors(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/chat/completions", "/v1/responses"} {
			w := knock(t, h, http.MethodPost, path, body)
			if w.Code < 400 {
				continue
			}
			var failed struct {
				Error struct{ Message, Type string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &failed); err != nil || failed.Error.Message == "" || failed.Error.Type == "" {
				t.Errorf("%s %q: %d %s", path, body, w.Code, w.Body)
			}
		}
	})
}

// FuzzMCP checks that any message is answered in JSON-RPC.
func FuzzMCP(f *testing.F) {
	const run = "0123456789abcdef.0123456789abcdef"
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask","arguments":{"query":"q"},"_meta":{"progressToken":1}}}`,
		`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"ask","arguments":{"query":"q","session_id":"0123456789abcdef"},"requestState":"` + run + `","inputResponses":{"c":{"action":"accept","content":{"approve":true}}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}`, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`,
		`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"look_up","arguments":{"n":1e400}}}`, `{}`, `null`, `[]`, `{"jsonrpc":"1.0","id":1.5,"method":7}`,
	} {
		f.Add(seed)
	}
	h := allDoors(f)
	f.Fuzz(func(t *testing.T, body string) {
		w := knock(t, h, http.MethodPost, "/mcp", body)
		media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
		if w.Code < 400 && w.Body.Len() > 0 && media != "application/json" && media != "text/event-stream" {
			t.Errorf("%q: %d %s %q", body, w.Code, media, w.Body)
		}
	})
}

// FuzzA2A checks that any message is answered in JSON-RPC.
func FuzzA2A(f *testing.F) {
	const run = "0123456789abcdef.0123456789abcdef"
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"q"}]}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"SendStreamingMessage","params":{"message":{"messageId":"m","contextId":"0123456789abcdef","role":"ROLE_USER","parts":[{"data":{"call_id":"c","approve":true}},{"file":{"bytes":"eA==","mimeType":"image/png"}}]}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"kind":"message","messageId":"m","role":"user","parts":[{"kind":"text","text":"q"}]}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"` + run + `","historyLength":-1}}`, `{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{"pageSize":-1,"pageToken":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/resubscribe","params":{"id":"` + run + `"}}`, `{"jsonrpc":"2.0","id":{},"method":"CancelTask","params":[]}`,
		`{"jsonrpc":"2.0","id":1,"method":"CreateTaskPushNotificationConfig","params":{"taskId":"` + run + `","config":{"url":"http://169.254.169.254"}}}`, `[]`, `null`, `{`,
	} {
		f.Add(seed)
	}
	h := allDoors(f)
	f.Fuzz(func(t *testing.T, body string) {
		w := knock(t, h, http.MethodPost, "/a2a", body)
		media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
		if media == "application/json" && !strings.Contains(w.Body.String(), `"jsonrpc":"2.0"`) && w.Body.Len() > 0 {
			t.Errorf("%q: %d %q", body, w.Code, w.Body)
		}
	})
}

// FuzzReferences checks that the ids, cursors and positions that clients hand back are found or
// refused, in any place where they are read.
func FuzzReferences(f *testing.F) {
	for _, seed := range [][3]string{
		{"0123456789abcdef.0123456789abcdef", "MS4wMTIzNDU2Nzg5YWJjZGVm", "01234567.0.0.0"}, {"0123456789abcdef", "-1", "1"}, {"..", "%00", "01234567.0.0.99999999999999999999"},
		{"resp_MDEyMzQ1Njc4OWFiY2RlZi4wMTIzNDU2Nzg5YWJjZGVm", "1e9", "01234567.-1.0.0"}, {"resp_", "", ""}, {"é\n", "9223372036854775808", "\x00"}, {"", "a b", "a.b.c.d"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	h := allDoors(f)
	f.Fuzz(func(t *testing.T, id, cursor, event string) {
		if strings.ContainsAny(event, "\r\n\x00") { // no server takes such a header
			event = ""
		}
		path, query := url.PathEscape(id), url.QueryEscape(cursor)
		for _, target := range []string{
			"/sessions?cursor=" + query, "/sessions?limit=" + query, "/sessions/" + path, "/sessions/" + path + "?after=" + query, "/sessions/" + path + "?limit=" + query,
			"/sessions/" + path + "/files/" + query, "/runs/" + path, "/runs/" + path + "/events", "/runs?cursor=" + query, "/runs?session_id=" + query, "/runs?state=" + query,
			"/chat/" + path, "/chat/" + path + "/stream", "/export?cursor=" + query, "/usage", "/v1/responses/" + path, "/v1/responses/" + path + "?stream=true&starting_after=" + query,
		} {
			knock(t, h, http.MethodGet, target, "", "Last-Event-ID", event)
		}
		knock(t, h, http.MethodPost, "/runs/"+path+"/stop", "{}")
		knock(t, h, http.MethodPost, "/runs/"+path+"/approvals", `{"call_id":"c","approve":true}`)
		knock(t, h, http.MethodPut, "/sessions/"+path+"/turns/"+query+"/feedback", `{"rating":"good"}`)
		knock(t, h, http.MethodPost, "/invoke", `{"query":"q"}`, "Idempotency-Key", event, "Prefer", event, "Accept-Language", event)
	})
}

// An ownersStore remembers whose sessions were asked for.
type ownersStore struct {
	*session.Memory
	mu    sync.Mutex
	owner session.Owner
}

func (s *ownersStore) List(ctx context.Context, owner session.Owner, limit int, cursor string) ([]session.Meta, string, error) {
	s.mu.Lock()
	s.owner = owner
	s.mu.Unlock()
	return s.Memory.List(ctx, owner, limit, cursor)
}

// A lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.log.String()
	b.log.Reset()
	return text
}

// FuzzStoredDocuments checks that a run's record and a turn in which somebody has changed
// anything end no request with a panic: what cannot be read is an error.
func FuzzStoredDocuments(f *testing.F) {
	const (
		request = `{"request":{"query":"q"},"options":{},"caller":{},"request_id":"r","model":"m"}`
		turn    = `{"id":"0123456789abcdef","contents":[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[{"text":"a"}]}],"parts":[{"kind":"delta","size":1}],"usage":{}}`
	)
	f.Add(uint8(0), request, `[{"kind":"delta","text":"a"}]`, `{"contents":[{"role":"user","parts":[{"text":"q"}]}],"parts":1,"step":1,"rounds":3}`, `{}`, turn)
	f.Add(uint8(0), request, `[{"kind":"tool_call","id":"c","name":"t"}]`, `{"contents":null,"parts":-1,"step":-1,"rounds":-9}`, `{"Effects":{"e":{"name":"t","step":1}}}`, turn)
	f.Add(uint8(1), request, `[{"kind":"approval","id":"c","name":"t"}]`, `{"contents":[{"parts":[{"functionCall":{"name":"t"}}]}],"waits":true,"ends":{"0":{}},"loop":{}}`, `{"Pending":[{"call_id":"c","name":"t"}],"Answers":{"c":null}}`, `{"contents":[null],"parts":[{"kind":"delta","size":-1}]}`)
	f.Add(uint8(2), `{`, `[null]`, `[]`, `{"Result":{"error":"x","details":[{}]},"Resets":[{"step":-1,"part":-1}]}`, `null`)
	f.Add(uint8(3), `null`, `null`, `{"contents":{}}`, `{"Result":[],"Deliveries":7,"Turn":-1,"Epoch":-5}`, `{"id":"0123456789abcdef","contents":[],"files":[{"digest":"x"}],"tool_calls":[{}],"pending":[{}],"output":7,"state_before":{"a":1}}`)
	f.Add(uint8(4), request, `[{"kind":"source","positions":[{"start":-1,"end":9}]},{"kind":"unknown"}]`, ``, `{}`, turn)
	states := []session.RunState{session.Working, session.Waiting, session.Done, session.Failed, session.Stopped, "unknown"}
	store := &ownersStore{Memory: session.NewMemory(time.Hour, 64<<20, time.Now, slog.New(slog.DiscardHandler))}
	log := new(lockedBuffer)
	h := allDoorsOn(f, store, log)
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://127.0.0.1/sessions", nil))
	if store.owner == "" {
		f.Fatal("no owner is known")
	}
	f.Fuzz(func(t *testing.T, state uint8, request, parts, checkpoint, rest, turn string) {
		run := new(session.Run)
		if json.Unmarshal([]byte(rest), run) != nil || json.Unmarshal([]byte(parts), &run.Parts) != nil {
			return
		}
		for _, document := range []string{request, turn} {
			if !json.Valid([]byte(document)) {
				return
			}
		}
		run.Key, run.ID = session.Key{Owner: store.owner, ID: session.NewID()}, session.NewID()
		run.State, run.Holder, run.KeyHash, run.Revision, run.Silent = states[int(state)%len(states)], "", "", nil, 0
		if run.Request = json.RawMessage(request); checkpoint != "" {
			run.Checkpoint = json.RawMessage(checkpoint)
		}
		if _, err := store.SaveRun(t.Context(), run); err != nil {
			return
		}
		var stored session.Turn
		if json.Unmarshal([]byte(turn), &stored) == nil {
			stored.ID = session.NewID()
			if len(stored.Contents) == 0 {
				stored.Contents = json.RawMessage("null")
			}
			_, _ = session.Commit(t.Context(), store, session.New(run.Key), stored, session.Conditions{})
		}
		id, in := session.RunID(run.Key.ID, run.ID), run.Key.ID
		for _, r := range []struct{ method, path, body string }{
			{"GET", "/runs/" + id, ""}, {"GET", "/runs", ""}, {"GET", "/runs/" + id + "/events", ""}, {"POST", "/runs/" + id + "/approvals", `{"call_id":"c","approve":true}`},
			{"POST", "/runs/" + id + "/stop", ""}, {"GET", "/sessions/" + in, ""}, {"GET", "/chat/" + in, ""}, {"GET", "/export", ""},
			{"POST", "/invoke", `{"query":"q","session_id":"` + in + `"}`}, {"POST", "/a2a", `{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"` + id + `"}}`}, {"DELETE", "/sessions/" + in, ""},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			request := httptest.NewRequestWithContext(ctx, r.method, "http://127.0.0.1"+r.path, strings.NewReader(r.body))
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Accept", "application/json, text/event-stream")
			func() {
				defer func() {
					if p := recover(); p != nil && p != http.ErrAbortHandler {
						panic(p)
					}
				}()
				h.ServeHTTP(httptest.NewRecorder(), request)
			}()
			cancel()
			if logged := log.take(); strings.Contains(logged, "panic: ") {
				t.Fatalf("%s %s: %s", r.method, r.path, logged)
			}
		}
	})
}
