package invoke

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// uiMessages is the dialect of POST /chat: the AI SDK's UI message stream, v1
// (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol). Each part is an event
// without a name; the text between two tool calls is a part of its own.
type uiMessages struct {
	texts int  // parts of text so far
	open  bool // the last of them is not ended
}

func (*uiMessages) headers(h http.Header) { h.Set("X-Vercel-Ai-Ui-Message-Stream", "v1") }

// part is what the parts of a stream are made of.
type part struct {
	Type       string `json:"type"`
	ID         string `json:"id,omitempty"`
	Delta      string `json:"delta,omitempty"`
	ToolCallID string `json:"toolCallId,omitempty"`
	ToolName   string `json:"toolName,omitempty"`
	Output     any    `json:"output,omitempty"`

	// ProviderExecuted: the page has no tool to run, and nothing to send on.
	ProviderExecuted bool   `json:"providerExecuted,omitempty"`
	ErrorText        string `json:"errorText,omitempty"`
	FinishReason     string `json:"finishReason,omitempty"`
	MessageMetadata  any    `json:"messageMetadata,omitempty"`
}

func (u *uiMessages) textID() string { return "text-" + strconv.Itoa(u.texts) }

func (u *uiMessages) start(b *bytes.Buffer, requestID, sessionID, model string) error {
	return appendEvent(b, "", part{Type: "start", MessageMetadata: struct {
		RequestID string `json:"request_id"`
		SessionID string `json:"session_id"`
	}{requestID, sessionID}})
}

func (u *uiMessages) delta(b *bytes.Buffer, text string) error {
	if text == "" {
		return nil
	}
	if !u.open && u.texts > 0 {
		if text = strings.TrimLeft(text, "\n"); text == "" { // a part is a paragraph by itself
			return nil
		}
	}
	if !u.open {
		u.open = true
		u.texts++
		if err := appendEvent(b, "", part{Type: "text-start", ID: u.textID()}); err != nil {
			return err
		}
	}
	return appendEvent(b, "", part{Type: "text-delta", ID: u.textID(), Delta: text})
}

// endText ends the part of text that is open.
func (u *uiMessages) endText(b *bytes.Buffer) error {
	if !u.open {
		return nil
	}
	u.open = false
	return appendEvent(b, "", part{Type: "text-end", ID: u.textID()})
}

func (u *uiMessages) toolCall(b *bytes.Buffer, id, name string, args map[string]any) error {
	if err := u.endText(b); err != nil {
		return err
	}
	return appendEvent(b, "", toolInput{Type: "tool-input-available", ToolCallID: id, ToolName: name, Input: args, ProviderExecuted: true})
}

// toolInput is a part of its own: none of its fields may be left out.
type toolInput struct {
	Type             string         `json:"type"`
	ToolCallID       string         `json:"toolCallId"`
	ToolName         string         `json:"toolName"`
	Input            map[string]any `json:"input"`
	ProviderExecuted bool           `json:"providerExecuted"`
}

func (u *uiMessages) toolResult(b *bytes.Buffer, id string, call session.ToolCall) error {
	return appendEvent(b, "", part{Type: "tool-output-available", ToolCallID: id, Output: call, ProviderExecuted: true})
}

func (u *uiMessages) done(b *bytes.Buffer, envelope api.Envelope, response *Response) error {
	if err := u.endText(b); err != nil {
		return err
	}
	err := appendEvent(b, "", part{Type: "finish", FinishReason: finishReason(response.FinishReason), MessageMetadata: struct {
		Usage     session.Usage `json:"usage"`
		RequestID string        `json:"request_id"`
		SessionID string        `json:"session_id"`
		Turn      int           `json:"turn"`
		Model     string        `json:"model"`
		Warnings  []string      `json:"warnings"`
	}{response.Usage, envelope.RequestID, response.SessionID, response.Turn, response.Model, response.Warnings}})
	if err != nil {
		return err
	}
	return endParts(b)
}

func (u *uiMessages) fail(b *bytes.Buffer, envelope api.Envelope) error {
	if err := u.endText(b); err != nil {
		return err
	}
	message := envelope.Message
	if plain, ok := plainly[*envelope.Error]; ok {
		message = plain
	}
	if err := appendEvent(b, "", part{Type: "error", ErrorText: message}); err != nil {
		return err
	}
	return endParts(b)
}

// endParts is how the SDK is told that no part follows.
func endParts(b *bytes.Buffer) error {
	_, err := b.WriteString("data: [DONE]\n\n")
	return err
}

// plainly says to the user of a page what the table of errors says to its
// developer. Errors within a stream are shown as they come.
var plainly = map[api.Code]string{
	api.SessionNotFound:       "This conversation was deleted.",
	api.SessionConflict:       "This conversation went on elsewhere meanwhile. Load it again.",
	api.IdempotencyInProgress: "This question is being answered already.",
	api.QuotaExceeded:         "Today's allowance is used up.",
	api.RateLimited:           "Too many questions at once; wait a moment.",
	api.ModelUnavailable:      "The model cannot be reached right now; try again in a moment.",
	api.Internal:              "Something went wrong on our side.",
	api.ShuttingDown:          "The answer was interrupted; ask again.",
}

// finishReason is a model's word in the SDK's.
func finishReason(word string) string {
	switch f := genai.FinishReason(word); {
	case f == genai.FinishReasonStop:
		return "stop"
	case f == genai.FinishReasonMaxTokens:
		return "length"
	case blocks(f):
		return "content-filter"
	}
	return "other"
}
