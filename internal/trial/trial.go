// Package trial runs a whole service in this process and asks it questions, for tests
// and evaluations of an agent: what it answers, the tools it calls with their arguments
// and results, and every request that went to the model. The service is the one that
// is deployed; the only addition is a transport that notes the model's requests.
package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/internal/server"
)

// A Service is an agent behind the gate. It is safe for concurrent use.
type Service struct{ server *server.Server }

// Start starts the service of o. The caller must call [Service.Close], also after an
// error.
func Start(ctx context.Context, o server.Options) (*Service, error) {
	o.WrapModel = func(next http.RoundTripper) http.RoundTripper { return &recorder{next} }
	s := &Service{server.New(o)}
	if err := s.server.Ready(ctx); err != nil {
		return s, fmt.Errorf("the service is not ready: %w", err)
	}
	return s, nil
}

// Server returns the service itself.
func (s *Service) Server() *server.Server { return s.server }

// Close answers what is in flight and closes what is open.
func (s *Service) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), server.ShutdownTime)
	defer cancel()
	return s.server.Drain(ctx)
}

// A Question is a request to /invoke.
type Question struct {
	Query     string
	SessionID string         // to continue; "" begins a session
	Stream    bool           // asks for an event stream
	Body      map[string]any // other fields of the request
	Header    http.Header
}

// An Answer is what the service returned.
type Answer struct {
	Status    int
	Error     string // code; "" for a success
	Message   string
	Text      string
	SessionID string
	Turn      int
	Tools     []ToolCall
	Data      map[string]any // of the envelope
	Events    []Event        // of a stream
	Sent      []Sent         // to the model, in order
	Took      time.Duration
}

// A ToolCall is one that the model requested. Output is what the model received; nil if
// no request to the model followed.
type ToolCall struct {
	Name   string
	Args   map[string]any
	OK     bool
	Output map[string]any
}

// An Event is one of an event stream.
type Event struct {
	ID, Name string
	Data     map[string]any
}

// Sent is a request to the model.
type Sent struct {
	Model       string
	Stream      bool
	Instruction string
	Contents    []*genai.Content
	Tools       []string // names of the functions that the model was offered
	Settings    *genai.GenerateContentConfig
	Body        map[string]any // all of it, in the API's JSON form
}

// maxBody bounds a recorded request to the model, in bytes: far above what the API
// accepts.
const maxBody = 64 << 20

type recordingKey struct{}

// A recording collects the requests to the model that one question leads to. They find
// it by their context, which descends from the question's.
type recording struct {
	mu   sync.Mutex
	sent []Sent
}

// A recorder is the transport that notes requests.
type recorder struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	rec, ok := r.Context().Value(recordingKey{}).(*recording)
	if !ok || r.Body == nil || r.Method != http.MethodPost {
		return t.next.RoundTrip(r)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	if sent, ok := parseSent(r.URL.Path, body); ok {
		rec.mu.Lock()
		rec.sent = append(rec.sent, sent)
		rec.mu.Unlock()
	}
	return t.next.RoundTrip(r)
}

// parseSent returns a request to generate content.
func parseSent(path string, body []byte) (Sent, bool) {
	target, method, _ := strings.Cut(path[strings.LastIndex(path, "/")+1:], ":")
	if method != "generateContent" && method != "streamGenerateContent" {
		return Sent{}, false
	}
	var request struct {
		Contents          []*genai.Content
		SystemInstruction *genai.Content
		Tools             []*genai.Tool
		GenerationConfig  json.RawMessage
	}
	s := Sent{Model: target, Stream: method == "streamGenerateContent"}
	if Unmarshal(body, &s.Body) != nil {
		return Sent{}, false
	}
	_ = Unmarshal(body, &request) // what the SDK's types do not hold is in Body
	s.Contents = request.Contents
	for _, content := range s.Contents {
		for _, part := range content.Parts {
			if part.FunctionCall != nil {
				numbers(part.FunctionCall.Args)
			}
			if part.FunctionResponse != nil {
				numbers(part.FunctionResponse.Response)
			}
		}
	}
	if request.SystemInstruction != nil {
		for _, part := range request.SystemInstruction.Parts {
			s.Instruction += part.Text
		}
	}
	// The API keeps in generationConfig what the SDK has in one type with the rest.
	s.Settings = &genai.GenerateContentConfig{}
	_ = json.Unmarshal(request.GenerationConfig, s.Settings)
	_ = json.Unmarshal(body, s.Settings)
	for _, tool := range request.Tools {
		for _, function := range tool.FunctionDeclarations {
			s.Tools = append(s.Tools, function.Name)
		}
	}
	return s, true
}

// Ask asks q. The error is about what is not an answer of the service; an answer that
// is an error has its code in Error.
func (s *Service) Ask(ctx context.Context, q Question) (Answer, error) {
	body := map[string]any{}
	maps.Copy(body, q.Body)
	body["query"] = q.Query
	if q.SessionID != "" {
		body["session_id"] = q.SessionID
	}
	if q.Stream {
		body["stream"] = true
	}
	return s.post(ctx, "/invoke", body, q.Header)
}

// Approve answers a call that a run waits for. The rest of the run comes as an event
// stream, unless it waits for more answers.
func (s *Service) Approve(ctx context.Context, run, call string, approve bool, reason string, header http.Header) (Answer, error) {
	if header = header.Clone(); header == nil {
		header = http.Header{}
	}
	header.Set("Accept", "text/event-stream")
	return s.post(ctx, "/runs/"+run+"/approvals", map[string]any{"call_id": call, "approve": approve, "reason": reason}, header)
}

func (s *Service) post(ctx context.Context, path string, body map[string]any, header http.Header) (Answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return Answer{}, err
	}
	rec := &recording{}
	r := httptest.NewRequestWithContext(context.WithValue(ctx, recordingKey{}, rec), http.MethodPost, "http://127.0.0.1"+path, bytes.NewReader(encoded))
	if header != nil {
		r.Header = header.Clone()
	}
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	began := time.Now()
	s.server.Both.ServeHTTP(w, r)
	a := Answer{Status: w.Code, Took: time.Since(began)}
	envelope := w.Body.Bytes()
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		if envelope, err = a.readStream(envelope); err != nil {
			return a, err
		}
	}
	rec.mu.Lock()
	a.Sent = slices.Clone(rec.sent)
	rec.mu.Unlock()
	return a, a.readEnvelope(envelope)
}

// readStream reads the events, and returns the envelope of the last one.
func (a *Answer) readStream(body []byte) ([]byte, error) {
	var last []byte
	for block := range strings.SplitSeq(string(body), "\n\n") {
		var e Event
		data := ""
		for line := range strings.SplitSeq(block, "\n") {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "id":
				e.ID = value
			case "event":
				e.Name = value
			case "data":
				data += value
			}
		}
		if data == "" {
			continue // a comment
		}
		if err := Unmarshal([]byte(data), &e.Data); err != nil {
			return nil, fmt.Errorf("event %q: %w", e.Name, err)
		}
		a.Events = append(a.Events, e)
		last = []byte(data)
	}
	if n := len(a.Events); n == 0 || a.Events[n-1].Name != "done" && a.Events[n-1].Name != "error" {
		return nil, errors.New("the event stream ended without done or error")
	}
	return last, nil
}

func (a *Answer) readEnvelope(raw []byte) error {
	var envelope struct {
		Message string
		Error   *string
		Data    json.RawMessage
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return fmt.Errorf("the answer with status %d is not the service's: %w", a.Status, err)
	}
	a.Message = envelope.Message
	var data struct {
		Response  string
		SessionID string `json:"session_id"`
		Turn      int
		ToolCalls []struct {
			Name string
			OK   bool
		} `json:"tool_calls"`
	}
	if envelope.Error != nil {
		a.Error = *envelope.Error
	} else {
		if err := errors.Join(json.Unmarshal(envelope.Data, &data), Unmarshal(envelope.Data, &a.Data)); err != nil {
			return fmt.Errorf("the answer's data: %w", err)
		}
	}
	a.Text, a.SessionID, a.Turn = data.Response, data.SessionID, data.Turn
	made := a.toolContents()
	for _, call := range data.ToolCalls {
		t := ToolCall{Name: call.Name, OK: call.OK}
		// What Gemini ran itself is among data.ToolCalls too.
		if i := slices.IndexFunc(made, func(m ToolCall) bool { return m.Name == call.Name }); i >= 0 {
			t.Args, t.Output = made[i].Args, made[i].Output
			made = slices.Delete(made, i, i+1)
		}
		a.Tools = append(a.Tools, t)
	}
	return nil
}

// Unmarshal decodes one JSON value as [json.Unmarshal] does, but for numbers in maps and
// lists of any: an integer whose digits a float64 would not keep becomes a [json.Number].
func Unmarshal(raw []byte, into any) error {
	if err := exactjson.Unmarshal(raw, into); err != nil {
		return err
	}
	switch v := into.(type) {
	case *any:
		*v = numbers(*v)
	case *map[string]any:
		numbers(*v)
	}
	return nil
}

// numbers replaces in v the numbers that a float64 holds, and returns v.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, element := range v {
			v[name] = numbers(element)
		}
	case []any:
		for i, element := range v {
			v[i] = numbers(element)
		}
	case json.Number:
		f, err := v.Float64()
		if exact := strconv.FormatFloat(f, 'f', -1, 64); err == nil && (strings.ContainsAny(v.String(), ".eE") || exact == v.String()) {
			return f
		}
	}
	return v
}

// isResult reports whether a content holds the results of tool calls.
func isResult(c *genai.Content) bool {
	return slices.ContainsFunc(c.Parts, func(p *genai.Part) bool { return p.FunctionResponse != nil })
}

// toolContents returns the calls since the question with their outputs, from the last
// request to the model: it holds all of them but those after which the model was not
// asked. Requests of agents that are tools have other questions.
func (a *Answer) toolContents() (made []ToolCall) {
	if len(a.Sent) == 0 || len(a.Sent[0].Contents) == 0 {
		return nil
	}
	first := a.Sent[0].Contents
	question := len(first) - 1
	for question > 1 && isResult(first[question]) { // the run went on after an approval
		question -= 2
	}
	var contents []*genai.Content
	for _, sent := range slices.Backward(a.Sent) {
		if len(sent.Contents) > question && reflect.DeepEqual(sent.Contents[question], first[question]) {
			contents = sent.Contents[question+1:]
			break
		}
	}
	answered := 0
	for _, content := range contents {
		for _, part := range content.Parts {
			switch {
			case part.FunctionCall != nil:
				made = append(made, ToolCall{Name: part.FunctionCall.Name, Args: part.FunctionCall.Args})
			case part.FunctionResponse != nil && answered < len(made):
				made[answered].Output = part.FunctionResponse.Response
				answered++
			}
		}
	}
	return made
}
