// Package agenttest runs an agent in a test as it is deployed: the whole service, with
// sessions, limits and tools, on a model that the test scripts.
//
//	s := agenttest.Start(t, advisor.New)
//	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25 dollars."))
//	answer := s.Ask("What is a euro worth?")
//	if answer.Tools[0].Output["rate"] != 1.25 { … }
package agenttest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/server"
)

// A Reply is what the model does with one call of it.
type Reply struct{ reply geminitest.Reply }

// Say is an answer of text.
func Say(text string) Reply { return Reply{geminitest.Text(text)} }

// Call is a call of the tool name with args.
func Call(name string, args map[string]any) Reply {
	return Reply{geminitest.Calls(geminitest.FunctionCall{Name: name, Args: args})}
}

// Fail is an error of the model's API with this status and message.
func Fail(status int, message string) Reply { return Reply{geminitest.Error(status, message)} }

// A Service is an agent behind the gate. It ends with the test. Its methods are safe
// for concurrent use.
type Service struct {
	t       testing.TB
	handler http.Handler
	model   *scripted
}

// Start starts the agent that newAgent makes, with the variables env, each
// "NAME=value" as docs/configuration.md has them, and nothing of the process's own
// environment: sessions are in memory and callers anonymous unless env has other values. It fails the test
// when the service does not get ready.
func Start(t testing.TB, newAgent agent.NewFunc, env ...string) *Service {
	t.Helper()
	variables := map[string]string{}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	gemini := geminitest.Start(t)
	target, err := url.Parse(gemini.URL)
	if err != nil {
		t.Fatal(err)
	}
	model := &scripted{gemini: gemini, target: target, offline: offline.New()}
	s := server.New(server.Options{
		Agent: newAgent, Log: t.Output(),
		Lookup:  func(name string) (string, bool) { value, ok := variables[name]; return value, ok },
		StandIn: &server.StandIn{Model: offline.Model, Transport: model},
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), server.ShutdownTime)
		defer cancel()
		if err := s.Drain(ctx); err != nil {
			t.Errorf("agenttest: ending the service: %v", err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatalf("agenttest: the service is not ready: %v", err)
	}
	return &Service{t: t, handler: s.Both, model: model}
}

// Model adds replies to the script: the model's next calls have them, in order. Once
// the script is at its end, the offline stand-in answers, which calls tools by the
// words of the question.
func (s *Service) Model(replies ...Reply) {
	for _, r := range replies {
		s.model.add(r.reply)
	}
}

// A Request is a question with what may come with it.
type Request struct {
	Query     string
	SessionID string      // to go on with; "" begins a session
	Header    http.Header // such as X-End-User
}

// An Answer is what the service answered.
type Answer struct {
	Status    int    // of HTTP; 200 for an answer
	Error     string // the code of an error; "" for an answer
	Message   string
	Text      string
	SessionID string
	Turn      int
	Tools     []ToolCall
}

// A ToolCall is one that the model made, with what it was told.
type ToolCall struct {
	Name   string
	OK     bool
	Output map[string]any
}

// Ask asks query in a new session. An answer that is an error has its code in Error.
func (s *Service) Ask(query string) Answer {
	s.t.Helper()
	return s.Do(Request{Query: query})
}

// Do asks r. It fails the test only when what comes back is not the service's answer.
func (s *Service) Do(r Request) Answer {
	s.t.Helper()
	body := map[string]any{"query": r.Query}
	if r.SessionID != "" {
		body["session_id"] = r.SessionID
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://127.0.0.1/invoke", bytes.NewReader(encoded))
	if r.Header != nil {
		request.Header = r.Header.Clone()
	}
	request.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, request)
	var envelope struct {
		Message string
		Error   *string
		Data    *struct {
			Response  string
			SessionID string `json:"session_id"`
			Turn      int
			ToolCalls []struct {
				Name string
				OK   bool
			} `json:"tool_calls"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &envelope); err != nil {
		s.t.Fatalf("agenttest: %d %s: %v", w.Code, w.Body, err)
	}
	a := Answer{Status: w.Code, Message: envelope.Message}
	if envelope.Error != nil {
		a.Error = *envelope.Error
	}
	if d := envelope.Data; d != nil && a.Error == "" {
		a.Text, a.SessionID, a.Turn = d.Response, d.SessionID, d.Turn
		outputs := s.model.outputs(r.Query)
		for i, call := range d.ToolCalls {
			made := ToolCall{Name: call.Name, OK: call.OK}
			if i < len(outputs) {
				made.Output = outputs[i]
			}
			a.Tools = append(a.Tools, made)
		}
	}
	return a
}

// scripted is the model's transport: the script first, then the offline stand-in. It
// keeps the contents of the calls, by the question that they are about.
type scripted struct {
	gemini  *geminitest.Server
	target  *url.URL
	offline http.RoundTripper

	mu      sync.Mutex
	left    int // of the script
	results map[string][]map[string]any
}

func (m *scripted) add(r geminitest.Reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left++
	m.gemini.Enqueue(r)
}

// outputs returns what the model was last told of the calls it made for query.
func (m *scripted) outputs(query string) []map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.results[strings.TrimSpace(query)]
}

// RoundTrip implements http.RoundTripper.
func (m *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost {
		return m.offline.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	m.note(body)
	m.mu.Lock()
	byScript := m.left > 0
	if byScript {
		m.left--
	}
	m.mu.Unlock()
	if !byScript {
		return m.offline.RoundTrip(r)
	}
	r.URL.Scheme, r.URL.Host, r.Host = m.target.Scheme, m.target.Host, m.target.Host
	return http.DefaultTransport.RoundTrip(r)
}

// note keeps what a call of the model is told of tools, since its last question.
func (m *scripted) note(body []byte) {
	var call struct {
		Contents []struct {
			Role  string
			Parts []struct {
				Text             string
				FunctionResponse *struct{ Response map[string]any }
			}
		}
	}
	if json.Unmarshal(body, &call) != nil {
		return
	}
	question, outputs := "", []map[string]any(nil)
	for _, content := range call.Contents {
		for _, part := range content.Parts {
			switch {
			case part.FunctionResponse != nil:
				outputs = append(outputs, part.FunctionResponse.Response)
			case part.Text != "" && content.Role == "user":
				question, outputs = part.Text, nil
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.results == nil {
		m.results = map[string][]map[string]any{}
	}
	m.results[question] = outputs
}
