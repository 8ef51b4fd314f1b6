package session

import (
	"bytes"
	"strconv"
	"time"

	"example.com/gatehouse/internal/exactjson"
)

// A Kind is what a [Part] is. It is the name of the part's event, too.
type Kind string

// The kinds of a [Part].
const (
	KindText       Kind = "delta"           // of the answer
	KindReasoning  Kind = "reasoning"       // a summary of the model's thoughts
	KindToolCall   Kind = "tool_call"       // the model requests a call
	KindToolResult Kind = "tool_result"     // the call has ended
	KindProgress   Kind = "progress"        // a tool reports how far it is
	KindSource     Kind = "source"          // where the answer comes from
	KindFile       Kind = "file"            // a part of the answer
	KindApproval   Kind = "approval"        // the run waits for a person
	KindAnswered   Kind = "approval_answer" // the person has answered
)

// A Part is one thing that a run has shown. The parts of a run are a log: one is only
// ever appended, and only the last one's text grows. So the number of a part and an
// offset in its text are a position in what was shown, on every instance and for as long
// as the turn is stored. Fields are set by kind.
type Part struct {
	Kind Kind `json:"kind"`

	Text string `json:"text,omitempty"` // of text, reasoning and progress
	Size int    `json:"size,omitempty"` // of a text that a stored turn has in its contents, in bytes

	ID   string         `json:"id,omitempty"`   // of the tool call that the part is about
	Name string         `json:"name,omitempty"` // of the tool or the file
	Args map[string]any `json:"args,omitempty"` // of a call; a stored turn has them in its contents

	OK         bool   `json:"ok,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	Error      string `json:"error,omitempty"`  // why the tool failed, in its own words
	Shown      bool   `json:"shown,omitempty"`  // the tool shows its results
	Result     any    `json:"result,omitempty"` // of a tool that does; a stored turn has it in its contents

	Own bool `json:"own,omitempty"` // Gemini ran the tool: the part has the arguments or the result itself

	Title     string     `json:"title,omitempty"`     // of a source
	URI       string     `json:"uri,omitempty"`       // of a source or file
	Positions []Position `json:"positions,omitempty"` // of a source: what of the answer rests on it
	Type      string     `json:"type,omitempty"`      // of a file: its media type
	Data      []byte     `json:"data,omitempty"`      // of a file without a URI; a stored turn does not have it

	Question  string    `json:"question,omitempty"`  // of an approval
	ExpiresAt time.Time `json:"expires_at,omitzero"` // of an approval
	Approve   bool      `json:"approve,omitempty"`   // of its answer
	Reason    string    `json:"reason,omitempty"`    // of its answer
}

// Source returns what a part of the kind source names.
func (p Part) Source() Source { return Source{Title: p.Title, URI: p.URI, Positions: p.Positions} }

// Grows reports whether p is of a kind whose text comes in pieces.
func (p Part) Grows() bool { return p.Kind == KindText || p.Kind == KindReasoning }

// A Reset makes void what was shown from a part on: the step that it belongs to begins
// again. Positions before and after it are of two attempts.
type Reset struct {
	Step int `json:"step"` // model call of the run, from 1
	Part int `json:"part"` // first part of the step, from 0
}

// Stored returns p as a turn stores it: without what the turn's contents hold.
func (p Part) Stored() Part {
	if p.Kind == KindText {
		p.Text, p.Size = "", len(p.Text)
	}
	if p.Data = nil; !p.Own {
		p.Args, p.Result = nil, nil
	}
	return p
}

// Shown returns what the run of t has shown, with what only t's contents hold filled in.
// Turns of earlier releases have no parts; theirs are made from the contents.
func (t Turn) Shown() []Part {
	calls, results := t.exchanges()
	_, text := t.Texts()
	if len(t.Parts) == 0 {
		return t.derived(calls, text)
	}
	parts := make([]Part, len(t.Parts))
	number := map[string]int{} // of a call, by its part's id
	called := 0
	for i, p := range t.Parts {
		kind := p.Kind
		if p.Own {
			kind = ""
		}
		switch kind {
		case KindText:
			n := max(0, min(p.Size, len(text))) // an answer too large to be stored is cut
			p.Text, p.Size, text = text[:n], 0, text[n:]
		case KindToolCall:
			if called < len(calls) {
				p.Args = calls[called]
			}
			number[p.ID] = called
			called++
		case KindToolResult:
			if n, ok := number[p.ID]; ok && p.Shown && n < len(results) {
				p.Result = results[n]
			}
		}
		parts[i] = p
	}
	return parts
}

// derived returns the parts of a turn that stores none: its calls, then its answer.
func (t Turn) derived(calls []map[string]any, text string) []Part {
	var parts []Part
	for i, call := range t.ToolCalls {
		id := "call_" + strconv.Itoa(i+1)
		p := Part{Kind: KindToolCall, ID: id, Name: call.Name}
		if i < len(calls) {
			p.Args = calls[i]
		}
		parts = append(parts, p, Part{Kind: KindToolResult, ID: id, Name: call.Name, OK: call.OK, DurationMS: call.DurationMS})
	}
	if text != "" {
		parts = append(parts, Part{Kind: KindText, Text: text})
	}
	return parts
}

// exchanges returns the arguments and the results of t's tool calls, in order.
func (t Turn) exchanges() (calls []map[string]any, results []any) {
	var contents []struct {
		Parts []struct {
			FunctionCall     *struct{ Args map[string]any } `json:"functionCall"`
			FunctionResponse *struct{ Response any }        `json:"functionResponse"`
		} `json:"parts"`
	}
	if !bytes.Contains(t.Contents, []byte(`"function`)) {
		return nil, nil
	}
	if exactjson.Unmarshal(t.Contents, &contents) != nil {
		return nil, nil
	}
	for _, content := range contents {
		for _, part := range content.Parts {
			if part.FunctionCall != nil {
				calls = append(calls, part.FunctionCall.Args)
			}
			if part.FunctionResponse != nil {
				results = append(results, part.FunctionResponse.Response)
			}
		}
	}
	return calls, results
}
