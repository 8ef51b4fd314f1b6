package invoke

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// uiMessages is the dialect of POST /chat: the AI SDK's UI message stream, v1
// (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol). Each part is an event without a
// name, and text between two tool calls is a separate part.
type uiMessages struct {
	texts int  // text parts started
	open  bool // the last one has not ended
}

func (*uiMessages) headers(h http.Header) { h.Set("X-Vercel-Ai-Ui-Message-Stream", "v1") }

// The parts of a stream, documented by their tags.
type (
	chatStart struct {
		Type            string          `json:"type" enum:"start"`
		MessageMetadata chatStartedInfo `json:"messageMetadata"`
	}
	chatStartedInfo struct {
		RequestID string `json:"request_id"`
		SessionID string `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
	}
	chatTextStart struct {
		Type string `json:"type" enum:"text-start"`
		ID   string `json:"id" doc:"A message has a piece of text before, between and after tool calls."`
	}
	chatTextDelta struct {
		Type  string `json:"type" enum:"text-delta"`
		ID    string `json:"id"`
		Delta string `json:"delta"`
	}
	chatTextEnd struct {
		Type string `json:"type" enum:"text-end"`
		ID   string `json:"id"`
	}
	chatToolInput struct {
		Type       string         `json:"type" enum:"tool-input-available"`
		ToolCallID string         `json:"toolCallId"`
		ToolName   string         `json:"toolName"`
		Input      map[string]any `json:"input"`
		// ProviderExecuted tells the page that it has no tool to run and no result to
		// send.
		ProviderExecuted bool `json:"providerExecuted" enum:"true" doc:"The service runs tools itself."`
	}
	chatToolOutput struct {
		Type             string           `json:"type" enum:"tool-output-available"`
		ToolCallID       string           `json:"toolCallId"`
		Output           session.ToolCall `json:"output"`
		ProviderExecuted bool             `json:"providerExecuted" enum:"true"`
	}
	chatFinish struct {
		Type            string           `json:"type" enum:"finish"`
		FinishReason    string           `json:"finishReason" enum:"stop,length,content-filter,other"`
		MessageMetadata chatFinishedInfo `json:"messageMetadata"`
	}
	chatFinishedInfo struct {
		Usage     session.Usage `json:"usage"`
		RequestID string        `json:"request_id"`
		SessionID string        `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
		Turn      int           `json:"turn" minimum:"1"`
		Model     string        `json:"model"`
		Warnings  []string      `json:"warnings"`
	}
	chatError struct {
		Type      string `json:"type" enum:"error"`
		ErrorText string `json:"errorText" doc:"A sentence for the page's user."`
	}
)

func (u *uiMessages) textID() string { return "text-" + strconv.Itoa(u.texts) }

func (u *uiMessages) start(b *bytes.Buffer, requestID, sessionID, model string) error {
	return appendEvent(b, "", chatStart{"start", chatStartedInfo{requestID, sessionID}})
}

func (u *uiMessages) delta(b *bytes.Buffer, text string) error {
	if text == "" {
		return nil
	}
	if !u.open && u.texts > 0 {
		if text = strings.TrimLeft(text, "\n"); text == "" { // a part is rendered as a separate paragraph
			return nil
		}
	}
	if !u.open {
		u.open = true
		u.texts++
		if err := appendEvent(b, "", chatTextStart{"text-start", u.textID()}); err != nil {
			return err
		}
	}
	return appendEvent(b, "", chatTextDelta{"text-delta", u.textID(), text})
}

// endText ends the open text part, if any.
func (u *uiMessages) endText(b *bytes.Buffer) error {
	if !u.open {
		return nil
	}
	u.open = false
	return appendEvent(b, "", chatTextEnd{"text-end", u.textID()})
}

func (u *uiMessages) toolCall(b *bytes.Buffer, id, name string, args map[string]any) error {
	if err := u.endText(b); err != nil {
		return err
	}
	return appendEvent(b, "", chatToolInput{"tool-input-available", id, name, args, true})
}

func (u *uiMessages) toolResult(b *bytes.Buffer, id string, call session.ToolCall) error {
	return appendEvent(b, "", chatToolOutput{"tool-output-available", id, call, true})
}

func (u *uiMessages) done(b *bytes.Buffer, envelope api.Envelope, response *Response) error {
	if err := u.endText(b); err != nil {
		return err
	}
	err := appendEvent(b, "", chatFinish{"finish", finishReason(response.FinishReason), chatFinishedInfo{
		response.Usage, envelope.RequestID, response.SessionID, response.Turn, response.Model, response.Warnings,
	}})
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
	if plain, ok := userMessages[*envelope.Error]; ok {
		message = plain
	}
	if err := appendEvent(b, "", chatError{"error", message}); err != nil {
		return err
	}
	return endParts(b)
}

// endParts writes the terminator that the SDK expects after the last part.
func endParts(b *bytes.Buffer) error {
	_, err := b.WriteString("data: [DONE]\n\n")
	return err
}

// userMessages are the texts of errors for the end user of a page, because pages show
// errors in a stream as they are. Other codes use the message for developers.
var userMessages = map[api.Code]string{
	api.SessionNotFound:       "This conversation was deleted.",
	api.SessionConflict:       "This conversation was continued elsewhere. Load it again.",
	api.IdempotencyInProgress: "This question is already being answered.",
	api.QuotaExceeded:         "Today's allowance is used up.",
	api.RateLimited:           "Too many questions at once; wait a moment.",
	api.ModelUnavailable:      "The model cannot be reached right now; try again in a moment.",
	api.Internal:              "Something went wrong on our side.",
	api.ShuttingDown:          "The answer was interrupted; ask again.",
}

// finishReason returns the SDK's finish reason for the model's.
func finishReason(word string) string {
	switch f := genai.FinishReason(word); {
	case f == genai.FinishReasonStop:
		return "stop"
	case f == genai.FinishReasonMaxTokens:
		return "length"
	case model.IsSafetyBlock(f):
		return "content-filter"
	}
	return "other"
}
