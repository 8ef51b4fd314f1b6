package invoke

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// The kinds of an [Event] that are no part of what a run shows.
const (
	KindStart session.Kind = "start" // the run is admitted; the first event
	KindReset session.Kind = "reset" // what was shown since a step is void
	KindDone  session.Kind = "done"  // the turn is stored; the last event
	KindError session.Kind = "error" // the last event, instead of done
)

// An Event is one thing that a watcher of a run is shown, in any protocol. One without a
// Kind shows only that a watcher who resumes is connected. Other fields are set by Kind: Start
// of a start, Reset of a reset, Response of done, Envelope of done and error, and Part of all
// others. Part.Text of text and reasoning is what is new.
type Event struct {
	Kind session.Kind
	At   Position // behind the event
	Run  string   // id of the run

	Start    *Start
	Part     session.Part
	Reset    session.Reset
	Response *Response
	Envelope api.Envelope
}

// A Position is a place in what a run shows: the number of times that a step has begun
// again, the number of the part, and the bytes of its text. A position names what comes next,
// not what was shown last: whoever resumes there misses nothing and reads nothing twice.
type Position struct{ Attempt, Part, Offset int }

// maxPosition bounds each number of a position: no run shows as many bytes.
const maxPosition = 1 << 30

// EventID returns the id of an event of the run: the beginning of the turn's id, by which
// an id of another run is recognized, and the position. It has no line break and no secret. 8
// characters of a random id are 48 bits: enough to notice a mistake, and none is attacked with
// it, since a run is found by its owner first.
func EventID(run string, p Position) string {
	b := make([]byte, 0, 32)
	b = append(b, runTag(run)...)
	for _, n := range [...]int{p.Attempt, p.Part, p.Offset} {
		b = strconv.AppendInt(append(b, '.'), int64(n), 10)
	}
	return string(b)
}

// ParseEventID returns the position in an event's id, and false if the id is not one of
// this run.
func ParseEventID(run, id string) (p Position, ok bool) {
	// The id is a header of the client's. The longest of ours has 41 bytes.
	if len(id) > 64 {
		return Position{}, false
	}
	fields := strings.Split(id, ".")
	if len(fields) != 4 || fields[0] != runTag(run) {
		return Position{}, false
	}
	for i, n := range [...]*int{&p.Attempt, &p.Part, &p.Offset} {
		var err error
		if *n, err = strconv.Atoi(fields[i+1]); err != nil || *n < 0 || *n > maxPosition {
			return Position{}, false
		}
	}
	return p, true
}

// runTag returns the part of a run's id that event ids have: enough to notice that a client
// resumes another run.
func runTag(run string) string {
	_, turn, _ := session.SplitRunID(run)
	return turn[:min(len(turn), 8)]
}

// The data of the events of POST /invoke. "done" and "error" have the envelope of other
// responses.
type (
	// Start is the data of "start", the first event.
	Start struct {
		RequestID string `json:"request_id"`
		RunID     string `json:"run_id"`
		SessionID string `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
		Turn      int    `json:"turn" minimum:"1" doc:"The expected one."`
		Model     string `json:"model" doc:"That is asked; done names the one that answered."`

		replayed bool // the run is over, and its turn was stored by an earlier call
	}
	// A Delta is the data of "delta", a piece of the answer's text, and of "reasoning".
	Delta struct {
		Text string `json:"text"`
	}
	// A ToolStart is the data of "tool_call": the model requests a tool call.
	ToolStart struct {
		ID   string         `json:"id"`
		Name string         `json:"name"`
		Args map[string]any `json:"args"`
	}
	// A ToolEnd is the data of "tool_result": a tool call has ended.
	ToolEnd struct {
		ID string `json:"id"`
		session.ToolCall
		Error  string `json:"error,omitempty" doc:"Why it failed."`
		Result any    `json:"result,omitempty" doc:"Of tools that show theirs."`
	}
	// A Progress is the data of "progress": a tool reports how far it is.
	Progress struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		Text string `json:"text"`
	}
	// A Source is the data of "source": where the answer comes from.
	Source = session.Source
	// A File is the data of "file": a part of the answer.
	File struct {
		Name string `json:"name,omitempty"`
		Type string `json:"type" doc:"The media type."`
		URI  string `json:"uri,omitempty"`
		Data []byte `json:"data,omitempty" doc:"Of a file that has no URI."`
	}
	// An Approved is the data of "approval_answer": a person has answered.
	Approved struct {
		CallID  string `json:"call_id"`
		Approve bool   `json:"approve"`
		Reason  string `json:"reason,omitempty"`
	}
	// A Void is the data of "reset".
	Void struct {
		Step int `json:"step" minimum:"1" doc:"The model call that is made again."`
		Part int `json:"part" minimum:"0" doc:"Events whose id has this part, in its third field, or a later one are void."`
	}
)

// A Dialect is the format of a stream. Its methods are called one at a time. A dialect may
// keep what its stream has shown, so each stream has one of them.
type Dialect interface {
	Headers(h http.Header)
	// Event appends an event, in complete events of the format, to b.
	Event(b *bytes.Buffer, e Event) error
}

// events is the dialect of POST /invoke.
type events struct{}

func (events) Headers(http.Header) {}

func (events) Event(b *bytes.Buffer, e Event) error {
	if e.Kind == "" {
		// A comment, which EventSource passes over. It sends the header of a stream that may
		// be silent for long, so that the client knows that it is connected.
		b.WriteString(": resumed\n\n")
		return nil
	}
	// Kinds and ids are the service's words: neither has a line break by which content could
	// forge an event.
	b.WriteString("event: ")
	b.WriteString(string(e.Kind))
	b.WriteString("\nid: ")
	b.WriteString(EventID(e.Run, e.At))
	b.WriteByte('\n')
	return appendData(b, e.data())
}

// data returns the data of the event on POST /invoke.
func (e Event) data() any {
	p := e.Part
	switch e.Kind {
	case KindStart:
		return e.Start
	case session.KindText, session.KindReasoning:
		return Delta{p.Text}
	case session.KindToolCall:
		return ToolStart{p.ID, p.Name, arguments(p)}
	case session.KindToolResult:
		return ToolEnd{p.ID, toolCall(p), p.Error, p.Result}
	case session.KindProgress:
		return Progress{p.ID, p.Name, p.Text}
	case session.KindSource:
		return p.Source()
	case session.KindFile:
		return fileOf(p)
	case session.KindApproval:
		return session.Pending{CallID: p.ID, Name: p.Name, Args: arguments(p), Question: p.Question, ExpiresAt: p.ExpiresAt}
	case session.KindAnswered:
		return Approved{p.ID, p.Approve, p.Reason}
	case KindReset:
		return Void{e.Reset.Step, e.Reset.Part}
	}
	return e.Envelope
}

// arguments returns the arguments of a call, an empty object for none.
func arguments(p session.Part) map[string]any {
	if p.Args == nil {
		return map[string]any{}
	}
	return p.Args
}

func fileOf(p session.Part) File { return File{p.Name, p.Type, p.URI, p.Data} }

func toolCall(p session.Part) session.ToolCall {
	return session.ToolCall{Name: p.Name, OK: p.OK, DurationMS: p.DurationMS}
}

// An Extent is how far into a run a client has been shown more than reasoning. Clients
// that cannot take back what a reset makes void need it: reasoning may stay, for it is no
// answer.
type Extent struct{ parts int }

// Voids takes the next event in, and reports whether it makes void what was shown.
func (x *Extent) Voids(e Event) bool {
	switch e.Kind {
	case KindReset:
		return x.parts > e.Reset.Part
	case session.KindReasoning, KindStart:
		return false
	}
	if x.parts = e.At.Part; e.Part.Grows() {
		x.parts++
	}
	return false
}

// appendData writes the data of an event and ends it. Data is one line, because JSON
// escapes newlines in strings.
func appendData(b *bytes.Buffer, data any) error {
	b.WriteString("data: ")
	if err := json.NewEncoder(b).Encode(data); err != nil { // ends with a newline
		return err
	}
	b.WriteByte('\n')
	return nil
}

// A StreamEvent documents an event in the stream of POST /invoke.
type StreamEvent struct{}

// Schema implements [huma.SchemaProvider]. Each event is a schema by itself, so that
// generated clients have a type for it.
func (StreamEvent) Schema(r huma.Registry) *huma.Schema {
	named := func(name, description string, data *huma.Schema, more ...any) *huma.Schema {
		var component strings.Builder
		for word := range strings.SplitSeq(name, "_") {
			component.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
		component.WriteString("Event")
		r.Map()[component.String()] = &huma.Schema{
			Type: huma.TypeObject, Description: description, Required: []string{"id", "event", "data"},
			Properties: map[string]*huma.Schema{
				"id": {Type: huma.TypeString}, "event": {Type: huma.TypeString, Enum: append([]any{name}, more...)}, "data": data,
			},
		}
		return &huma.Schema{Ref: "#/components/schemas/" + component.String()}
	}
	return &huma.Schema{
		Description: "One event of the stream, as its lines are read: `id` is a position in the run's output, `data` JSON.",
		OneOf: []*huma.Schema{
			named("start", "The first.", schemaOf[Start](r, "")),
			named("delta", "A piece of the answer, or of a summary of the model's thoughts.", schemaOf[Delta](r, ""), "reasoning"),
			named("tool_call", "", schemaOf[ToolStart](r, "")),
			named("progress", "", schemaOf[Progress](r, "")),
			named("tool_result", "", schemaOf[ToolEnd](r, "")),
			named("source", "", schemaOf[Source](r, "")),
			named("file", "", schemaOf[File](r, "")),
			named("approval", "The run waits for a person.", schemaOf[session.Pending](r, "")),
			named("approval_answer", "", schemaOf[Approved](r, "")),
			named("reset", "What was shown since a step is void.", schemaOf[Void](r, "")),
			named("done", "The last: the turn is stored.", &huma.Schema{Ref: "#/components/schemas/ResponseAnswer"}),
			named("error", "Instead of done.", &huma.Schema{Ref: "#/components/schemas/Error"}),
		},
	}
}
