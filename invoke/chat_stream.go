package invoke

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// uiMessages is the dialect of POST /chat: the AI SDK's UI message stream, v1
// (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol). Each part is an event without a
// name, and text between two tool calls is a separate part.
type uiMessages struct {
	sdk   int    // the page's major version of the SDK
	texts int    // pieces of text and reasoning that have begun
	said  bool   // one of them was text
	open  string // "text" or "reasoning" while one has not ended
	shown Extent
	ended bool // nothing follows

	asked  map[string]bool // calls for whose approval this stream has asked
	denied map[string]bool // calls that a person has denied

	run  string
	from int         // the first part of the run that this stream shows
	kept []shownPart // what the page's message holds, for a page that knows reset-step
}

// The SDK validates every part of a stream, and one that its version does not know fails the
// whole answer. That is why a page sends its major version (X-AI-SDK), and why what a version
// lacks is left out or becomes text.

// newUIMessages returns the dialect for the page that made the request.
func newUIMessages(r *http.Request) (*uiMessages, error) {
	sdk, err := sdkOf(r)
	return &uiMessages{sdk: sdk}, err
}

// A shownPart is a part of a run as far as it was shown.
type shownPart struct {
	at   int // its place in the run
	part session.Part
	text []byte // of one that grows
}

// The versions of the AI SDK.
const (
	oldestSDK   = 5
	approvalSDK = 6 // the first that knows approvals
	answerSDK   = 7 // has a part for the answer, too
	resetSDK    = 7 // the first that knows reset-step
	newestSDK   = 7
	defaultSDK  = 6
)

// headerSDK is the header by which a page names the major version of its AI SDK.
const headerSDK = "X-AI-SDK"

// sdkOf returns the major version of the SDK that a page names. A version that it does not
// know is refused rather than taken for the newest: the page would break in mid-answer.
func sdkOf(r *http.Request) (int, error) {
	values := r.Header.Values(headerSDK)
	if len(values) == 0 {
		return defaultSDK, nil
	}
	version, err := strconv.Atoi(values[0])
	if err != nil || len(values) > 1 || version < oldestSDK || version > newestSDK {
		return 0, api.Malformed(headerSDK, "must be 5, 6 or 7, the major version of the package ai")
	}
	return version, nil
}

func (*uiMessages) Headers(h http.Header) { h.Set("X-Vercel-Ai-Ui-Message-Stream", "v1") }

// The parts of a stream, which [ChatPart] documents together.
type (
	chatStart struct {
		Type            string          `json:"type"`
		MessageID       string          `json:"messageId"`
		MessageMetadata chatStartedInfo `json:"messageMetadata"`
	}
	chatStartedInfo struct {
		RequestID string `json:"request_id"`
		SessionID string `json:"session_id"`
		RunID     string `json:"run_id"`
		Turn      int    `json:"turn"`
	}
	chatTextEdge struct { // where a text begins, or ends
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	chatTextDelta struct {
		Type  string `json:"type"`
		ID    string `json:"id"`
		Delta string `json:"delta"`
	}
	chatToolInput struct {
		Type       string         `json:"type"`
		ToolCallID string         `json:"toolCallId"`
		ToolName   string         `json:"toolName"`
		Input      map[string]any `json:"input"`
		// ProviderExecuted means that the page has no tool to run and no result to
		// send.
		ProviderExecuted bool `json:"providerExecuted"`
	}
	chatToolOutput struct {
		Type             string      `json:"type"`
		ToolCallID       string      `json:"toolCallId"`
		Output           chatToolEnd `json:"output"`
		ProviderExecuted bool        `json:"providerExecuted"`
	}
	chatToolError struct {
		Type             string `json:"type"`
		ToolCallID       string `json:"toolCallId"`
		ErrorText        string `json:"errorText"`
		ProviderExecuted bool   `json:"providerExecuted"`
	}
	chatToolEnd struct {
		session.ToolCall
		Result any `json:"result,omitempty"`
	}
	chatApproval struct {
		Type       string `json:"type"`
		ApprovalID string `json:"approvalId"`
		ToolCallID string `json:"toolCallId"`
	}
	chatAnswered struct {
		Type       string `json:"type"`
		ApprovalID string `json:"approvalId"`
		Approved   bool   `json:"approved"`
		Reason     string `json:"reason,omitempty"`
	}
	chatDenied struct {
		Type       string `json:"type"`
		ToolCallID string `json:"toolCallId"`
	}
	chatProgress struct {
		Type string   `json:"type"`
		ID   string   `json:"id"`
		Data Progress `json:"data"`
	}
	chatSource struct {
		Type     string `json:"type"`
		SourceID string `json:"sourceId"`
		URL      string `json:"url"`
		Title    string `json:"title"`
	}
	chatFile struct {
		Type      string `json:"type"`
		URL       string `json:"url"`
		MediaType string `json:"mediaType"`
	}
	chatFinish struct {
		Type            string           `json:"type"`
		FinishReason    string           `json:"finishReason"`
		MessageMetadata chatFinishedInfo `json:"messageMetadata"`
	}
	chatFinishedInfo struct {
		Usage     session.Usage `json:"usage"`
		RequestID string        `json:"request_id"`
		SessionID string        `json:"session_id"`
		RunID     string        `json:"run_id"`
		Turn      int           `json:"turn"`
		Model     string        `json:"model"`
		Finish    string        `json:"finish_reason"`
		Warnings  []string      `json:"warnings"`
		Pending   []UIPending   `json:"pending"`

		Output      json.RawMessage  `json:"output,omitempty"`
		Sources     []session.Source `json:"sources,omitempty"`
		Suggestions string           `json:"search_suggestions,omitempty"`
	}
	chatReset struct {
		Type string `json:"type"`
	}
	chatError struct {
		Type      string `json:"type"`
		ErrorText string `json:"errorText"`
	}
)

func (u *uiMessages) textID() string { return "text-" + strconv.Itoa(u.texts) }

// Event implements [Dialect]. A part that the protocol has no form for is left out.
func (u *uiMessages) Event(b *bytes.Buffer, e Event) error {
	if u.ended {
		return nil
	}
	p := e.Part
	if !p.Grows() {
		if err := u.endText(b); err != nil {
			return err
		}
	}
	// Every event passes here, also those that are not shown, or positions would be missed.
	voids := u.shown.Voids(e)
	if u.sdk >= resetSDK && p.Kind != "" {
		u.keep(e.At, p)
	}
	switch e.Kind {
	case KindStart:
		s := e.Start
		u.run, u.from, u.said = e.Run, e.At.Part, e.At.Part > 0 // what is new continues a message
		return appendData(b, chatStart{"start", s.RunID, chatStartedInfo{s.RequestID, s.SessionID, s.RunID, s.Turn}})
	case session.KindText:
		return u.delta(b, "text", p.Text)
	case session.KindReasoning:
		return u.delta(b, "reasoning", p.Text)
	case session.KindToolCall:
		return appendData(b, chatToolInput{"tool-input-available", p.ID, p.Name, arguments(p), true})
	case session.KindApproval:
		return u.ask(b, e.Run, p)
	case session.KindAnswered:
		return u.answered(b, e.Run, p)
	case session.KindProgress:
		return appendData(b, chatProgress{"data-progress", p.ID, Progress{p.ID, p.Name, p.Text}})
	case session.KindToolResult:
		if u.denied[p.ID] {
			return appendData(b, chatDenied{"tool-output-denied", p.ID})
		}
		if !p.OK {
			return appendData(b, chatToolError{"tool-output-error", p.ID, reasonOf(p), true})
		}
		return appendData(b, chatToolOutput{"tool-output-available", p.ID, chatToolEnd{toolCall(p), p.Result}, true})
	case session.KindSource:
		return appendData(b, chatSource{"source-url", p.URI, p.URI, p.Title})
	case session.KindFile:
		url := p.URI
		// A replay has only what is stored, and without FILES_BUCKET that is the file's name.
		if url == "" && len(p.Data) == 0 { // it went out with an earlier answer only
			return nil
		}
		if url == "" {
			url = "data:" + p.Type + ";base64," + base64.StdEncoding.EncodeToString(p.Data)
		}
		return appendData(b, chatFile{"file", url, p.Type})
	case KindReset:
		return u.reset(b, e.Reset, voids)
	case KindDone:
		return u.done(b, e.Envelope, e.Response)
	case KindError:
		return u.fail(b, e.Envelope)
	}
	return nil
}

// keep adds to kept a part, or a piece of one that grows, at whose end the position is. It
// costs the memory of the answer once more for each stream of a page that knows reset-step.
func (u *uiMessages) keep(at Position, p session.Part) {
	if !p.Grows() {
		u.kept = append(u.kept, shownPart{at: at.Part - 1, part: p})
		return
	}
	if n := len(u.kept); n == 0 || u.kept[n-1].at != at.Part {
		u.kept = append(u.kept, shownPart{at: at.Part, part: session.Part{Kind: p.Kind}})
	}
	last := &u.kept[len(u.kept)-1]
	last.text = append(last.text, p.Text...)
}

// reset takes back what was shown from a part on. The SDK's reset-step takes back the
// whole message, which has no steps here, so what still holds is shown again. A stream that
// continues a message has not shown all of it, and pages of an older SDK can take back
// nothing.
func (u *uiMessages) reset(b *bytes.Buffer, to session.Reset, voids bool) error {
	if u.sdk < resetSDK || u.from > 0 {
		if !voids {
			return nil // but reasoning is no answer, and may stay
		}
		// What follows would be appended to text that does not hold.
		u.ended = true
		if err := appendData(b, chatError{"error", "The answer was interrupted. Reload to see it."}); err != nil {
			return err
		}
		return endParts(b)
	}
	if err := appendData(b, chatReset{"reset-step"}); err != nil {
		return err
	}
	// Event keeps again what it shows, so the list begins empty.
	kept := u.kept
	u.kept, u.said = nil, false
	for _, s := range kept {
		if s.at >= to.Part {
			break
		}
		e := Event{Kind: s.part.Kind, Run: u.run, Part: s.part, At: Position{Part: s.at + 1}}
		if s.part.Grows() {
			e.At, e.Part.Text = Position{Part: s.at, Offset: len(s.text)}, string(s.text)
		}
		if err := u.Event(b, e); err != nil {
			return err
		}
	}
	return u.endText(b)
}

// reasonOf returns why a tool call failed.
func reasonOf(p session.Part) string { return cmp.Or(p.Error, errToolFailed.Error()) }

// delta appends a piece of text or reasoning.
func (u *uiMessages) delta(b *bytes.Buffer, kind, text string) error {
	if u.open != kind {
		if err := u.endText(b); err != nil {
			return err
		}
		if kind == "text" && u.said {
			// The line breaks that begin a later step are for clients that join all text.
			if text = strings.TrimLeft(text, "\n"); text == "" { // a part is rendered as a separate paragraph
				return nil
			}
		}
		u.open, u.said = kind, u.said || kind == "text"
		u.texts++
		if err := appendData(b, chatTextEdge{kind + "-start", u.textID()}); err != nil {
			return err
		}
	}
	return appendData(b, chatTextDelta{kind + "-delta", u.textID(), text})
}

// endText ends the open piece of text, if any. The next piece has another id, so that no delta
// reaches one that has ended.
func (u *uiMessages) endText(b *bytes.Buffer) error {
	if u.open == "" {
		return nil
	}
	kind := u.open
	u.open = ""
	return appendData(b, chatTextEdge{kind + "-end", u.textID()})
}

func (u *uiMessages) done(b *bytes.Buffer, envelope api.Envelope, response *Response) error {
	err := appendData(b, chatFinish{"finish", finishReason(response.FinishReason), chatFinishedInfo{
		response.Usage, envelope.RequestID, response.SessionID, response.RunID, response.Turn, response.Model, response.FinishReason, response.Warnings,
		uiPending(response.RunID, response.Pending), response.Output, response.Sources, response.Suggestions,
	}})
	if err != nil {
		return err
	}
	return endParts(b)
}

// The sentence is what useChat shows as error.message; code and details are in the log under
// the request's id.
func (u *uiMessages) fail(b *bytes.Buffer, envelope api.Envelope) error {
	if err := appendData(b, chatError{"error", envelope.Message}); err != nil {
		return err
	}
	return endParts(b)
}

// endParts writes the terminator that the SDK expects after the last part.
func endParts(b *bytes.Buffer) error {
	_, err := b.WriteString("data: [DONE]\n\n")
	return err
}

// finishReason returns the SDK's finish reason for the model's. The SDK has only these words;
// the model's own is in the metadata.
func finishReason(word string) string {
	switch f := genai.FinishReason(word); {
	case f == genai.FinishReasonStop:
		return "stop"
	case f == genai.FinishReasonMaxTokens:
		return "length"
	case f == finishWaiting:
		return "tool-calls"
	case model.IsSafetyBlock(f):
		return "content-filter"
	}
	return "other"
}

// A ChatPart documents an event in the stream of POST /chat. It is one schema for all types of
// parts: the SDK, which reads them, has a type for each.
type ChatPart struct {
	Type             string         `json:"type" enum:"start,text-start,text-delta,text-end,reasoning-start,reasoning-delta,reasoning-end,tool-input-available,tool-output-available,tool-output-error,tool-approval-request,tool-approval-response,tool-output-denied,source-url,file,data-progress,reset-step,finish,error"`
	MessageID        string         `json:"messageId,omitempty"`
	MessageMetadata  *ChatMetadata  `json:"messageMetadata,omitempty" doc:"Of start and finish."`
	ID               string         `json:"id,omitempty"`
	Delta            string         `json:"delta,omitempty"`
	ToolCallID       string         `json:"toolCallId,omitempty"`
	ToolName         string         `json:"toolName,omitempty"`
	Input            map[string]any `json:"input,omitempty"`
	Output           *chatToolEnd   `json:"output,omitempty"`
	ErrorText        string         `json:"errorText,omitempty"`
	ProviderExecuted bool           `json:"providerExecuted,omitempty"`
	ApprovalID       string         `json:"approvalId,omitempty"`
	Approved         bool           `json:"approved,omitempty"`
	Reason           string         `json:"reason,omitempty"`
	Data             *Progress      `json:"data,omitempty"`
	SourceID         string         `json:"sourceId,omitempty"`
	URL              string         `json:"url,omitempty"`
	Title            string         `json:"title,omitempty"`
	MediaType        string         `json:"mediaType,omitempty"`
	FinishReason     string         `json:"finishReason,omitempty" enum:"stop,length,content-filter,tool-calls,other"`
}

// ChatMetadata documents the metadata of a message: what start has, what finish adds, and
// what is read with the session's messages.
type ChatMetadata struct {
	RunID        string           `json:"run_id"`
	Turn         int              `json:"turn"`
	RequestID    string           `json:"request_id,omitempty"`
	SessionID    string           `json:"session_id,omitempty"`
	Usage        *session.Usage   `json:"usage,omitempty"`
	Model        string           `json:"model,omitempty"`
	FinishReason string           `json:"finish_reason,omitempty"`
	Warnings     []string         `json:"warnings,omitempty"`
	Pending      []UIPending      `json:"pending,omitempty"`
	Feedback     *FeedbackInfo    `json:"feedback,omitempty"`
	Output       json.RawMessage  `json:"output,omitempty"`
	Sources      []session.Source `json:"sources,omitempty"`
	Suggestions  string           `json:"search_suggestions,omitempty"`
}

// Schema implements [huma.SchemaProvider].
func (UIMessageFacts) Schema(r huma.Registry) *huma.Schema { return schemaOf[ChatMetadata](r, "") }
