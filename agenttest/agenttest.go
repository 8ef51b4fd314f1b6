// Package agenttest runs an agent in a test as it is deployed: the whole service, with
// sessions, limits and tools, on a model that the test scripts.
//
//	s := agenttest.Start(t, advisor.New)
//	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25 dollars."))
//	answer := s.Ask("What is a euro worth?")
//	if answer.Tools[0].Output["rate"] != 1.25 { … }
//
// An [Answer] holds what the service answered, the tools that were called, and what was
// sent to the model. [Golden] runs conversations that are written in files.
package agenttest

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/trial"
)

// A Service is an agent behind the gate. It ends with the test. Its methods are safe
// for concurrent use.
type Service struct {
	t     testing.TB
	trial *trial.Service
	model *scripted
}

// Start starts the agent that newAgent makes, with the variables env, each
// "NAME=value" as docs/configuration.md has them, and nothing of the process's own
// environment: sessions are in memory and callers anonymous unless env has other
// values. With MODEL, what is sent is fit for that model, such as its thinking. It fails the
// test when the service does not get ready.
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
	s, err := trial.Start(t.Context(), server.Options{
		Agent: newAgent, Log: t.Output(),
		Lookup:  func(name string) (string, bool) { value, ok := variables[name]; return value, ok },
		StandIn: &server.StandIn{Model: cmp.Or(variables["MODEL"], offline.Model), Transport: model},
	})
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("agenttest: ending the service: %v", err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	if err != nil {
		t.Fatalf("agenttest: %v", err)
	}
	return &Service{t: t, trial: s, model: model}
}

// Model adds replies to the script: the model answers its next requests with them, in
// order. Once the script is at its end, the offline stand-in answers, which calls tools
// by the words of the question.
func (s *Service) Model(replies ...Reply) {
	for _, r := range replies {
		s.model.add(r.reply)
	}
}

// A Request is a question with what may come with it.
type Request struct {
	Query     string
	SessionID string         // to continue; "" begins a session
	Stream    bool           // asks for an event stream
	Body      map[string]any // other fields of POST /invoke, such as "temperature"
	Header    http.Header    // such as X-End-User
}

// An Answer is what the service answered, and how.
type Answer struct {
	Status    int    // of HTTP; 200 for an answer, and for a stream that ended with an error
	Error     string // the code of an error; "" for an answer
	Message   string
	Text      string
	SessionID string
	Turn      int
	Tools     []ToolCall
	Sources   []Source
	Data      map[string]any // all of the answer's data: "usage", "warnings", "output", "files"
	Events    []Event        // of a stream, in order; without a stream none
	Sent      []Sent         // the requests to the model, in order
}

// A ToolCall is one that the model made, with the result that it received. Numbers are
// float64, or json.Number where that would lose an integer's digits; so they are in Data.
type ToolCall struct {
	Name   string
	Args   map[string]any // nil: none, or no request to the model followed
	OK     bool
	Output map[string]any
}

// An Event is one of an event stream. The OpenAPI document lists them.
type Event struct {
	ID   string
	Name string // "start", "delta", "tool_call", …
	Data map[string]any
}

// Sent is a request to the model.
type Sent struct {
	Model       string
	Stream      bool
	Instruction string                       // the system instruction
	Contents    []*genai.Content             // the history, the question, and the tools' calls and results so far
	Tools       []string                     // the names of the functions that the model may call
	Settings    *genai.GenerateContentConfig // what else was asked for: thinking, safety, the answer's schema, Gemini's own tools
	Body        map[string]any               // the whole request, in the API's JSON form
}

// Ask asks query in a new session. An answer that is an error has its code in Error.
func (s *Service) Ask(query string) Answer {
	s.t.Helper()
	return s.Do(Request{Query: query})
}

// Do asks r. It fails the test only when what comes back is not the service's answer.
func (s *Service) Do(r Request) Answer {
	s.t.Helper()
	got, err := s.trial.Ask(s.t.Context(), trial.Question(r))
	if err != nil {
		s.t.Fatalf("agenttest: %v", err)
	}
	return newAnswer(got)
}

func newAnswer(got trial.Answer) Answer {
	a := Answer{
		Status: got.Status, Error: got.Error, Message: got.Message, Text: got.Text,
		SessionID: got.SessionID, Turn: got.Turn, Data: got.Data,
	}
	for _, call := range got.Tools {
		a.Tools = append(a.Tools, ToolCall(call))
	}
	sources, _ := got.Data["sources"].([]any)
	for _, each := range sources {
		source, _ := each.(map[string]any)
		title, _ := source["title"].(string)
		uri, _ := source["uri"].(string)
		a.Sources = append(a.Sources, Source{Title: title, URI: uri})
	}
	for _, event := range got.Events {
		a.Events = append(a.Events, Event(event))
	}
	for _, sent := range got.Sent {
		a.Sent = append(a.Sent, Sent(sent))
	}
	return a
}

// scripted is the model's transport: the script first, then the offline stand-in.
type scripted struct {
	gemini  *geminitest.Server
	target  *url.URL
	offline http.RoundTripper

	mu     sync.Mutex
	left   int // of the script
	beyond int // requests that came without a script
}

func (m *scripted) add(r geminitest.Reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left++
	m.gemini.Enqueue(r)
}

// take reports whether the next request is the script's.
func (m *scripted) take() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		m.beyond++
		return false
	}
	m.left--
	return true
}

// counts returns the number of replies that are left of the script, and of requests
// that the offline stand-in answered.
func (m *scripted) counts() (left, beyond int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left, m.beyond
}

// RoundTrip implements http.RoundTripper.
func (m *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || !m.take() {
		return m.offline.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = m.target.Scheme, m.target.Host, m.target.Host
	return http.DefaultTransport.RoundTrip(r)
}
