// Package geminitest is a stand-in for the Gemini API in tests and benchmarks: an HTTP
// server on loopback with scripted responses, so that the real SDK runs against it. It
// implements both backends, the Developer API and Vertex AI, unary responses and event
// streams, and failures: errors, closed connections, silence, and a proxy's pages.
//
//	gemini := geminitest.Start(t)
//	gemini.Enqueue(
//		geminitest.Calls(geminitest.FunctionCall{Name: "weather"}),
//		geminitest.Text("It is ", "sunny.").WithUsage(geminitest.Usage{Prompt: 100, Output: 7}),
//	)
//	// … run the code under test with GOOGLE_GEMINI_BASE_URL set to gemini.URL …
//	requests := gemini.Requests()
//
// The same [Reply] serves generateContent, which returns it whole, and
// streamGenerateContent, which returns it chunk by chunk.
package geminitest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	maxBody     = 32 << 20 // bytes of a request
	maxRequests = 10_000   // kept for Requests; later ones are not recorded
)

// A Server is a Gemini API with scripted responses. Its methods are safe for
// concurrent use.
type Server struct {
	// URL is the server's address without a path, as GOOGLE_GEMINI_BASE_URL and
	// GOOGLE_VERTEX_BASE_URL expect.
	URL string

	done chan struct{} // closed when the test ends, to release all waits

	mu       sync.Mutex
	queue    []Reply
	handler  func(Request) Reply
	quiet    bool
	retired  []string // models that the API no longer has
	requests []*Request
	metadata int
	changed  chan struct{} // closed and replaced when requests changes
}

// A Request is one recorded model call.
type Request struct {
	Path   string
	Query  url.Values
	Header http.Header
	Model  string         // from the path, such as "gemini-3.5-flash-lite"
	Stream bool           // by streamGenerateContent
	Body   map[string]any // decoded; nil if it is not one JSON object
	Raw    []byte         // as received
	Time   time.Time      // when the body was complete

	// Cancelled is when the client disconnected before the end of the response; zero
	// if it did not.
	Cancelled time.Time
}

// Contents returns the conversation in the request.
func (r Request) Contents() []map[string]any {
	list, _ := r.Body["contents"].([]any)
	contents := make([]map[string]any, 0, len(list))
	for _, content := range list {
		object, _ := content.(map[string]any)
		contents = append(contents, object)
	}
	return contents
}

// Prompt returns the text of the last content that has any: the question.
func (r Request) Prompt() string {
	for _, content := range slices.Backward(r.Contents()) {
		if text := TextOf(content); text != "" {
			return text
		}
	}
	return ""
}

// TextOf returns the joined text parts of a content, without thoughts.
func TextOf(content map[string]any) string {
	text := ""
	parts, _ := content["parts"].([]any)
	for _, part := range parts {
		object, _ := part.(map[string]any)
		if thought, _ := object["thought"].(bool); thought {
			continue
		}
		piece, _ := object["text"].(string)
		text += piece
	}
	return text
}

// Start starts a server that runs until the test ends. Without a script it answers
// every call with a short text.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{done: make(chan struct{}), changed: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = server.URL
	t.Cleanup(func() {
		close(s.done)
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// Enqueue adds replies. Each is used once, in order, before the function given to
// Handle is called.
func (s *Server) Enqueue(replies ...Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, replies...)
}

// Handle sets the function that returns the reply to a call if the queue is empty. f
// must be safe for concurrent use.
func (s *Server) Handle(f func(Request) Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = f
}

// Quiet turns decoding and recording of requests off, for benchmarks: Requests does
// not change, and the function given to Handle sees no Body.
func (s *Server) Quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = true
}

// Retire makes the server return 404 for exactly these models, to calls and for their
// metadata, like an API that has shut them down.
func (s *Server) Retire(models ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = models
}

func (s *Server) isRetired(model string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.retired, model)
}

// Requests returns the model calls so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := make([]Request, len(s.requests))
	for i, r := range s.requests {
		requests[i] = *r
	}
	return requests
}

// Forget removes the recorded requests and the replies still queued.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.queue = nil, nil
}

// MetadataReads returns how often a model's metadata was requested.
func (s *Server) MetadataReads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metadata
}

// Await waits for n calls and returns the first n.
func (s *Server) Await(ctx context.Context, n int) ([]Request, error) {
	var requests []Request
	err := s.await(ctx, func() bool {
		requests = s.Requests()
		return len(requests) >= n
	})
	if err != nil {
		return nil, fmt.Errorf("geminitest: waiting for %d calls, had %d: %w", n, len(requests), err)
	}
	return requests[:n], nil
}

// AwaitCancelled returns call number i, from 0, once its client has disconnected.
func (s *Server) AwaitCancelled(ctx context.Context, i int) (Request, error) {
	var request Request
	err := s.await(ctx, func() bool {
		requests := s.Requests()
		if i >= len(requests) {
			return false
		}
		request = requests[i]
		return !request.Cancelled.IsZero()
	})
	if err != nil {
		return Request{}, fmt.Errorf("geminitest: waiting for the client of call %d to go: %w", i, err)
	}
	return request, nil
}

func (s *Server) await(ctx context.Context, holds func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// record records a request and returns its reply.
func (s *Server) record(r *Request, quiet bool) Reply {
	s.mu.Lock()
	if !quiet && len(s.requests) < maxRequests {
		s.requests = append(s.requests, r)
		s.signal()
	}
	handler := s.handler
	if len(s.queue) > 0 {
		reply := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		return reply
	}
	seen := *r
	s.mu.Unlock()
	if handler == nil {
		return Text("This is the stand-in's answer.")
	}
	return handler(seen)
}

// cancelled records that the client of r has disconnected.
func (s *Server) cancelled(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Cancelled = time.Now()
	s.signal()
}

// signal wakes the waiting calls of Await. The caller holds mu.
func (s *Server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// target matches a model's path on either backend, with the method.
var target = regexp.MustCompile(`^/v1(?:alpha|beta1?)?/(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?models/([^/:]+)(?::(\w+))?$`)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	path := target.FindStringSubmatch(r.URL.Path)
	switch {
	case path == nil:
		writeJSON(w, http.StatusNotFound, errorBody(http.StatusNotFound, "no such path"))
	case path[2] == "" && r.Method == http.MethodGet:
		s.mu.Lock()
		s.metadata++
		s.mu.Unlock()
		if s.isRetired(path[1]) {
			writeJSON(w, http.StatusNotFound, errorBody(http.StatusNotFound, "models/"+path[1]+" is not found"))
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"name": "models/" + path[1], "version": "001", "displayName": path[1],
			"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
			"supportedGenerationMethods": []string{"generateContent", "countTokens"},
		})
	case r.Method != http.MethodPost:
		writeJSON(w, http.StatusMethodNotAllowed, errorBody(http.StatusMethodNotAllowed, "no such method"))
	case path[2] == "generateContent":
		s.generate(w, r, path[1], false)
	case path[2] == "streamGenerateContent" && r.URL.Query().Get("alt") == "sse":
		s.generate(w, r, path[1], true)
	default:
		writeJSON(w, http.StatusNotFound, errorBody(http.StatusNotFound, "no such method"))
	}
}

func (s *Server) generate(w http.ResponseWriter, r *http.Request, model string, stream bool) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, errorBody(http.StatusBadRequest, "the body did not come whole"))
		return
	}
	s.mu.Lock()
	quiet := s.quiet
	s.mu.Unlock()
	request := &Request{Path: r.URL.Path, Model: model, Stream: stream, Time: time.Now()}
	if !quiet {
		request.Query, request.Header, request.Raw = r.URL.Query(), r.Header.Clone(), raw
		if json.Unmarshal(raw, &request.Body) != nil {
			request.Body = nil
		}
	}
	if s.isRetired(model) {
		writeJSON(w, http.StatusNotFound, errorBody(http.StatusNotFound, "models/"+model+" is not found"))
		return
	}
	reply := s.record(request, quiet)
	if err := reply.write(r.Context(), w, s.done, stream, model); err != nil {
		if r.Context().Err() != nil {
			s.cancelled(request)
		}
		panic(http.ErrAbortHandler) // closes the connection
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// errorBody returns an error in the form of Google's APIs.
func errorBody(status int, message string) map[string]any {
	name := map[int]string{
		http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED",
		http.StatusForbidden: "PERMISSION_DENIED", http.StatusNotFound: "NOT_FOUND",
		http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", http.StatusServiceUnavailable: "UNAVAILABLE",
	}[status]
	return map[string]any{"error": map[string]any{"code": status, "message": message, "status": cmp.Or(name, "INTERNAL")}}
}
