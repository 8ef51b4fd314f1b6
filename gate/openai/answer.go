package openai

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// opaque encodes a run's id, so that clients do not read it. Another owner's finds nothing.
func opaque(prefix, run string) string { return prefix + encoding.EncodeToString([]byte(run)) }

// usageOf returns the counts of tokens, which the APIs name differently.
func usageOf(u session.Usage, prompt, completion string) object {
	return object{
		prompt + "_tokens": u.PromptTokens, prompt + "_tokens_details": object{"cached_tokens": u.CachedTokens},
		completion + "_tokens": u.CompletionTokens + u.ThoughtTokens, completion + "_tokens_details": object{"reasoning_tokens": u.ThoughtTokens},
		"total_tokens": u.TotalTokens,
	}
}

// citationsOf returns where a source supports a text, which is the answer's from begin to end
// in code points; one that names no place supports all of it.
func citationsOf(s session.Source, begin, end int) (list []object) {
	if !strings.HasPrefix(s.URI, "https://") && !strings.HasPrefix(s.URI, "http://") {
		return nil
	}
	if len(s.Positions) == 0 {
		s.Positions = []session.Position{{Start: begin, End: begin}}
	}
	for _, p := range s.Positions {
		if from, to := max(p.Start, begin), min(p.End, end); from < to || p.Start == p.End {
			list = append(list, object{"type": "url_citation", "url": s.URI, "title": s.Title, "start_index": from - begin, "end_index": to - begin})
		}
	}
	return list
}

// A completion makes a chat completion of what a run shows, and is its event stream.
type completion struct {
	dialect
	created int64
	usage   bool // a last chunk counts tokens
	run     string
	model   string
}

// Event implements [invoke.Dialect].
func (c *completion) Event(b *bytes.Buffer, e invoke.Event) error {
	chunk := func(delta object) error { return invoke.AppendEvent(b, "", c.object("chunk", "delta", delta, nil)) }
	switch {
	case c.ended:
		return nil
	case c.voids(e):
		return invoke.AppendEvent(b, "", openAIError{newError(interrupted())})
	}
	switch e.Kind {
	case invoke.KindStart:
		c.run, c.model = e.Run, e.Start.Model
		return chunk(object{"role": "assistant", "content": ""})
	case session.KindText:
		return chunk(object{"content": e.Part.Text})
	case session.KindReasoning: // as other servers have it, too
		return chunk(object{"reasoning_content": e.Part.Text})
	case session.KindSource:
		return chunk(object{"annotations": nested(e.Part.Source())})
	case invoke.KindDone:
		c.model = e.Response.Model
		err := invoke.AppendEvent(b, "", c.object("chunk", "delta", object{}, finishReason(e.Response.FinishReason)))
		if c.usage && err == nil {
			last := c.object("chunk", "delta", nil, nil)
			last["choices"], last["usage"] = []object{}, usageOf(e.Response.Usage, "prompt", "completion")
			err = invoke.AppendEvent(b, "", last)
		}
		b.WriteString("data: [DONE]\n\n")
		return err
	case invoke.KindError:
		return invoke.AppendEvent(b, "", openAIError{newError(e.Envelope.Failure())})
	}
	return nil
}

// whole returns the completion of an answer that nobody has watched.
func (c *completion) whole(a *invoke.Response) object {
	c.run, c.model = a.RunID, a.Model
	message := object{"role": "assistant", "content": a.Response, "refusal": nil, "annotations": nested(a.Sources...)}
	o := c.object("", "message", message, finishReason(a.FinishReason))
	o["usage"] = usageOf(a.Usage, "prompt", "completion")
	return o
}

func (c *completion) object(suffix, name string, value object, reason any) object {
	return object{
		"id": opaque("chatcmpl-", c.run), "object": strings.TrimSuffix("chat.completion."+suffix, "."), "created": c.created, "model": c.model,
		"choices": []object{{"index": 0, name: value, "logprobs": nil, "finish_reason": reason}},
	}
}

// nested returns citations as completions have them.
func nested(sources ...session.Source) []object {
	list := []object{}
	for _, s := range sources {
		for _, c := range citationsOf(s, 0, math.MaxInt) {
			list = append(list, object{"type": "url_citation", "url_citation": c})
		}
	}
	return list
}

// finishReason returns OpenAI's word for the model's.
func finishReason(word string) string {
	switch f := genai.FinishReason(word); {
	case f == genai.FinishReasonMaxTokens:
		return "length"
	case model.IsSafetyBlock(f):
		return "content_filter"
	}
	return "stop"
}

// A response makes a response of what a run shows, and is its event stream.
type response struct {
	dialect
	fields  object
	agent   string
	run     string
	output  []object
	sources []session.Source
	texts   []cited
	length  int // of them, in code points

	item  object // of output, that grows; nil: none does
	text  object // of the item
	grown *growingText
	names names

	b        *bytes.Buffer // of the stream; nil: there is none
	sequence int
	err      error
}

// A cited text is an item's, and the answer's from begin to end in code points.
type cited struct {
	text       object
	begin, end int
}

// A growingText is a string in JSON, to which adding costs what is added.
type growingText struct{ strings.Builder }

// MarshalJSON implements [json.Marshaler].
func (t *growingText) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// Names are what an item that grows is called in events.
type names struct{ item, id, content, part, text, index string }

var itemNames = map[session.Kind]names{
	session.KindText:      {"message", "msg_", "content", "content_part", "output_text", "content_index"},
	session.KindReasoning: {"reasoning", "rs_", "summary", "reasoning_summary_part", "reasoning_summary_text", "summary_index"},
}

// newResponse returns the response to a request.
func (d *door) newResponse(body responseRequest, created int64) *response {
	fields := object{
		"object": "response", "created_at": created, "status": "in_progress", "error": nil, "incomplete_details": nil, "instructions": nil, "metadata": object{},
		"previous_response_id": nil, "conversation": nil, "store": body.Store == nil || *body.Store, "background": body.Background,
		"parallel_tool_calls": true, "tool_choice": "auto", "tools": []object{}, "temperature": body.Temperature, "top_p": nil, "usage": nil,
	}
	if body.Previous != "" {
		fields["previous_response_id"] = body.Previous
	}
	if named := body.conversation(); named != "" {
		fields["conversation"] = object{"id": named}
	}
	return &response{fields: fields, agent: d.Agent.Name, output: []object{}}
}

// A dialect has no headers, and knows what it has shown.
type dialect struct {
	shown invoke.Extent
	ended bool // by the error of voids; nothing follows it
}

func (dialect) Headers(http.Header) {}

// voids takes the next event in, and reports whether it ends the stream with an error: text that
// was sent is void, as after a takeover, and nothing can be taken back here.
func (d *dialect) voids(e invoke.Event) bool {
	d.ended = d.shown.Voids(e)
	return d.ended
}

// interrupted returns the error of a stream whose text is void.
func interrupted() *api.Error { return api.Fail(api.ShuttingDown, nil) }

// Event implements [invoke.Dialect].
func (s *response) Event(b *bytes.Buffer, e invoke.Event) error {
	s.b = b
	switch {
	case s.ended:
		return nil
	case s.voids(e):
		s.fail(interrupted())
		return s.err
	}
	switch e.Kind {
	case invoke.KindStart:
		s.begin(e.Run, e.Start.Model)
	case invoke.KindDone:
		a := e.Response
		s.finish(a.FinishReason, a.Model, a.Usage, a.Pending)
	case invoke.KindError:
		s.fail(e.Envelope.Failure())
	default:
		s.show(e.Part)
	}
	return s.err
}

// send writes an event.
func (s *response) send(name string, data object) {
	data["type"], data["sequence_number"] = "response."+name, s.sequence
	s.sequence++
	if s.b != nil && s.err == nil {
		s.err = invoke.AppendEvent(s.b, "response."+name, data)
	}
}

// begin begins the response of a run.
func (s *response) begin(run, model string) {
	s.run, s.fields["id"], s.fields["model"], s.fields["output"] = run, opaque("resp_", run), model, s.output
	s.send("created", object{"response": s.fields})
	s.send("in_progress", object{"response": s.fields})
}

// show adds a part of what a run shows: a text or a thought to the item that grows, which
// it begins if need be. Tools have run in the service: no item asks the client to run one.
func (s *response) show(p session.Part) {
	if p.Kind == session.KindSource {
		s.sources = append(s.sources, p.Source())
	}
	n, ok := itemNames[p.Kind]
	if !ok || p.Text == "" {
		return
	}
	if s.names != n {
		s.close()
		_, turn, _ := session.SplitRunID(s.run)
		s.names, s.grown = n, &growingText{}
		s.text = object{"type": "summary_text", "text": s.grown}
		s.item = object{"id": n.id + turn + "_" + strconv.Itoa(len(s.output)), "type": n.item, n.content: []object{}}
		if p.Kind == session.KindText {
			s.text = object{"type": "output_text", "text": s.grown, "annotations": []object{}}
			s.item["role"], s.item["status"] = "assistant", "in_progress"
			s.texts = append(s.texts, cited{s.text, s.length, s.length})
		}
		s.output = append(s.output, s.item)
		s.send("output_item.added", object{"output_index": len(s.output) - 1, "item": s.item})
		s.about(n.part+".added", object{"part": s.text})
		s.item[n.content] = []object{s.text}
	}
	s.grown.WriteString(p.Text)
	if p.Kind == session.KindText {
		s.length += utf8.RuneCountInString(p.Text)
		s.texts[len(s.texts)-1].end = s.length
	}
	s.about(n.text+".delta", object{"delta": p.Text, "logprobs": []object{}})
}

// about sends an event about the item that grows.
func (s *response) about(name string, data object) {
	data["item_id"], data["output_index"], data[s.names.index] = s.item["id"], len(s.output)-1, 0
	s.send(name, data)
}

// close ends the item that grows.
func (s *response) close() {
	if s.item == nil {
		return
	}
	if _, ok := s.item["status"]; ok {
		s.item["status"] = "completed"
	}
	s.about(s.names.text+".done", object{"text": s.text["text"], "logprobs": []object{}})
	s.about(s.names.part+".done", object{"part": s.text})
	s.send("output_item.done", object{"output_index": len(s.output) - 1, "item": s.item})
	s.item, s.names = nil, names{}
}

// cite adds to each text what supports it. A source comes after the text of its model call, in
// which thoughts may have ended a text: of that only the response at the end has it.
func (s *response) cite() {
	for i, t := range s.texts {
		annotations := []object{}
		for _, source := range s.sources {
			if len(source.Positions) > 0 || i == len(s.texts)-1 {
				annotations = append(annotations, citationsOf(source, t.begin, t.end)...)
			}
		}
		for n, annotation := range annotations {
			if t.text["annotations"] = annotations[:n+1]; i == len(s.texts)-1 && s.names.item == "message" {
				s.about("output_text.annotation.added", object{"annotation": annotation, "annotation_index": n})
			}
		}
	}
}

// finish ends the response with what is known once its turn is stored.
func (s *response) finish(finish, model string, u session.Usage, pending []session.Pending) {
	s.cite()
	s.close()
	for _, p := range pending {
		args, _ := json.Marshal(p.Args) // which were JSON
		item := object{"id": p.CallID, "type": "mcp_approval_request", "name": p.Name, "arguments": string(args), "server_label": s.agent}
		s.output = append(s.output, item)
		s.send("output_item.added", object{"output_index": len(s.output) - 1, "item": item})
		s.send("output_item.done", object{"output_index": len(s.output) - 1, "item": item})
	}
	s.fields["model"], s.fields["usage"] = model, usageOf(u, "input", "output")
	status := "completed"
	switch reason := finishReason(finish); {
	case reason != "stop":
		reason = strings.Replace(reason, "length", "max_output_tokens", 1)
		status, s.fields["incomplete_details"] = "incomplete", object{"reason": reason}
	case finish == "STOPPED":
		status = "cancelled"
	case finish == "FAILED":
		status, s.fields["error"] = "failed", object{"code": "server_error", "message": "The answer ended before it was finished."}
	}
	s.end(status)
}

func (s *response) fail(failed *api.Error) {
	s.fields["error"] = object{"code": failed.Code, "message": newError(failed).Message}
	s.end("failed")
}

// end sends the last event.
func (s *response) end(status string) {
	s.fields["status"], s.fields["output"] = status, s.output
	if status == "cancelled" { // of which there is no event
		status = "completed"
	}
	s.send(status, object{"response": s.fields})
}

// whole returns the response of an answer that nobody has watched.
func (s *response) whole(a *invoke.Response) object {
	s.begin(a.RunID, a.Model)
	s.show(session.Part{Kind: session.KindText, Text: a.Response})
	s.sources = a.Sources
	s.finish(a.FinishReason, a.Model, a.Usage, a.Pending)
	return s.fields
}

// of returns the response of a run as far as it is stored.
func (s *response) of(info invoke.RunInfo) object {
	s.begin(info.RunID, s.agent)
	switch t := info.Stored; {
	case t != nil:
		for _, p := range t.Shown() {
			s.show(p)
		}
		if info.State == session.Failed && t.FinishReason != "FAILED" { // once it was approved
			s.close()
			s.fail(info.Failure())
		} else {
			s.finish(t.FinishReason, t.Model, t.Usage, info.Pending)
		}
	case info.Response() != nil: // of a run without a session
		return s.whole(info.Response())
	case info.State == session.Stopped:
		s.end("cancelled")
	case info.State == session.Failed:
		s.fail(info.Failure())
	}
	return s.fields
}
