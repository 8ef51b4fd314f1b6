// Package geminitest stands in for the Gemini API in tests and benchmarks: an
// HTTP server on loopback that answers what a test scripts, so that the real SDK
// runs against it. It speaks both of Gemini's backends, the Developer API and
// Vertex AI, whole answers and event streams, and the ways in which an answer
// fails: errors, cut connections, silence, pages of a proxy.
//
//	gemini := geminitest.Start(t)
//	gemini.Enqueue(
//		geminitest.Calls(geminitest.FunctionCall{Name: "weather"}),
//		geminitest.Text("It is ", "sunny.").WithUsage(geminitest.Usage{Prompt: 100, Output: 7}),
//	)
//	// … run what is tested with GOOGLE_GEMINI_BASE_URL set to gemini.URL …
//	requests := gemini.Requests()
//
// The same [Reply] serves generateContent, which gives it whole, and
// streamGenerateContent, which gives it chunk by chunk.
package geminitest

import (
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
	maxBody     = 32 << 20 // bytes of a request's body
	maxRequests = 10_000   // kept for Requests; later ones are answered and forgotten
)

// A Server is a Gemini API that answers what a test scripts. Its methods are
// safe for concurrent use, also while it serves.
type Server struct {
	// URL is the server's address, without a path: what GOOGLE_GEMINI_BASE_URL
	// and GOOGLE_VERTEX_BASE_URL take.
	URL string

	done chan struct{} // closed when the test ends: nobody waits any longer

	mu       sync.Mutex
	queue    []Reply
	handler  func(Request) Reply
	quiet    bool
	retired  []string // models that are gone
	requests []*Request
	metadata int
	changed  chan struct{} // closed, and made anew, when requests change
}

// A Request is one call of the model, as it came.
type Request struct {
	Path   string
	Query  url.Values
	Header http.Header
	Model  string         // from the path, such as "gemini-3.5-flash-lite"
	Stream bool           // streamGenerateContent
	Body   map[string]any // decoded; nil if it is not one JSON object
	Raw    []byte         // as it came
	Time   time.Time      // when the body had come

	// Cancelled is when the client went away before it had the answer; zero if
	// it did not.
	Cancelled time.Time
}

// Contents is the conversation that the request holds.
func (r Request) Contents() []map[string]any {
	list, _ := r.Body["contents"].([]any)
	contents := make([]map[string]any, 0, len(list))
	for _, content := range list {
		object, _ := content.(map[string]any)
		contents = append(contents, object)
	}
	return contents
}

// Prompt is the text of the last content that has any: what the model is asked.
func (r Request) Prompt() string {
	contents := r.Contents()
	for i := len(contents) - 1; i >= 0; i-- {
		if text := TextOf(contents[i]); text != "" {
			return text
		}
	}
	return ""
}

// TextOf joins the text parts of a content, thoughts left out.
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

// Start starts a server that lives as long as the test. Until it is told
// otherwise, it answers every call with a short text.
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

// Enqueue adds replies that are each given once, in order, before anything else
// is asked for a reply.
func (s *Server) Enqueue(replies ...Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, replies...)
}

// Handle lets f choose the reply to each call that finds the queue empty. Calls
// that come at once are put to f at once.
func (s *Server) Handle(f func(Request) Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = f
}

// Quiet makes the server neither decode nor keep requests, for benchmarks:
// Requests stays as it is, and the function given to Handle sees no Body.
func (s *Server) Quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = true
}

// Retire makes the server answer 404 for these models, to calls and for their
// metadata, as an API does that has them no longer. Those retired before are back.
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

// Requests returns the model calls so far, in the order in which they came.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := make([]Request, len(s.requests))
	for i, r := range s.requests {
		requests[i] = *r
	}
	return requests
}

// Forget drops the requests kept so far and the replies not yet given.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.queue = nil, nil
}

// MetadataReads counts the times that a model's metadata was asked for.
func (s *Server) MetadataReads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metadata
}

// Await returns the first n calls once so many have come.
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

// AwaitCancelled returns call number i, from 0, once its client has gone.
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

// record keeps a request and chooses its reply.
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

// cancelled notes that the client of r has gone.
func (s *Server) cancelled(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Cancelled = time.Now()
	s.signal()
}

// signal wakes those who await. The caller holds mu.
func (s *Server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// target is a model's path at either backend, with the method called on it.
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
		panic(http.ErrAbortHandler) // cuts the connection
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// errorBody is an error in the form of Google's APIs.
func errorBody(status int, message string) map[string]any {
	name := map[int]string{
		http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED",
		http.StatusForbidden: "PERMISSION_DENIED", http.StatusNotFound: "NOT_FOUND",
		http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", http.StatusServiceUnavailable: "UNAVAILABLE",
	}[status]
	if name == "" {
		name = "INTERNAL"
	}
	return map[string]any{"error": map[string]any{"code": status, "message": message, "status": name}}
}
