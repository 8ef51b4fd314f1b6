package openai

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A completionRequest is the body of POST /v1/chat/completions. Other fields are
// ignored, as clients send many.
type completionRequest struct {
	Model         string    `json:"model"`
	Messages      []message `json:"messages"`
	Stream        bool      `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Temperature         *float64         `json:"temperature"`
	MaxTokens           *int             `json:"max_tokens"`
	MaxCompletionTokens *int             `json:"max_completion_tokens"`
	N                   *int             `json:"n"`
	Tools               []jsontext.Value `json:"tools"`
	Functions           []jsontext.Value `json:"functions"`
	ResponseFormat      struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

// The documented form of the body: what is read of it.
type (
	chatCompletionRequest struct {
		_             struct{}      `additionalProperties:"true"`
		Model         string        `json:"model" doc:"The agent's name, or a model of GET /v1/models."`
		Messages      []chatMessage `json:"messages" minItems:"1" doc:"The last one is the user's."`
		Stream        bool          `json:"stream,omitzero"`
		Temperature   *float64      `json:"temperature,omitzero" minimum:"0" maximum:"2"`
		MaxTokens     *int          `json:"max_completion_tokens,omitzero" minimum:"1"`
		StreamOptions *struct {
			IncludeUsage bool `json:"include_usage,omitzero"`
		} `json:"stream_options,omitzero"`
	}
	chatMessage struct {
		_       struct{} `additionalProperties:"true"`
		Role    string   `json:"role" enum:"system,developer,user,assistant"`
		Content any      `json:"content" doc:"A text, or a list of parts of text."`
	}
)

// A completion is the answer, whole or in pieces.
type completion struct {
	ID      string           `json:"id"`
	Object  string           `json:"object" enum:"chat.completion,chat.completion.chunk"`
	Created int64            `json:"created"`
	Model   string           `json:"model"`
	Choices []choice         `json:"choices"`
	Usage   *completionUsage `json:"usage,omitzero"`
}

type choice struct {
	Index        int         `json:"index"`
	Message      *messageOut `json:"message,omitzero"`
	Delta        *messageOut `json:"delta,omitzero"`
	Logprobs     *struct{}   `json:"logprobs"`
	FinishReason *string     `json:"finish_reason"`
}

type messageOut struct {
	Role        string       `json:"role,omitzero"`
	Content     *string      `json:"content,omitzero"`
	Refusal     *string      `json:"refusal,omitzero"`
	Annotations []annotation `json:"annotations,omitzero"`
}

type annotation struct {
	Type        string   `json:"type"`
	URLCitation citation `json:"url_citation"`
}

type citation struct {
	URL   string `json:"url"`
	Title string `json:"title"`
	Start int    `json:"start_index"`
	End   int    `json:"end_index"`
}

type completionUsage struct {
	PromptTokens        int64 `json:"prompt_tokens"`
	CompletionTokens    int64 `json:"completion_tokens"`
	TotalTokens         int64 `json:"total_tokens"`
	PromptTokensDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionTokensDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func newUsage(u session.Usage) *completionUsage {
	counted := &completionUsage{PromptTokens: u.PromptTokens, CompletionTokens: u.CompletionTokens + u.ThoughtTokens, TotalTokens: u.TotalTokens}
	counted.PromptTokensDetails.CachedTokens = u.CachedTokens
	counted.CompletionTokensDetails.ReasoningTokens = u.ThoughtTokens
	return counted
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

// complete handles POST /v1/chat/completions.
func (d *door) complete(w http.ResponseWriter, r *http.Request) error {
	var body completionRequest
	if err := api.DecodeStream(w, r, historyBodies*d.MaxBodyBytes, d.MaxBodyBytes, d.Timeout, noHold, &body); err != nil {
		return err
	}
	req, c, err := d.completionOf(r, body)
	if err != nil {
		return err
	}
	id, named, err := d.conversationOf(r)
	if err != nil {
		return err
	}
	if named {
		if req, err = d.inSession(r.Context(), req, c, id); err != nil {
			return err
		}
	}
	if body.Stream {
		return d.Stream(r.Context(), w, r, req, &chunks{usage: body.StreamOptions.IncludeUsage, created: time.Now().Unix()})
	}
	answer, err := d.Ask(r.Context(), req, nil)
	if err != nil {
		return err
	}
	if answer.Replayed() {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	reason := finishReason(answer.FinishReason)
	m := &messageOut{Role: "assistant", Content: &answer.Response}
	for _, s := range answer.Sources {
		m.Annotations = append(m.Annotations, annotationsOf(s.Title, s.URI, s.Positions)...)
	}
	return write(w, completion{
		ID: completionID(answer.RunID), Object: "chat.completion", Created: time.Now().Unix(), Model: answer.Model,
		Choices: []choice{{Message: m, FinishReason: &reason}}, Usage: newUsage(answer.Usage),
	})
}

func completionID(run string) string { return "chatcmpl-" + opaque(run) }

// completionOf returns the run that body asks for, without a session.
func (d *door) completionOf(r *http.Request, body completionRequest) (req invoke.Request, c conversation, err error) {
	switch {
	case body.N != nil && *body.N != 1:
		return req, c, api.Invalid("n", "must be 1")
	case len(body.Tools) > 0:
		return req, c, api.Invalid("tools", "must be absent: the agent has its own tools, which run in the service")
	case len(body.Functions) > 0:
		return req, c, api.Invalid("functions", "must be absent: the agent has its own tools, which run in the service")
	}
	if err := d.checkFormat("response_format.type", body.ResponseFormat.Type); err != nil {
		return req, c, err
	}
	if c, err = converse("messages", body.Messages); err != nil {
		return req, c, err
	}
	most := body.MaxCompletionTokens
	if most == nil {
		most = body.MaxTokens
	}
	req, err = d.request(r, c, body.Model, body.Temperature, most)
	req.Options.Sessionless, req.Options.History = true, c.history
	return req, c, err
}

// checkFormat admits the format of the agent's answers.
func (d *door) checkFormat(field, format string) error {
	if format == "" || format == "text" || d.Agent.Output != nil {
		return nil
	}
	return api.Invalid(field, "must be text: the agent decides the form of its answers")
}

// request returns the run of a conversation's question.
func (d *door) request(r *http.Request, c conversation, model string, temperature *float64, most *int) (req invoke.Request, err error) {
	if c.instructions != "" && !d.config.AllowInstructions {
		return req, api.Invalid("instructions", "must be absent, as messages of the system are: the agent has its own")
	}
	if temperature != nil && (*temperature < 0 || *temperature > 2) {
		return req, api.Invalid("temperature", "must be from 0 to 2")
	}
	if most != nil {
		if *most < 1 {
			return req, api.Invalid("max_tokens", "must be at least 1")
		}
		// Clients ask for what OpenAI's models can write; the service's limit holds.
		limit := min(*most, d.MaxOutputTokens)
		most = &limit
	}
	req = invoke.Request{Query: c.query, Temperature: temperature, MaxTokens: most}
	if req.Model, err = d.modelOf(model); err != nil {
		return req, err
	}
	if err := req.Validate(c.field); err != nil {
		return req, err
	}
	req.Options.Instructions = c.instructions
	req.Options.Locale = api.Locale(r)
	req.Options.Key, err = invoke.IdempotencyKey(r)
	return req, err
}

// conversationOf returns the session that a header of CONVERSATION_HEADERS names, and
// false if none does. A name that is no session's id becomes one.
func (d *door) conversationOf(r *http.Request) (string, bool, error) {
	for _, header := range d.config.ConversationHeaders {
		values := r.Header.Values(header)
		if len(values) == 0 || values[0] == "" {
			continue
		}
		if len(values) > 1 || !api.Printable(values[0], 255) {
			return "", false, api.Malformed(header, "must be one value of 1 to 255 printable ASCII characters")
		}
		if session.ValidID(values[0]) {
			return values[0], true, nil
		}
		sum := sha256.Sum256([]byte(values[0]))
		return base64.RawURLEncoding.EncodeToString(sum[:]), true, nil
	}
	return "", false, nil
}

// inSession has req append to the session, if the client's messages are as many as the
// session's turns and the question. If they end with the session's last question, req
// replaces its answer. Other messages are no part of the conversation, such as those by
// which a page has a title made, or have gone another way: req stays without a session.
func (d *door) inSession(ctx context.Context, req invoke.Request, c conversation, id string) (invoke.Request, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	turns, last := 0, ""
	meta, records, err := d.Store.Turns(ctx, session.Key{Owner: caller.Owner(ctx), ID: id}, max(c.questions-1, 0), 1)
	switch {
	case errors.Is(err, session.ErrNotFound):
	case err != nil:
		return req, api.Fail(api.SessionStoreUnavailable, err)
	default:
		turns = meta.Turns
		if turns == c.questions && len(records) == 1 {
			turn, err := records[0].Turn()
			if err != nil {
				return req, api.Fail(api.Internal, err)
			}
			last, _ = turn.Texts()
		}
	}
	switch {
	case turns == c.questions-1:
	case turns == c.questions && strings.TrimSpace(last) == req.Query:
		req.Options.Regenerate = true
	default:
		return req, nil
	}
	req.SessionID, req.AfterTurn = id, &turns
	req.Options.Create, req.Options.Sessionless, req.Options.History = true, false, nil
	return req, nil
}

// readTimeout bounds a read of the store.
const readTimeout = 5 * time.Second

// chunks is the event stream of a chat completion.
type chunks struct {
	usage   bool // a last chunk counts tokens
	created int64
	id      string
	model   string
	shown   invoke.Extent
}

// Headers implements [invoke.Dialect].
func (*chunks) Headers(http.Header) {}

// Event implements [invoke.Dialect].
func (s *chunks) Event(b *bytes.Buffer, e invoke.Event) error {
	if s.shown.Voids(e) {
		return errVoid // nothing can be taken back here
	}
	switch e.Kind {
	case invoke.KindStart:
		s.id, s.model = completionID(e.Run), e.Start.Model
		empty := ""
		return s.chunk(b, &messageOut{Role: "assistant", Content: &empty}, nil)
	case session.KindText:
		return s.chunk(b, &messageOut{Content: &e.Part.Text}, nil)
	case session.KindSource:
		if list := annotationsOf(e.Part.Title, e.Part.URI, e.Part.Positions); len(list) > 0 {
			return s.chunk(b, &messageOut{Annotations: list}, nil)
		}
	case invoke.KindDone:
		s.model = e.Response.Model
		reason := finishReason(e.Response.FinishReason)
		if err := s.chunk(b, &messageOut{}, &reason); err != nil {
			return err
		}
		if s.usage {
			if err := appendData(b, "", completion{ID: s.id, Object: chunk, Created: s.created, Model: s.model, Choices: []choice{}, Usage: newUsage(e.Response.Usage)}); err != nil {
				return err
			}
		}
		b.WriteString("data: [DONE]\n\n")
	case invoke.KindError:
		return appendData(b, "", errorOf(e.Envelope))
	}
	return nil
}

const chunk = "chat.completion.chunk"

func (s *chunks) chunk(b *bytes.Buffer, delta *messageOut, reason *string) error {
	return appendData(b, "", completion{
		ID: s.id, Object: chunk, Created: s.created, Model: s.model, Choices: []choice{{Delta: delta, FinishReason: reason}},
	})
}

// errVoid ends a stream whose text turned out to be void.
var errVoid = errors.New("text that was sent is void")

// errorOf returns the error of an envelope, for a stream.
func errorOf(envelope api.Envelope) openAIError {
	code := api.Internal
	if envelope.Error != nil {
		code = *envelope.Error
	}
	e := api.Fail(code, nil)
	e.Message, e.Details = envelope.Message, envelope.Details
	return openAIError{newError(e)}
}

// appendData writes an event; name may be "". Data is one line: JSON escapes newlines.
func appendData(b *bytes.Buffer, name string, data any) error {
	if name != "" {
		b.WriteString("event: " + name + "\n")
	}
	b.WriteString("data: ")
	if err := json.MarshalWrite(b, data); err != nil {
		return err
	}
	b.WriteString("\n\n")
	return nil
}

// annotationsOf returns where a source supports the answer; one that names no place
// supports all of it.
func annotationsOf(title, uri string, positions []session.Position) []annotation {
	if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "http://") {
		return nil
	}
	if len(positions) == 0 {
		positions = []session.Position{{}}
	}
	var list []annotation
	for _, p := range positions {
		list = append(list, annotation{"url_citation", citation{uri, title, p.Start, p.End}})
	}
	return list
}

// opaque encodes an id of the gate, so that clients do not read it.
func opaque(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }
