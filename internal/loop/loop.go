// Package loop is the seam for frameworks that bring their own loop of model and tool
// calls, such as ADK for Go (module adk): the service hands a [Turn] to the framework's
// [Loop], which decides what the model is asked and which tools run. What the service
// promises of a turn stays with the service: model calls go through its retries, circuit
// breakers, budgets and deadline, and the turn is stored by its one commit.
//
// An agent names its Loop in agent.Agent. The package is internal because the seam is
// for modules beside this one, which change with it.
package loop

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A Loop answers turns. It is safe for concurrent use, and is not changed once it is in
// use.
type Loop struct {
	// Answer answers a turn and returns when the turn is over, at the latest when ctx
	// ends. Its context has what tool.From returns, and the states of package tool. A
	// panic, or an error that is not one of the Turn's methods, ends the turn as an internal
	// error; one of agent.Refuse, with its message for the person who asked.
	Answer func(ctx context.Context, t Turn) error

	// Form identifies how turns are answered, as far as it is known before: it is part
	// of the agent's digest, which turns are stored with.
	Form string
}

// A Turn is what a [Loop] works on. Its methods are safe for concurrent use; Generate
// alone lets calls run side by side. Once Answer has returned, or its context has ended,
// they return errors and change nothing.
type Turn interface {
	// Owner is whose turn it is: the hash of the verified caller and the end user.
	Owner() session.Owner

	// Question is what was asked, with its files. It is not to be changed.
	Question() *genai.Content

	// Past are the earlier turns, the oldest first, as many as HISTORY_TOKENS allows.
	Past() []Past

	// Resumed is where a turn goes on that has waited for a person; nil for one that begins.
	Resumed() *Resumed

	// Contents are those of the turn so far, the question first, as they are stored: results
	// follow on their calls, and ids of calls are those of the model. They are not to be changed.
	Contents() []*genai.Content

	// Streams reports whether text is to be shown piece by piece.
	Streams() bool

	// CanAsk reports whether a person can be asked for an approval.
	CanAsk() bool

	// Generate makes a model call, like the service's own: the request's model and the
	// bounds of the turn are set by the service, which retries, accounts and streams. The
	// contents are all that is sent, the past included. Config's tools, instruction, schema
	// and settings are sent with it, and those that the service sets itself are passed over.
	// Calls beyond the turn's rounds are made without tools; then the error is
	// [ErrRounds]. onText, unless nil, is called with each piece of text as it comes.
	Generate(ctx context.Context, contents []*genai.Content, config *genai.GenerateContentConfig, onText func(string) error) (*genai.GenerateContentResponse, error)

	// Say shows text of the answer that Add will bring: a piece of what is being
	// generated.
	Say(text string) error

	// Add appends a content to the turn and shows what is in it: text, unless Say has shown
	// it, calls of tools and their results, which need the ids of their calls.
	Add(content *genai.Content, said bool) error

	// Keep replaces what the Loop keeps of the turn, for Past and Resumed: JSON.
	Keep(kept json.RawMessage) error

	// BeforeCommit has f run once Answer has returned and the turn has its answer, or waits:
	// for what is written beside the turn. An error of it ends the turn.
	BeforeCommit(f func(context.Context) error)

	// Wait has the turn wait for a person once Answer returns nil: for approvals of some
	// calls of the content that Add was given last. results holds those of its other calls.
	Wait(questions []Question, results []*genai.FunctionResponse) error

	// Began stores that the tool of a call that was approved begins, before it does. end,
	// unless nil, is how it has ended already: it must not run again. The error says that the
	// run has to end, since nobody knows how an earlier call has ended.
	Began(id, name string) (end *End, err error)

	// Ended stores how a call that Began was told of has ended.
	Ended(id string, end End) error

	// Calling returns the context in which the tool of a call works: what it shows of its
	// progress is the call's, and it ends when the tool has taken too long, with that as its
	// cause. A call that Began was told of has its EffectID there, and its changes of the
	// session's state are stored with its end; if it takes too long, the turn ends, since nobody
	// knows how the call has ended. ended must be called once the tool has returned, or is not
	// waited for any more, with its error.
	Calling(ctx context.Context, c Call) (calling context.Context, ended func(error))

	// App is the state that all users share: that of the user of its States.
	App() tool.States
}

// Past is an earlier turn.
type Past struct {
	ID       string          // of the turn; "" if its client has sent it
	Contents json.RawMessage // list of genai.Content
	Kept     json.RawMessage // what Keep kept; nil for a turn that ended early, or is shortened here
}

// Resumed is how a turn that has waited goes on.
type Resumed struct {
	Kept    json.RawMessage
	Answers map[string]session.Answer // by the ids of the calls that were asked about
}

// A Call is one of a tool.
type Call struct {
	ID   string
	Name string

	// Timeout bounds the call; 0: the agent's ToolTimeout does, unless the tool asks the
	// model: then it is an agent, and has the turn's time.
	Timeout time.Duration
}

// An End is how a call has ended.
type End struct {
	Result map[string]any
	Kept   json.RawMessage // what the Loop keeps of it beside, which must be enough to go on from
}

// A Question asks a person whether a tool may be called.
type Question struct {
	ID   string // of the call
	Name string
	Args map[string]any
	Text string
}

// An Error is what the methods of a [Turn] return.
type Error string

func (e Error) Error() string { return string(e) }

// The errors of a [Turn], beside those of model calls and of the store.
const (
	ErrOver   Error = "the turn is over"
	ErrRounds Error = "the turn may not ask the model again"
	ErrRoom   Error = "the turn is too large to be stored"
)
