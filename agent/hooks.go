package agent

import (
	"context"
	"encoding/json"

	"google.golang.org/genai"
)

// Hooks are functions of the program that run within a turn: to redact, to guard, to
// cache, to log. Each may be nil, and is called by many turns at once. Its context is
// that of the turn, with what tool.From returns.
//
// An error ends the turn: one of [Refuse] with its message for the person who asked, any
// other as an internal error. Of Tool, an error is what the model reads of the call. A
// panic ends the turn; a hook that blocks ends with the turn's deadline.
type Hooks struct {
	// Question runs before the turn: nothing of what was asked has been stored, logged or
	// sent then, but for the SHA-256 of a request with an Idempotency-Key. What it leaves
	// in q is the question: in the session, its title and the prompt. A replay does not run it.
	// It runs, too, with what else people write: the comment of a feedback, the reason of an
	// approval, and a title; q.Of names which.
	Question func(ctx context.Context, q *Question) error

	// Model runs around each model call, which next makes. It may change what is sent
	// before and what was answered after; without next, it sets the Answer itself. Text
	// goes out after it has run, not piece by piece.
	Model func(ctx context.Context, c *ModelCall, next func() error) error

	// Tool runs around each call of a tool that the model requests, which next makes. It
	// may change the arguments before and the output after; without next, it sets the
	// Output itself. Calls of one step run at once.
	Tool func(ctx context.Context, c *ToolCall, next func() error) error

	// Answer runs with the text of each step of the model, before it goes out or is
	// stored. With it text does not go out piece by piece, and the model's summaries of
	// its thoughts are dropped, which it does not see.
	Answer func(ctx context.Context, a *Answer) error
}

// A Question is what was asked.
type Question struct {
	Text  string // not empty; of at most 10 000 characters before the hook, 64 KiB after it
	Of    string // "" for a question, "feedback" for a comment, "approval" for a reason, "title" for a title
	Files []QuestionFile
}

// A QuestionFile is a file that came with a question.
type QuestionFile struct {
	Name string // as the client named it; the hook may name it otherwise
	Type string // its media type
	URI  string // gs:// address; "" for one that came with its content
}

// A ModelCall is a call of the model.
type ModelCall struct {
	Model string // that is asked, unless a fallback stands in
	Step  int    // 1 for the turn's first call

	// Instruction, History and Contents are sent. History holds the contents of earlier
	// turns in the API's JSON form, a list for each turn; Contents are those of this turn
	// so far. Both are shared with what is stored: to change one, put another in its place.
	Instruction string
	History     []json.RawMessage
	Contents    []*genai.Content

	// Answer is what the model answered, once next has returned without an error. It is
	// stored and shown as the hook leaves it.
	Answer *genai.Content
}

// A ToolCall is a call of a tool.
type ToolCall struct {
	Name   string
	Args   map[string]any // a copy: what is stored and shown stays as the model wrote it
	Output map[string]any // once next has returned without an error

	// Progress, if it is set before next, returns what is shown of a text that the tool
	// reports by tool.Progress; "" is not shown. The tool may call it several times at once.
	Progress func(text string) string
}

// An Answer is the text of one step of the model: of the answer, or what it says before
// it calls tools.
type Answer struct {
	Text string // not empty; a hook that leaves nothing refuses the answer
}

// A Refusal is an error for the person who asked: 422 content_blocked with its message.
type Refusal struct{ Message string }

func (r *Refusal) Error() string { return r.Message }

// Refuse returns a [Refusal], whose message is a sentence to act on, such as "Ask without the
// card's number.".
func Refuse(message string) error { return &Refusal{message} }
