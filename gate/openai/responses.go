package openai

import (
	"bytes"
	"context"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A responseRequest is the body of POST /v1/responses. Other fields are ignored.
type responseRequest struct {
	Model           string           `json:"model"`
	Input           input            `json:"input"`
	Instructions    string           `json:"instructions"`
	Previous        string           `json:"previous_response_id"`
	Conversation    named            `json:"conversation"`
	Store           *bool            `json:"store"`
	Stream          bool             `json:"stream"`
	Background      bool             `json:"background"`
	Temperature     *float64         `json:"temperature"`
	MaxOutputTokens *int             `json:"max_output_tokens"`
	Tools           []jsontext.Value `json:"tools"`
	Text            struct {
		Format struct {
			Type string `json:"type"`
		} `json:"format"`
	} `json:"text"`
}

// documentedResponse is the documented form of the body: what is read of it.
type createResponseRequest struct {
	_               struct{} `additionalProperties:"true"`
	Model           string   `json:"model,omitzero" doc:"The agent's name, or a model of GET /v1/models."`
	Input           any      `json:"input" doc:"A question, or a list of messages that ends with one."`
	Instructions    string   `json:"instructions,omitzero" doc:"Refused unless the service allows them."`
	Previous        string   `json:"previous_response_id,omitzero" doc:"The session's last response; another one is a conflict."`
	Conversation    string   `json:"conversation,omitzero" doc:"A session's id; a new one where the caller has none of it."`
	Store           *bool    `json:"store,omitzero" doc:"false leaves no turn."`
	Stream          bool     `json:"stream,omitzero"`
	Temperature     *float64 `json:"temperature,omitzero" minimum:"0" maximum:"2"`
	MaxOutputTokens *int     `json:"max_output_tokens,omitzero" minimum:"1"`
}

// An input is a question, or a list of messages.
type input []message

// UnmarshalJSON implements [json.Unmarshaler].
func (in *input) UnmarshalJSON(raw []byte) error {
	switch raw[0] {
	case '"':
		*in = input{{Role: "user"}}
		return json.Unmarshal(raw, &(*in)[0].Content.text)
	case '[':
		return json.Unmarshal(raw, (*[]message)(in))
	}
	return api.Invalid("input", "must be a text or a list of messages")
}

// A named conversation is an id, or an object with one.
type named string

// UnmarshalJSON implements [json.Unmarshaler].
func (n *named) UnmarshalJSON(raw []byte) error {
	switch raw[0] {
	case 'n':
		return nil
	case '"':
		return json.Unmarshal(raw, (*string)(n))
	}
	var object struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(raw, &object)
	*n = named(object.ID)
	return err
}

// A response is the answer of POST /v1/responses.
type responseObject struct {
	ID           string             `json:"id"`
	Object       string             `json:"object" enum:"response"`
	CreatedAt    int64              `json:"created_at"`
	Status       string             `json:"status" enum:"in_progress,completed,incomplete,failed,cancelled"`
	Model        string             `json:"model"`
	Output       []outputItem       `json:"output"`
	Error        *responseError     `json:"error"`
	Incomplete   *incompleteDetails `json:"incomplete_details"`
	Instructions *string            `json:"instructions"`
	Metadata     struct{}           `json:"metadata"`
	Previous     *string            `json:"previous_response_id"`
	Conversation *conversationID    `json:"conversation"`
	Store        bool               `json:"store"`
	Background   bool               `json:"background"`
	Parallel     bool               `json:"parallel_tool_calls"`
	ToolChoice   string             `json:"tool_choice"`
	Tools        []struct{}         `json:"tools"`
	Temperature  *float64           `json:"temperature"`
	TopP         *float64           `json:"top_p"`
	Usage        *responseUsage     `json:"usage"`
}

type (
	conversationID struct {
		ID string `json:"id"`
	}
	responseError struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	incompleteDetails struct {
		Reason string `json:"reason"`
	}
	// An item is a message of the agent, or a summary of the model's thoughts.
	outputItem struct {
		ID      string     `json:"id"`
		Type    string     `json:"type" enum:"message,reasoning"`
		Status  string     `json:"status,omitzero"`
		Role    string     `json:"role,omitzero"`
		Content []itemText `json:"content,omitzero"`
		Summary []itemText `json:"summary,omitzero"`
	}
	itemText struct {
		Type        string         `json:"type"`
		Text        string         `json:"text"`
		Annotations []itemCitation `json:"annotations,omitzero"`
	}
	itemCitation struct {
		Type string `json:"type"`
		citation
	}
	responseUsage struct {
		InputTokens  int64 `json:"input_tokens"`
		InputDetails struct {
			CachedTokens int64 `json:"cached_tokens"`
		} `json:"input_tokens_details"`
		OutputTokens  int64 `json:"output_tokens"`
		OutputDetails struct {
			ReasoningTokens int64 `json:"reasoning_tokens"`
		} `json:"output_tokens_details"`
		TotalTokens int64 `json:"total_tokens"`
	}
	deletedResponse struct {
		ID      string `json:"id"`
		Object  string `json:"object" enum:"response"`
		Deleted bool   `json:"deleted"`
	}
)

// newResponse returns the response of a turn that shows parts.
func newResponse(run string, turn int, created time.Time, model, finish string, u session.Usage, parts []session.Part) *responseObject {
	counted := &responseUsage{InputTokens: u.PromptTokens, OutputTokens: u.CompletionTokens + u.ThoughtTokens, TotalTokens: u.TotalTokens}
	counted.InputDetails.CachedTokens, counted.OutputDetails.ReasoningTokens = u.CachedTokens, u.ThoughtTokens
	r := begun(run, turn, created, model)
	r.Status, r.Usage, r.Output = "completed", counted, itemsOf(run, parts)
	switch finishReason(finish) {
	case "length":
		r.Status, r.Incomplete = "incomplete", &incompleteDetails{"max_output_tokens"}
	case "content_filter":
		r.Status, r.Incomplete = "incomplete", &incompleteDetails{"content_filter"}
	}
	if finish == "STOPPED" {
		r.Status = "cancelled"
	}
	return r
}

// begun returns the response of a run that has begun.
func begun(run string, turn int, created time.Time, model string) *responseObject {
	return &responseObject{
		ID: responseID(run, turn), Object: "response", CreatedAt: created.Unix(), Status: "in_progress", Model: model,
		Output: []outputItem{}, Store: true, Parallel: true, ToolChoice: "auto", Tools: []struct{}{},
	}
}

// itemsOf returns what a turn has shown: summaries of thoughts and texts, in order.
// Tools have run in the service, and no item asks the client to run one.
func itemsOf(run string, parts []session.Part) []outputItem {
	items := []outputItem{}
	for _, p := range parts {
		last := len(items) - 1
		switch p.Kind {
		case session.KindText:
			if last < 0 || items[last].Type != "message" {
				items = append(items, newItem(run, len(items), "message"))
				last++
			}
			items[last].Content[0].Text += p.Text
		case session.KindReasoning:
			items = append(items, newItem(run, len(items), "reasoning"))
			items[last+1].Summary[0].Text = p.Text
		}
	}
	for i := len(items) - 1; i >= 0; i-- {
		if items[i].Type == "message" {
			items[i].Content[0].Annotations = citationsOf(parts)
			break
		}
	}
	return items
}

// newItem returns an item without text.
func newItem(run string, number int, kind string) outputItem {
	_, turn, _ := session.SplitRunID(run)
	if kind == "reasoning" {
		return outputItem{ID: "rs_" + turn + "_" + strconv.Itoa(number), Type: kind, Summary: []itemText{{Type: "summary_text"}}}
	}
	return outputItem{
		ID: "msg_" + turn + "_" + strconv.Itoa(number), Type: kind, Status: "completed", Role: "assistant",
		Content: []itemText{{Type: "output_text", Annotations: []itemCitation{}}},
	}
}

func citationsOf(parts []session.Part) []itemCitation {
	list := []itemCitation{}
	for _, p := range parts {
		if p.Kind == session.KindSource {
			for _, a := range annotationsOf(p.Title, p.URI, p.Positions) {
				list = append(list, itemCitation{a.Type, a.URLCitation})
			}
		}
	}
	return list
}

// responseID returns the id of the response that a run makes: its session, its turn's id
// and number, in a form that nobody reads. Another owner's id finds nothing.
func responseID(run string, turn int) string { return "resp_" + opaque(run+"."+strconv.Itoa(turn)) }

// A turnRef is what a response's id refers to.
type turnRef struct {
	session string
	turn    string // its id
	number  int
}

// parseResponseID returns what a response's id refers to, and false if it is none.
func parseResponseID(id string) (ref turnRef, ok bool) {
	encoded, ok := strings.CutPrefix(id, "resp_")
	if !ok || len(id) > 256 {
		return ref, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	fields := strings.Split(string(raw), ".")
	if err != nil || len(fields) != 3 || !session.ValidID(fields[0]) {
		return ref, false
	}
	number, err := strconv.Atoi(fields[2])
	return turnRef{fields[0], fields[1], number}, err == nil && number > 0
}

// respond handles POST /v1/responses.
func (d *door) respond(w http.ResponseWriter, r *http.Request) error {
	var body responseRequest
	if err := api.DecodeStream(w, r, historyBodies*d.MaxBodyBytes, d.MaxBodyBytes, d.Timeout, noHold, &body); err != nil {
		return err
	}
	req, err := d.responseOf(r, body)
	if err != nil {
		return err
	}
	shape := shape{previous: body.Previous, conversation: string(body.Conversation), stored: !req.Options.Sessionless, temperature: body.Temperature}
	if body.Stream {
		return d.Stream(r.Context(), w, r, req, &responseEvents{shape: shape, created: time.Now()})
	}
	answer, err := d.Ask(r.Context(), req, nil)
	if err != nil {
		return err
	}
	parts := []session.Part{{Kind: session.KindText, Text: answer.Response}}
	for _, s := range answer.Sources {
		parts = append(parts, session.Part{Kind: session.KindSource, Title: s.Title, URI: s.URI, Positions: s.Positions})
	}
	return write(w, shape.of(newResponse(answer.RunID, answer.Turn, time.Now(), answer.Model, answer.FinishReason, answer.Usage, parts)))
}

// A shape is what an answer repeats of its request.
type shape struct {
	previous, conversation string
	stored                 bool
	temperature            *float64
}

func (s shape) of(r *responseObject) *responseObject {
	if s.previous != "" {
		r.Previous = &s.previous
	}
	if s.conversation != "" {
		r.Conversation = &conversationID{s.conversation}
	}
	r.Store, r.Temperature = s.stored, s.temperature
	return r
}

// responseOf returns the run that body asks for.
func (d *door) responseOf(r *http.Request, body responseRequest) (req invoke.Request, err error) {
	unstored := body.Store != nil && !*body.Store
	switch {
	case body.Background:
		return req, api.Invalid("background", "must be absent or false")
	case len(body.Tools) > 0:
		return req, api.Invalid("tools", "must be absent: the agent has its own tools, which run in the service")
	case body.Previous != "" && body.Conversation != "":
		return req, api.Invalid("previous_response_id", "must be absent beside conversation")
	case unstored && (body.Previous != "" || body.Conversation != ""):
		return req, api.Invalid("store", "must be true for a response that goes on with a session")
	case body.Conversation != "" && !session.ValidID(string(body.Conversation)):
		return req, api.Invalid("conversation", "must be 16 to 64 letters, digits, - or _")
	}
	if err := d.checkFormat("text.format.type", body.Text.Format.Type); err != nil {
		return req, err
	}
	c, err := converse("input", body.Input)
	if err != nil {
		return req, err
	}
	if body.Instructions != "" {
		c.instructions = strings.TrimSpace(body.Instructions + "\n\n" + c.instructions)
	}
	if req, err = d.request(r, c, body.Model, body.Temperature, body.MaxOutputTokens); err != nil {
		return req, err
	}
	switch goesOn := body.Previous != "" || body.Conversation != ""; {
	case goesOn && len(c.history) > 0:
		return req, api.Invalid("input", "must be one message: the service has the ones before it")
	case unstored, len(c.history) > 0: // a history of the client's own serves this run only
		if body.Store != nil && *body.Store {
			return req, api.Invalid("store", "must be false for an input that brings its history")
		}
		req.Options.Sessionless, req.Options.History = true, c.history
	case body.Conversation != "":
		req.SessionID, req.Options.Create = string(body.Conversation), true
	case body.Previous != "":
		ref, err := d.find(r.Context(), body.Previous, nil)
		if err != nil {
			return req, err
		}
		req.SessionID, req.AfterTurn = ref.session, &ref.number
	}
	return req, nil
}

// find looks for the turn of a response, and decodes it into turn unless that is nil.
func (d *door) find(ctx context.Context, id string, turn *session.Turn) (turnRef, error) {
	unknown := api.Fail(api.NotFound, nil)
	unknown.Message = "There is no such response."
	ref, ok := parseResponseID(id)
	if !ok {
		return ref, unknown
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	owner := caller.Owner(ctx)
	_, records, err := d.Store.Turns(ctx, session.Key{Owner: owner, ID: ref.session}, ref.number-1, 1)
	if errors.Is(err, session.ErrNotFound) || err == nil && (len(records) == 0 || records[0].Number != ref.number) {
		return ref, unknown
	}
	if err != nil {
		return ref, api.Fail(api.SessionStoreUnavailable, err)
	}
	stored, err := records[0].Turn()
	if err != nil {
		return ref, api.Fail(api.Internal, err)
	}
	if stored.ID != ref.turn { // another turn replaced it
		return ref, unknown
	}
	user, err := d.Store.LoadUser(ctx, owner)
	if err != nil {
		return ref, api.Fail(api.SessionStoreUnavailable, err)
	}
	if slices.Contains(removedOf(user.Values[removedState]), ref.turn) {
		return ref, unknown
	}
	if turn != nil {
		*turn = stored
	}
	return ref, nil
}

// retrieve handles GET /v1/responses/{response}.
func (d *door) retrieve(w http.ResponseWriter, r *http.Request) error {
	found, err := d.stored(r)
	if err != nil {
		return err
	}
	return write(w, found)
}

func (d *door) stored(r *http.Request) (*responseObject, error) {
	var t session.Turn
	ref, err := d.find(r.Context(), r.PathValue("response"), &t)
	if err != nil {
		return nil, err
	}
	return newResponse(session.RunID(ref.session, t.ID), ref.number, t.CreatedAt, t.Model, t.FinishReason, t.Usage, t.Shown()), nil
}

// cancel handles POST /v1/responses/{response}/cancel. A response has an id that its
// client knows only when it is complete.
func (d *door) cancel(http.ResponseWriter, *http.Request) error {
	e := api.Fail(api.SessionConflict, nil)
	e.Message = "Only a response in the background can be canceled."
	return e
}

const (
	// removedState is the name in an owner's state of the responses that it has removed.
	removedState = "gatehouse.responses.removed"
	// maxRemoved bounds them, so that they fit in a state of 64 KiB.
	maxRemoved = 2_000
)

func removedOf(state []byte) (ids []string) {
	_ = json.Unmarshal(state, &ids) // nothing else writes it
	return ids
}

// remove handles DELETE /v1/responses/{response}.
func (d *door) remove(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("response")
	ref, err := d.find(r.Context(), id, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	full := api.Fail(api.RequestTooLarge, nil)
	full.Message = "Too many responses were removed. Delete sessions instead."
	err = session.UpdateUser(ctx, d.Store, caller.Owner(ctx), removedState, d.Now(), func(state stdjson.RawMessage) (stdjson.RawMessage, error) {
		ids := removedOf(state)
		switch {
		case slices.Contains(ids, ref.turn):
			return state, nil
		case len(ids) >= maxRemoved:
			return nil, full
		}
		return json.Marshal(append(ids, ref.turn))
	})
	switch {
	case errors.Is(err, full), errors.Is(err, session.ErrTooLarge):
		return full
	case err != nil:
		return api.Fail(api.SessionStoreUnavailable, err)
	}
	return write(w, deletedResponse{id, "response", true})
}

// responseEvents is the event stream of a response
// (https://platform.openai.com/docs/api-reference/responses-streaming).
type responseEvents struct {
	shape
	created time.Time

	run      string
	turn     int
	model    string
	sequence int
	items    []outputItem // the last one is open while open is set
	open     bool
	parts    []session.Part // sources
	shown    invoke.Extent
}

// Headers implements [invoke.Dialect].
func (*responseEvents) Headers(http.Header) {}

// An event is the data of an event. Fields are set by type.
type event struct {
	Type         string          `json:"type"`
	Sequence     int             `json:"sequence_number"`
	Response     *responseObject `json:"response,omitzero"`
	OutputIndex  *int            `json:"output_index,omitzero"`
	ContentIndex *int            `json:"content_index,omitzero"`
	SummaryIndex *int            `json:"summary_index,omitzero"`
	ItemID       string          `json:"item_id,omitzero"`
	Item         *outputItem     `json:"item,omitzero"`
	Part         *itemText       `json:"part,omitzero"`
	Delta        *string         `json:"delta,omitzero"`
	Text         *string         `json:"text,omitzero"`
	Logprobs     []struct{}      `json:"logprobs,omitzero"`
	Annotation   *itemCitation   `json:"annotation,omitzero"`
	Index        *int            `json:"annotation_index,omitzero"`
}

func (s *responseEvents) send(b *bytes.Buffer, e event) error {
	e.Sequence = s.sequence
	s.sequence++
	return appendData(b, e.Type, e)
}

// Event implements [invoke.Dialect].
func (s *responseEvents) Event(b *bytes.Buffer, e invoke.Event) error {
	if s.shown.Voids(e) {
		return errVoid // nothing can be taken back here
	}
	switch e.Kind {
	case invoke.KindStart:
		s.run, s.turn, s.model = e.Run, e.Start.Turn, e.Start.Model
		for _, name := range []string{"response.created", "response.in_progress"} {
			if err := s.send(b, event{Type: name, Response: s.of(begun(s.run, s.turn, s.created, s.model))}); err != nil {
				return err
			}
		}
	case session.KindText:
		return s.text(b, "message", e.Part.Text)
	case session.KindReasoning:
		return s.text(b, "reasoning", e.Part.Text)
	case session.KindSource:
		s.parts = append(s.parts, e.Part)
	case invoke.KindDone:
		return s.done(b, e.Response)
	case invoke.KindError:
		failed := s.of(begun(s.run, s.turn, s.created, s.model))
		info := errorOf(e.Envelope).Error
		failed.Status, failed.Output, failed.Error = "failed", s.items, &responseError{info.Code, info.Message}
		return s.send(b, event{Type: "response.failed", Response: failed})
	}
	return nil
}

// text appends text to the open item of a kind, which it opens if need be.
func (s *responseEvents) text(b *bytes.Buffer, kind, text string) error {
	if s.open && s.items[len(s.items)-1].Type != kind {
		if err := s.close(b); err != nil {
			return err
		}
	}
	if !s.open {
		opened := newItem(s.run, len(s.items), kind)
		s.items, s.open = append(s.items, opened), true
		if opened.Content != nil {
			opened.Status, opened.Content = "in_progress", []itemText{}
		} else {
			opened.Summary = []itemText{}
		}
		at := len(s.items) - 1
		if err := s.send(b, event{Type: "response.output_item.added", OutputIndex: &at, Item: &opened}); err != nil {
			return err
		}
		if err := s.send(b, s.about(".added", event{Part: &itemText{Type: textType(kind), Annotations: noCitations(kind)}})); err != nil {
			return err
		}
	}
	last := &s.items[len(s.items)-1]
	s.current(last).Text += text
	return s.send(b, s.about(".delta", event{Delta: &text, Logprobs: []struct{}{}}))
}

func textType(kind string) string {
	if kind == "reasoning" {
		return "summary_text"
	}
	return "output_text"
}

func noCitations(kind string) []itemCitation {
	if kind == "reasoning" {
		return nil
	}
	return []itemCitation{}
}

// current returns the text of an item.
func (*responseEvents) current(i *outputItem) *itemText {
	if i.Type == "reasoning" {
		return &i.Summary[0]
	}
	return &i.Content[0]
}

// about returns e as an event about the open item, of the part where e has one and of
// its text elsewhere.
func (s *responseEvents) about(suffix string, e event) event {
	at, zero := len(s.items)-1, 0
	i := s.items[at]
	e.OutputIndex, e.ItemID = &at, i.ID
	switch {
	case i.Type == "reasoning" && e.Part != nil:
		e.Type, e.SummaryIndex = "response.reasoning_summary_part"+suffix, &zero
	case i.Type == "reasoning":
		e.Type, e.SummaryIndex, e.Logprobs = "response.reasoning_summary_text"+suffix, &zero, nil
	case e.Part != nil:
		e.Type, e.ContentIndex = "response.content_part"+suffix, &zero
	default:
		e.Type, e.ContentIndex = "response.output_text"+suffix, &zero
	}
	return e
}

// close ends the open item.
func (s *responseEvents) close(b *bytes.Buffer) error {
	if !s.open {
		return nil
	}
	at := len(s.items) - 1
	i := &s.items[at]
	text := s.current(i)
	for _, e := range []event{
		s.about(".done", event{Text: &text.Text, Logprobs: []struct{}{}}),
		s.about(".done", event{Part: text}),
		{Type: "response.output_item.done", OutputIndex: &at, Item: i},
	} {
		if err := s.send(b, e); err != nil {
			return err
		}
	}
	s.open = false
	return nil
}

// done ends the stream.
func (s *responseEvents) done(b *bytes.Buffer, answer *invoke.Response) error {
	if n := len(s.items); s.open && s.items[n-1].Type == "message" {
		list, zero, at := citationsOf(s.parts), 0, n-1
		for i := range list {
			e := event{Type: "response.output_text.annotation.added", OutputIndex: &at, ContentIndex: &zero, ItemID: s.items[at].ID, Annotation: &list[i], Index: &i}
			if err := s.send(b, e); err != nil {
				return err
			}
		}
		s.items[at].Content[0].Annotations = list
	}
	if err := s.close(b); err != nil {
		return err
	}
	final := newResponse(answer.RunID, answer.Turn, s.created, answer.Model, answer.FinishReason, answer.Usage, nil)
	final.Output = s.items
	if final.Output == nil {
		final.Output = []outputItem{}
	}
	name := "response.completed"
	if final.Status == "incomplete" {
		name = "response.incomplete"
	}
	return s.send(b, event{Type: name, Response: s.of(final)})
}
