package invoke

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// maxChatTurns bounds the turns of a [ChatHistory]. The newest are shown: a page has no cursor
// for useChat's messages, and older turns are read at GET /sessions/{id}.
const maxChatTurns = 200

// A ChatHistory is the data of GET /chat/{id}: a session as the AI SDK's useChat has it
// (https://ai-sdk.dev/docs/reference/ai-sdk-core/ui-message).
type ChatHistory struct {
	Messages []UIMessage `json:"messages"`
}

// A UIMessage is a message of a page. Its id is the same in the stream, so that a page that
// reloads in mid-answer has no message twice.
type UIMessage struct {
	ID       string          `json:"id"`
	Role     string          `json:"role" enum:"user,assistant"`
	Metadata *UIMessageFacts `json:"metadata,omitempty"`
	Parts    []UIPart        `json:"parts"`
}

// UIMessageFacts are what a page shows beside an answer.
type UIMessageFacts struct {
	RunID        string        `json:"run_id"`
	Turn         int           `json:"turn" minimum:"1"`
	Model        string        `json:"model"`
	FinishReason string        `json:"finish_reason"`
	Usage        session.Usage `json:"usage"`
	Warnings     []string      `json:"warnings"`
	Pending      []UIPending   `json:"pending"`
	Feedback     *FeedbackInfo `json:"feedback"`
}

// A UIPart is a part of a message. Fields are set by type.
type UIPart struct {
	Type string `json:"type" doc:"text, reasoning, tool-NAME, source-url or file."`
	Text string `json:"text,omitempty"`

	ToolCallID       string         `json:"toolCallId,omitempty"`
	State            string         `json:"state,omitempty" enum:"input-available,approval-requested,output-available,output-error,output-denied"`
	Input            map[string]any `json:"input,omitempty"`
	Output           *chatToolEnd   `json:"output,omitempty"`
	ErrorText        string         `json:"errorText,omitempty"`
	ProviderExecuted bool           `json:"providerExecuted,omitempty"`
	Approval         *UIApproval    `json:"approval,omitempty"`

	SourceID string `json:"sourceId,omitempty"`
	URL      string `json:"url,omitempty"`
	Title    string `json:"title,omitempty"`

	MediaType string `json:"mediaType,omitempty"`
	Filename  string `json:"filename,omitempty"`
}

// getChat handles GET /chat/{id}.
func (s *Service) getChat(w http.ResponseWriter, r *http.Request) error {
	key, err := sessionKey(r)
	if err != nil {
		return err
	}
	sdk, err := sdkOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	// A page of turns is named by where it begins, and only a read returns how many there are.
	meta, records, err := s.Store.Turns(ctx, key, 0, 1)
	if err == nil && meta.Turns > 1 {
		_, records, err = s.Store.Turns(ctx, key, max(0, meta.Turns-maxChatTurns), maxChatTurns)
	}
	if err != nil {
		return readFailure(r, err)
	}
	history := ChatHistory{Messages: make([]UIMessage, 0, 2*len(records))}
	for _, record := range records {
		turn, err := record.Turn()
		if err != nil {
			return api.Fail(api.Internal, err)
		}
		if err := s.settle(ctx, key, &turn, turn.Number == meta.Turns); err != nil {
			return readFailure(r, err)
		}
		history.Messages = append(history.Messages, messagesOf(sdk, turn, newTurnInfo(key.ID, turn, record.Feedback))...)
	}
	return api.WriteSuccess(w, r, "The messages of the session", history)
}

// questionSuffix makes the id of a question's message from its run's, if the page gave it
// none. The turn's id at the end of a run's is longer, so that no run's id ends with it and
// [names] can take it off again.
const questionSuffix = ".question"

// messagesOf returns the question and the answer of a turn, for a version of the SDK. It has
// the parts in the order in which the stream showed them, but a call and its end are one part,
// at the place of the end. A call that has neither an end nor a question is left out.
func messagesOf(sdk int, turn session.Turn, t TurnInfo) []UIMessage {
	question := UIMessage{ID: cmp.Or(turn.QuestionID, t.RunID+questionSuffix), Role: "user", Parts: []UIPart{{Type: "text", Text: t.Query}}}
	for _, f := range t.Files {
		if f.URI != "" { // bytes are not kept without a bucket
			question.Parts = append(question.Parts, UIPart{Type: "file", URL: f.URI, MediaType: f.Type, Filename: f.Name})
		}
	}
	answer := UIMessage{
		ID: t.RunID, Role: "assistant", Parts: []UIPart{},
		Metadata: &UIMessageFacts{t.RunID, t.Turn, t.Model, t.FinishReason, t.Usage, t.Warnings, uiPending(t.RunID, t.Pending), t.Feedback},
	}
	inputs := map[string]session.Part{}  // calls, by id
	answers := map[string]session.Part{} // to what the message has waited for, by call
	shown := turn.Shown()
	for i, p := range shown {
		switch p.Kind {
		case session.KindText:
			answer.Parts = append(answer.Parts, UIPart{Type: "text", Text: p.Text})
		case session.KindReasoning:
			answer.Parts = append(answer.Parts, UIPart{Type: "reasoning", Text: p.Text})
		case session.KindToolCall:
			inputs[p.ID] = p
		case session.KindToolResult:
			part := UIPart{Type: "tool-" + p.Name, ToolCallID: p.ID, Input: arguments(inputs[p.ID]), ProviderExecuted: true, State: "output-available"}
			said, asked := answers[p.ID]
			if asked = asked && sdk >= approvalSDK; asked {
				part.Approval = &UIApproval{approvalID(t.RunID, p.ID), &said.Approve, said.Reason}
			}
			switch {
			case p.OK:
				part.Output = &chatToolEnd{toolCall(p), p.Result}
			case asked && !said.Approve:
				part.State = "output-denied"
			default:
				part.State, part.ErrorText = "output-error", reasonOf(p)
			}
			answer.Parts = append(answer.Parts, part)
		case session.KindAnswered:
			answers[p.ID] = p
		case session.KindApproval:
			// The part of its end holds the question and the answer, too.
			if slices.ContainsFunc(shown[i:], func(later session.Part) bool { return later.Kind == session.KindToolResult && later.ID == p.ID }) {
				continue
			}
			answer.Parts = append(answer.Parts, askedPart(sdk, turn, t, inputs[p.ID])...)
		case session.KindSource:
			answer.Parts = append(answer.Parts, UIPart{Type: "source-url", SourceID: p.URI, URL: p.URI, Title: p.Title})
		case session.KindFile:
			if p.URI != "" {
				answer.Parts = append(answer.Parts, UIPart{Type: "file", URL: p.URI, MediaType: p.Type, Filename: p.Name})
			}
		}
	}
	return []UIMessage{question, answer}
}

// askedPart returns the parts of a call that a person was asked for and that has not
// ended. A question that nobody answered is shown as denied as soon as the run cannot go on: a
// page must offer no button that can only fail.
func askedPart(sdk int, turn session.Turn, t TurnInfo, call session.Part) []UIPart {
	part := UIPart{Type: "tool-" + call.Name, ToolCallID: call.ID, Input: arguments(call), ProviderExecuted: true, State: "input-available"}
	i := slices.IndexFunc(turn.Pending, func(p session.Pending) bool { return p.CallID == call.ID })
	switch {
	case i >= 0 && sdk < approvalSDK:
		return []UIPart{part, {Type: "text", Text: cannotAsk(turn.Pending[i].Question)}}
	case i >= 0:
		part.State, part.Approval = "approval-requested", &UIApproval{ID: approvalID(t.RunID, call.ID)}
	case turn.FinishReason == finishWaiting: // it was answered, and goes on
	case sdk < approvalSDK:
		part.State, part.ErrorText = "output-error", errNotApproved.Error()
	default:
		part.State, part.Approval = "output-denied", &UIApproval{approvalID(t.RunID, call.ID), new(bool), deniedByMessage}
	}
	return []UIPart{part}
}
