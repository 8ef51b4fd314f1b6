package openapitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Stream holds an event stream against the document while it comes. It is not
// safe for concurrent use.
type Stream struct {
	contract *Contract
	schema   any
	rest     string   // of an event that is not whole yet
	names    []string // of the events so far: for those without names, their types
	open     string   // the piece of text that has begun and is not whole
	err      error
}

// maxEvent is more than any event of the service has. It bounds what a stream without an
// end of event may have kept.
const maxEvent = 8 << 20

// Stream is for the answer to method and path, whose header has come, and is
// checked; nil: it is no event stream.
func (c *Contract) Stream(method, path string, status int, header http.Header) (*Stream, error) {
	if !strings.HasPrefix(header.Get("Content-Type"), eventStream) {
		return nil, nil
	}
	op, _ := c.operation(method, path)
	r := c.response(op.Responses[strconv.Itoa(status)])
	media, ok := r.Content[eventStream]
	if !ok {
		return nil, fmt.Errorf("an event stream of status %d is not documented", status)
	}
	if err := c.checkHeaders(r, header); err != nil {
		return nil, err
	}
	return &Stream{contract: c, schema: media.Schema}, nil
}

const eventStream = "text/event-stream"

// Write takes what comes next. Its error is the first thing that is not as the
// document has it: of an event by itself, or in its place after the others.
func (s *Stream) Write(p []byte) (int, error) {
	s.rest += string(p)
	for s.err == nil {
		block, rest, whole := strings.Cut(s.rest, "\n\n")
		if !whole {
			break
		}
		s.rest = rest
		if !strings.HasPrefix(block, ":") {
			s.err = s.event(block)
		}
	}
	if s.err == nil && len(s.rest) > maxEvent {
		s.err = fmt.Errorf("an event of more than %d bytes", maxEvent)
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// End returns an error if the stream is not whole.
func (s *Stream) End() error {
	switch {
	case s.err != nil:
		return s.err
	case s.rest != "":
		return fmt.Errorf("the stream ends within an event: %.300q", s.rest)
	case !s.over():
		return fmt.Errorf("a stream without its end: events in the order %q", s.names)
	}
	return nil
}

// checkStream checks a whole stream.
func (c *Contract) checkStream(schema any, body []byte) error {
	s := &Stream{contract: c, schema: schema}
	if _, err := s.Write(body); err != nil {
		return err
	}
	return s.End()
}

// chats reports whether the stream is of the AI SDK's.
func (s *Stream) chats() bool {
	object, _ := s.schema.(map[string]any)
	return object["$ref"] == components+"ChatPart"
}

// event checks the next event.
func (s *Stream) event(block string) error {
	var name, id, data string
	for line := range strings.SplitSeq(block, "\n") {
		if value, ok := strings.CutPrefix(line, "event: "); ok {
			name = value
		} else if value, ok := strings.CutPrefix(line, "id: "); ok {
			id = value
		} else if value, ok := strings.CutPrefix(line, "data: "); ok {
			data = value
		} else {
			return fmt.Errorf("a line of an event stream: %.300q", line)
		}
	}
	if s.over() {
		return fmt.Errorf("an event after the end: %.300q", block)
	}
	if s.chats() {
		return s.part(name, data)
	}
	schema, ok := s.contract.named(name)
	if !ok {
		return fmt.Errorf("the event %q is not documented", name)
	}
	if id == "" {
		return fmt.Errorf("event %s has no id", name)
	}
	if err := s.contract.validate(schema, []byte(data)); err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	return s.next(name, name == "start")
}

// part checks the next event of the AI SDK's. The schema holds for one event by itself;
// their order is checked here: a piece of text is whole before anything else comes.
func (s *Stream) part(name, data string) error {
	if name != "" {
		return fmt.Errorf("an event has the name %q", name)
	}
	if data == done {
		return s.next(done, !s.whole())
	}
	if err := s.contract.validate(map[string]any{"$ref": components + "ChatPart"}, []byte(data)); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	var p struct{ Type, ID string }
	if err := json.Unmarshal([]byte(data), &p); err != nil {
		return err
	}
	misplaced := p.Type == "start"
	switch p.Type {
	case "text-start":
		misplaced = s.open != ""
		s.open = p.ID
	case "text-delta":
		misplaced = s.open != p.ID
	case "text-end":
		misplaced = s.open != p.ID
		s.open = ""
	default:
		misplaced = misplaced || s.open != ""
	}
	return s.next(p.Type, misplaced || s.whole())
}

// done is the end of a UI message stream.
const done = "[DONE]"

// next counts an event in. The first must be a start; one that is misplaced may
// be nothing else.
func (s *Stream) next(name string, misplaced bool) error {
	first := len(s.names) == 0
	s.names = append(s.names, name)
	if first && name != "start" || !first && misplaced {
		return fmt.Errorf("events in the order %q", s.names)
	}
	return nil
}

// over reports whether nothing may follow.
func (s *Stream) over() bool {
	if s.chats() {
		return s.last() == done
	}
	return s.last() == "done" || s.last() == "error"
}

// whole reports whether a UI message has all its parts.
func (s *Stream) whole() bool { return s.last() == "finish" || s.last() == "error" }

func (s *Stream) last() string {
	if len(s.names) == 0 {
		return ""
	}
	return s.names[len(s.names)-1]
}

// named is the schema of the data of the event called name.
func (c *Contract) named(name string) (any, bool) {
	all, _ := c.defs["StreamEvent"].(map[string]any)
	kinds, _ := all["oneOf"].([]any)
	for _, kind := range kinds {
		object, _ := kind.(map[string]any)
		ref, _ := object["$ref"].(string)
		object, _ = c.defs[strings.TrimPrefix(ref, components)].(map[string]any)
		properties, _ := object["properties"].(map[string]any)
		event, _ := properties["event"].(map[string]any)
		if names, _ := event["enum"].([]any); slices.Contains(names, any(name)) {
			return properties["data"], true
		}
	}
	return nil, false
}
