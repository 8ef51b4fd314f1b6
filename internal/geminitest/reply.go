package geminitest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Reply is the response to one call. It is immutable: the methods return modified
// copies. It may be used for several calls at once.
type Reply struct {
	status      int
	header      http.Header
	raw         []byte  // the body, instead of chunks
	chunks      [][]any // the parts of each chunk
	finish      string  // the last chunk's finishReason
	blockReason string  // of the prompt, instead of a candidate
	usage       map[string]any
	delay       time.Duration
	gates       map[int]<-chan struct{}
	stopAfter   int // chunks; -1: none
	stop        stop
	fault       []byte         // an error event after the chunks
	version     string         // modelVersion; "": the requested model
	candidate   map[string]any // more members of the last chunk's candidate
}

// A stop is what happens if a reply stops early.
type stop int

const (
	cut    stop = iota // the connection is closed
	silent             // nothing is sent until the client disconnects
)

// A FunctionCall is a call requested by the model.
type FunctionCall struct {
	ID               string // most models send none
	Name             string
	Args             map[string]any
	ThoughtSignature string
}

// Usage is the model's token count. The total is the sum without Cached, which is a
// part of Prompt.
type Usage struct {
	Prompt, Cached, Thoughts, Output int
}

// Text returns a reply with text, one chunk per piece.
func Text(pieces ...string) Reply {
	reply := newReply("STOP")
	for _, piece := range pieces {
		reply.chunks = append(reply.chunks, []any{map[string]any{"text": piece}})
	}
	return reply
}

// Calls returns a reply with function calls, all in one content.
func Calls(calls ...FunctionCall) Reply {
	parts := make([]any, len(calls))
	for i, call := range calls {
		parts[i] = call.Part()
	}
	return Parts(parts...)
}

// Part returns c as a part, in Gemini's JSON form.
func (c FunctionCall) Part() any {
	args := c.Args
	if args == nil {
		args = map[string]any{}
	}
	body := map[string]any{"name": c.Name, "args": args}
	if c.ID != "" {
		body["id"] = c.ID
	}
	part := map[string]any{"functionCall": body}
	if c.ThoughtSignature != "" {
		part["thoughtSignature"] = c.ThoughtSignature
	}
	return part
}

// Parts returns a reply with a content of these parts, in Gemini's JSON form.
func Parts(parts ...any) Reply {
	reply := newReply("STOP")
	reply.chunks = [][]any{parts}
	return reply
}

// And adds parts, in Gemini's JSON form, to the last chunk.
func (r Reply) And(parts ...any) Reply {
	r.chunks = slices.Clone(r.chunks)
	if len(r.chunks) == 0 {
		r.chunks = [][]any{nil}
	}
	last := len(r.chunks) - 1
	r.chunks[last] = slices.Concat(r.chunks[last], parts)
	return r
}

// Before adds parts in a chunk before all others.
func (r Reply) Before(parts ...any) Reply {
	r.chunks = slices.Concat([][]any{parts}, r.chunks)
	return r
}

// WithFinish sets the finish reason.
func (r Reply) WithFinish(reason string) Reply {
	r.finish = reason
	return r
}

// Finish returns a reply with text, which may be empty, and a finish reason such as
// "MAX_TOKENS".
func Finish(reason, text string) Reply {
	reply := newReply(reason)
	reply.chunks = [][]any{nil}
	if text != "" {
		reply.chunks = [][]any{{map[string]any{"text": text}}}
	}
	return reply
}

// Blocked returns a reply that blocks the prompt for a reason such as "SAFETY": it has
// no candidate.
func Blocked(reason string) Reply {
	reply := newReply("")
	reply.chunks, reply.blockReason = [][]any{nil}, reason
	return reply
}

// Error returns a reply with an error in the form of Google's APIs.
func Error(status int, message string) Reply {
	body, _ := json.Marshal(errorBody(status, message)) // only strings and numbers: cannot fail
	return Raw(status, "application/json; charset=UTF-8", body)
}

// Raw returns a reply with body as it is.
func Raw(status int, contentType string, body []byte) Reply {
	reply := newReply("")
	reply.status, reply.raw = status, body
	reply.header = http.Header{"Content-Type": {contentType}}
	return reply
}

// Cut returns a reply that closes the connection without sending a byte.
func Cut() Reply { return Text("never sent").CutAfter(0) }

// Silence returns a reply that sends nothing until the client disconnects.
func Silence() Reply { return Text("never sent").SilentAfter(0) }

func newReply(finish string) Reply {
	return Reply{status: http.StatusOK, finish: finish, stopAfter: -1}.
		WithUsage(Usage{Prompt: 10, Output: 5})
}

// WithModelVersion sets the model that the reply reports; by default the requested
// one.
func (r Reply) WithModelVersion(name string) Reply {
	r.version = name
	return r
}

// A Source is a page that an answer rests on.
type Source struct {
	Title, URI string
	Text       string // the part of the answer that rests on it; "": not known
}

// WithSearch makes the reply one that Google Search was used for: the queries, the
// sources, and the suggestions that Google's terms want shown. It is in the last chunk,
// as the API has it.
func (r Reply) WithSearch(queries []string, sources ...Source) Reply {
	chunks, supports := []any{}, []any{}
	text := TextOf(r.Content())
	for i, source := range sources {
		chunks = append(chunks, map[string]any{"web": map[string]any{"title": source.Title, "uri": source.URI}})
		if source.Text == "" {
			continue
		}
		start := strings.Index(text, source.Text)
		segment := map[string]any{"endIndex": start + len(source.Text), "text": source.Text}
		if start > 0 { // a zero is left out on the wire
			segment["startIndex"] = start
		}
		supports = append(supports, map[string]any{"segment": segment, "groundingChunkIndices": []any{i}})
	}
	return r.WithCandidate("groundingMetadata", map[string]any{
		"webSearchQueries": queries, "groundingChunks": chunks, "groundingSupports": supports,
		"searchEntryPoint": map[string]any{"renderedContent": `<div class="container">` + strings.Join(queries, ", ") + "</div>"},
	})
}

// WithCandidate sets a further member of the last chunk's candidate, such as
// groundingMetadata.
func (r Reply) WithCandidate(member string, value any) Reply {
	r.candidate = maps.Clone(r.candidate)
	if r.candidate == nil {
		r.candidate = map[string]any{}
	}
	r.candidate[member] = value
	return r
}

// Code returns the parts by which the model runs code, for [Parts].
func Code(code, output string) []any {
	return []any{
		map[string]any{"executableCode": map[string]any{"language": "PYTHON", "code": code}},
		map[string]any{"codeExecutionResult": map[string]any{"outcome": "OUTCOME_OK", "output": output}},
	}
}

// WithUsage sets the token counts; by default 10 prompt tokens and 5 output tokens.
func (r Reply) WithUsage(u Usage) Reply {
	r.usage = map[string]any{
		"promptTokenCount":     u.Prompt,
		"candidatesTokenCount": u.Output,
		"totalTokenCount":      u.Prompt + u.Thoughts + u.Output,
	}
	if u.Cached > 0 {
		r.usage["cachedContentTokenCount"] = u.Cached
	}
	if u.Thoughts > 0 {
		r.usage["thoughtsTokenCount"] = u.Thoughts
	}
	return r
}

// WithPromptDetails returns the reply with the tokens of the prompt of one modality, such
// as "IMAGE", beside those of text.
func (r Reply) WithPromptDetails(modality string, tokens int) Reply {
	r.usage = maps.Clone(r.usage)
	r.usage["promptTokensDetails"] = []any{
		map[string]any{"modality": "TEXT", "tokenCount": 7},
		map[string]any{"modality": modality, "tokenCount": tokens},
	}
	return r
}

// WithoutUsage removes the token counts.
func (r Reply) WithoutUsage() Reply {
	r.usage = nil
	return r
}

// WithThought adds a thought before everything else.
func (r Reply) WithThought(text string) Reply {
	return r.Before(map[string]any{"text": text, "thought": true})
}

// WithThoughtSignature adds a signature to the last part.
func (r Reply) WithThoughtSignature(signature string) Reply {
	r.chunks = slices.Clone(r.chunks)
	for i := len(r.chunks) - 1; i >= 0; i-- {
		parts := slices.Clone(r.chunks[i])
		if len(parts) == 0 {
			continue
		}
		last, _ := parts[len(parts)-1].(map[string]any)
		last = maps.Clone(last)
		last["thoughtSignature"] = signature
		parts[len(parts)-1] = last
		r.chunks[i] = parts
		break
	}
	return r
}

// WithHeader adds a response header, such as Retry-After.
func (r Reply) WithHeader(name, value string) Reply {
	r.header = r.header.Clone()
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Add(name, value)
	return r
}

// WithDelay waits before each chunk.
func (r Reply) WithDelay(d time.Duration) Reply {
	r.delay = d
	return r
}

// WithGate waits before chunk n, from 0, until gate has a value or is closed; n may be
// the number of chunks, to wait before the end. A unary response waits for every gate.
func (r Reply) WithGate(n int, gate <-chan struct{}) Reply {
	r.gates = maps.Clone(r.gates)
	if r.gates == nil {
		r.gates = map[int]<-chan struct{}{}
	}
	r.gates[n] = gate
	return r
}

// CutAfter closes the connection after n chunks. A unary response is closed in the
// middle, or before its first byte if n is 0.
func (r Reply) CutAfter(n int) Reply {
	r.stopAfter, r.stop = n, cut
	return r
}

// SilentAfter sends n chunks, and then nothing until the client disconnects. A unary
// response is never sent.
func (r Reply) SilentAfter(n int) Reply {
	r.stopAfter, r.stop = n, silent
	return r
}

// FailAfter ends a stream with an error event after all chunks. It has no effect on a
// unary response.
func (r Reply) FailAfter(status int, message string) Reply {
	r.finish = ""
	r.fault, _ = json.Marshal(errorBody(status, message)) // only strings and numbers: cannot fail
	return r
}

// Unfinished omits the finishReason, as in a stream that ends too early.
func (r Reply) Unfinished() Reply {
	r.finish = ""
	return r
}

// Content returns the model's content, as the next request should contain it.
func (r Reply) Content() map[string]any {
	parts := []any{}
	for _, chunk := range r.chunks {
		parts = append(parts, chunk...)
	}
	return map[string]any{"role": "model", "parts": parts}
}

// errStopped means that the response is incomplete on purpose.
var errStopped = errors.New("stopped")

// write writes the reply. An error means that the connection must be closed.
func (r Reply) write(ctx context.Context, w http.ResponseWriter, done <-chan struct{}, stream bool, model string) error {
	maps.Copy(w.Header(), r.header)
	switch {
	case r.raw != nil:
		if err := r.wait(ctx, done, 0); err != nil {
			return err
		}
		w.WriteHeader(r.status)
		_, err := w.Write(r.raw)
		return err
	case stream:
		return r.writeStream(ctx, w, done, model)
	default:
		return r.writeWhole(ctx, w, done, model)
	}
}

func (r Reply) writeStream(ctx context.Context, w http.ResponseWriter, done <-chan struct{}, model string) error {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range r.chunks {
		if err := r.wait(ctx, done, i); err != nil {
			return err
		}
		if err := r.send(w, out, r.body(r.chunks[i], i == len(r.chunks)-1, model)); err != nil {
			return err
		}
	}
	if err := r.wait(ctx, done, len(r.chunks)); err != nil {
		return err
	}
	if r.fault != nil {
		return r.send(w, out, r.fault)
	}
	return nil
}

func (r Reply) send(w http.ResponseWriter, out *http.ResponseController, event []byte) error {
	if _, err := w.Write(slices.Concat([]byte("data: "), event, []byte("\r\n\r\n"))); err != nil {
		return err
	}
	return out.Flush()
}

func (r Reply) writeWhole(ctx context.Context, w http.ResponseWriter, done <-chan struct{}, model string) error {
	body := r.body(r.Content()["parts"].([]any), true, model)
	for i := range len(r.chunks) + 1 {
		if r.stopAfter == i && r.stop == cut && i > 0 {
			w.Header().Set("Content-Type", "application/json; charset=UTF-8")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body[:len(body)/2])
			_ = http.NewResponseController(w).Flush()
			return errStopped
		}
		if err := r.wait(ctx, done, i); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, err := w.Write(body)
	return err
}

// wait waits before chunk n, if the reply is configured so.
func (r Reply) wait(ctx context.Context, done <-chan struct{}, n int) error {
	if r.stopAfter == n && r.stop == cut {
		return errStopped
	}
	gate := r.gates[n]
	if r.stopAfter == n && r.stop == silent {
		gate = make(chan struct{})
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return errStopped
		}
	}
	if r.delay <= 0 || n >= len(r.chunks) {
		return ctx.Err()
	}
	timer := time.NewTimer(r.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return errStopped
	}
}

// body returns a response with these parts in Gemini's JSON form.
func (r Reply) body(parts []any, last bool, model string) []byte {
	response := map[string]any{"modelVersion": cmp.Or(r.version, model), "responseId": "geminitest"}
	candidate := map[string]any{"index": 0}
	if len(parts) > 0 {
		candidate["content"] = map[string]any{"role": "model", "parts": parts}
	}
	if last && r.finish != "" {
		candidate["finishReason"] = r.finish
	}
	if last {
		maps.Copy(candidate, r.candidate)
	}
	if last && r.usage != nil {
		response["usageMetadata"] = r.usage
	}
	if r.blockReason != "" {
		response["promptFeedback"] = map[string]any{"blockReason": r.blockReason}
	} else {
		response["candidates"] = []any{candidate}
	}
	body, err := json.Marshal(response)
	if err != nil {
		panic("geminitest: a part that JSON cannot hold: " + err.Error())
	}
	return body
}
