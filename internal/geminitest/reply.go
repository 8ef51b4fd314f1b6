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
	"time"
)

// A Reply is what the server does with one call. It is a value: the methods
// return a changed copy, and one reply may be given many times at once.
type Reply struct {
	status      int
	header      http.Header
	raw         []byte  // given as it is, instead of chunks
	chunks      [][]any // the parts of each chunk
	finish      string  // the last chunk's finishReason
	blockReason string  // the prompt's, instead of a candidate
	usage       map[string]any
	delay       time.Duration
	gates       map[int]<-chan struct{}
	stopAfter   int // chunks; -1: none
	stop        stop
	fault       []byte // an event sent after the chunks
	version     string // modelVersion; "" is the model that was asked
}

// What happens when a reply stops before its end.
type stop int

const (
	cut    stop = iota // the connection is closed
	silent             // nothing comes any more until the client goes
)

// A FunctionCall is one call that the model makes.
type FunctionCall struct {
	ID               string // most models give none
	Name             string
	Args             map[string]any
	ThoughtSignature string
}

// Usage is what the model says that a call cost, in tokens. The total is their
// sum without Cached, which is a part of Prompt.
type Usage struct {
	Prompt, Cached, Thoughts, Output int
}

// Text answers with text, a chunk for each piece.
func Text(pieces ...string) Reply {
	reply := newReply("STOP")
	for _, piece := range pieces {
		reply.chunks = append(reply.chunks, []any{map[string]any{"text": piece}})
	}
	return reply
}

// Calls answers with function calls, all in one content.
func Calls(calls ...FunctionCall) Reply {
	parts := make([]any, len(calls))
	for i, call := range calls {
		args := call.Args
		if args == nil {
			args = map[string]any{}
		}
		body := map[string]any{"name": call.Name, "args": args}
		if call.ID != "" {
			body["id"] = call.ID
		}
		part := map[string]any{"functionCall": body}
		if call.ThoughtSignature != "" {
			part["thoughtSignature"] = call.ThoughtSignature
		}
		parts[i] = part
	}
	return Parts(parts...)
}

// Parts answers with a content of these parts, in Gemini's JSON form.
func Parts(parts ...any) Reply {
	reply := newReply("STOP")
	reply.chunks = [][]any{parts}
	return reply
}

// Finish answers with text, which may be empty, and an ending such as
// "MAX_TOKENS".
func Finish(reason, text string) Reply {
	reply := newReply(reason)
	reply.chunks = [][]any{nil}
	if text != "" {
		reply.chunks = [][]any{{map[string]any{"text": text}}}
	}
	return reply
}

// Blocked refuses the prompt for a reason such as "SAFETY": no candidate.
func Blocked(reason string) Reply {
	reply := newReply("")
	reply.chunks, reply.blockReason = [][]any{nil}, reason
	return reply
}

// Error answers with an error in the form of Google's APIs.
func Error(status int, message string) Reply {
	body, _ := json.Marshal(errorBody(status, message)) // strings and numbers always encode
	return Raw(status, "application/json; charset=UTF-8", body)
}

// Raw answers with body as it is.
func Raw(status int, contentType string, body []byte) Reply {
	reply := newReply("")
	reply.status, reply.raw = status, body
	reply.header = http.Header{"Content-Type": {contentType}}
	return reply
}

// Cut closes the connection without a byte.
func Cut() Reply { return Text("never sent").CutAfter(0) }

// Silence answers nothing until the client goes.
func Silence() Reply { return Text("never sent").SilentAfter(0) }

func newReply(finish string) Reply {
	return Reply{status: http.StatusOK, finish: finish, stopAfter: -1}.
		WithUsage(Usage{Prompt: 10, Output: 5})
}

// WithModelVersion sets the model that the reply says it is of; without it, the
// one that was asked.
func (r Reply) WithModelVersion(name string) Reply {
	r.version = name
	return r
}

// WithUsage sets what the call costs; without it, 10 tokens in and 5 out.
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

// WithoutUsage leaves the counts out.
func (r Reply) WithoutUsage() Reply {
	r.usage = nil
	return r
}

// WithThought puts a thought before everything else.
func (r Reply) WithThought(text string) Reply {
	thought := []any{map[string]any{"text": text, "thought": true}}
	r.chunks = append([][]any{thought}, r.chunks...)
	return r
}

// WithThoughtSignature signs the last part.
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

// WithHeader adds a header, such as Retry-After.
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

// WithGate waits, before chunk number n from 0, until gate gives a value or is
// closed; the number of chunks means before the end. A whole answer waits for
// every gate.
func (r Reply) WithGate(n int, gate <-chan struct{}) Reply {
	r.gates = maps.Clone(r.gates)
	if r.gates == nil {
		r.gates = map[int]<-chan struct{}{}
	}
	r.gates[n] = gate
	return r
}

// CutAfter closes the connection after n chunks; a whole answer breaks off in
// its middle, or before its first byte when n is 0.
func (r Reply) CutAfter(n int) Reply {
	r.stopAfter, r.stop = n, cut
	return r
}

// SilentAfter sends n chunks, and then nothing until the client goes; a whole
// answer never comes.
func (r Reply) SilentAfter(n int) Reply {
	r.stopAfter, r.stop = n, silent
	return r
}

// FailAfter ends a stream with an error event after all chunks; it says nothing
// to a whole answer.
func (r Reply) FailAfter(status int, message string) Reply {
	r.finish = ""
	r.fault, _ = json.Marshal(errorBody(status, message)) // strings and numbers always encode
	return r
}

// Unfinished leaves out the finishReason, as a stream that ends too early does.
func (r Reply) Unfinished() Reply {
	r.finish = ""
	return r
}

// Content is what the model said, as the next request should hold it.
func (r Reply) Content() map[string]any {
	parts := []any{}
	for _, chunk := range r.chunks {
		parts = append(parts, chunk...)
	}
	return map[string]any{"role": "model", "parts": parts}
}

// errStopped says that the answer was not given whole.
var errStopped = errors.New("stopped")

// write gives the reply. An error means that the connection is to be cut.
func (r Reply) write(ctx context.Context, w http.ResponseWriter, done <-chan struct{}, stream bool, model string) error {
	for name, values := range r.header {
		w.Header()[name] = values
	}
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
		if err := r.send(w, out, r.chunk(i, model)); err != nil {
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

// wait holds the reply back before chunk n, as it was told to.
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

func (r Reply) chunk(n int, model string) []byte {
	return r.body(r.chunks[n], n == len(r.chunks)-1, model)
}

// body is a response of these parts in Gemini's JSON form.
func (r Reply) body(parts []any, last bool, model string) []byte {
	response := map[string]any{"modelVersion": cmp.Or(r.version, model), "responseId": "geminitest"}
	candidate := map[string]any{"index": 0}
	if len(parts) > 0 {
		candidate["content"] = map[string]any{"role": "model", "parts": parts}
	}
	if last && r.finish != "" {
		candidate["finishReason"] = r.finish
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
