// Package openai is the door for clients of OpenAI's API: Chat Completions, Responses
// and the list of models (https://platform.openai.com/docs/api-reference), so that the
// openai packages, LangChain and what is built on them can ask the agent. It only
// translates; identity, limits, idempotency, sessions and audit are the gate's own.
//
// A request for a chat completion brings its history, which serves that one run, and
// leaves nothing: unless one of the headers in CONVERSATION_HEADERS names a session, of
// which only the last message is then the next question. A response is a turn of a
// session, which previous_response_id and conversation go on with.
//
// Tools run in the service, so no answer ever asks the client to run one.
package openai

import (
	"net/http"
	"slices"

	"example.com/gatehouse/config"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/invoke"
)

// Door serves OpenAI's API below /v1/. Its name in DOORS is openai.
func Door() gate.Option { return gate.Door("openai", routes) }

// A door answers the routes.
type door struct {
	*invoke.Service
	config *config.Config
}

func routes(room server.Room) []api.Route {
	d := &door{Service: room.Invoke, config: room.Config}
	turn := []api.Code{
		api.SessionConflict, api.SessionNotFound, api.IdempotencyInProgress, api.IdempotencyMismatch, api.ContentBlocked, api.QuotaExceeded,
		api.ModelFailed, api.ModelUnavailable, api.SessionStoreUnavailable, api.Timeout,
	}
	stored := []api.Code{api.NotFound, api.SessionStoreUnavailable}
	all := []api.Route{
		{
			Method: http.MethodPost, Path: "/v1/chat/completions", Summary: "Ask in OpenAI's Chat Completions.", Audit: api.AuditTurn, Handler: d.complete,
			Doc: api.Doc{
				ID: "createChatCompletion", Params: []string{"Idempotency-Key"}, Errors: turn,
				Description: "As OpenAI's API has it. The messages are the history of this one run, and nothing is stored, unless a header of `CONVERSATION_HEADERS` names a session. Tools are the agent's, and run in the service.",
				Body: &api.DocBody{Type: chatCompletionRequest{}, Examples: map[string]any{
					"A question": chatCompletionRequest{Model: "advisor", Messages: []chatMessage{{Role: "user", Content: "What can you do?"}}},
				}},
				Answers: answer("A chat completion, or with `stream` its chunks as an event stream.", completion{}, true),
			},
		},
		{
			Method: http.MethodPost, Path: "/v1/responses", Summary: "Ask in OpenAI's Responses.", Audit: api.AuditTurn, Handler: d.respond,
			Doc: api.Doc{
				ID: "createResponse", Params: []string{"Idempotency-Key"}, Errors: append(stored, turn...),
				Description: "As OpenAI's API has it. A response is a turn of a session: the one that `conversation` names, that of `previous_response_id`, or a new one.",
				Body: &api.DocBody{Type: createResponseRequest{}, Examples: map[string]any{
					"A question": createResponseRequest{Model: "advisor", Input: "What can you do?"},
				}},
				Answers: answer("A response, or with `stream` its events.", responseObject{}, true),
			},
		},
		{
			Method: http.MethodGet, Path: "/v1/responses/{response}", Summary: "Read a response.", Handler: d.retrieve,
			Doc: api.Doc{
				ID: "getResponse", Params: []string{"response"}, Errors: stored,
				Description: "As it was answered; of the caller who asked.", Answers: answer("The response.", responseObject{}, false),
			},
		},
		{
			Method: http.MethodDelete, Path: "/v1/responses/{response}", Summary: "Remove a response from what Responses shows.", Audit: "response.delete", Unrefused: true, Handler: d.remove,
			Doc: api.Doc{
				ID: "deleteResponse", Params: []string{"response"}, Errors: append(stored, api.RequestTooLarge, api.RateLimited),
				Description: "The session keeps its turn; `DELETE /sessions/{id}` removes that.", Answers: answer("It is removed.", deletedResponse{}, false),
			},
		},
		{
			Method: http.MethodPost, Path: "/v1/responses/{response}/cancel", Summary: "Cancel a response.", Unrefused: true, Handler: d.cancel,
			Doc: api.Doc{
				ID: "cancelResponse", Params: []string{"response"}, Errors: append(stored, api.SessionConflict),
				Description: "A response that is complete cannot be canceled.", Answers: answer("The response, as far as it came.", responseObject{}, false),
			},
		},
		{
			Method: http.MethodGet, Path: "/v1/models", Summary: "List the models.", Handler: d.models,
			Doc: api.Doc{
				ID: "listModels", Description: "The agent by its name, which means its own model, and the models that a request may name.",
				Answers: answer("The models.", modelList{}, false),
			},
		},
	}
	for i := range all {
		all[i].Fail, all[i].Media, all[i].Doc.Tag = writeError, "application/json", api.TagAgent
		all[i].Doc.Failure = openAIError{}
	}
	return all
}

// answer documents a success.
func answer(description string, body any, streams bool) []api.DocAnswer {
	content := map[string]api.DocMedia{"application/json": {Type: body}}
	if streams {
		content["text/event-stream"] = api.DocMedia{Type: ""}
	}
	return []api.DocAnswer{{Status: http.StatusOK, Description: description, Content: content}}
}

// A model is an entry of the list of models.
type modelInfo struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type modelList struct {
	Object string      `json:"object"`
	Data   []modelInfo `json:"data"`
}

// models handles GET /v1/models.
func (d *door) models(w http.ResponseWriter, _ *http.Request) error {
	list := modelList{Object: "list"}
	for _, name := range d.names() {
		list.Data = append(list.Data, modelInfo{ID: name, Object: "model", OwnedBy: "gatehouse"})
	}
	return write(w, list)
}

// names returns the names that a request may name as its model: the agent's, and those
// of models.
func (d *door) names() []string {
	return slices.Compact(append([]string{d.Agent.Name}, d.Models()...))
}

// modelOf returns the model that a request names; "" is the agent's own.
func (d *door) modelOf(name string) (string, error) {
	switch {
	case name == "" || name == d.Agent.Name:
		return "", nil
	case slices.Contains(d.Models(), name):
		return name, nil
	}
	e := api.Fail(api.NotFound, nil)
	e.Message = "There is no such model. GET /v1/models lists those that there are."
	e.Details = []api.Detail{{Field: "model", Issue: "is not on the list"}}
	return "", e
}
