// Package openai is the door for clients of OpenAI's API: Chat Completions, Responses
// and the list of models (https://platform.openai.com/docs/api-reference), so that the
// openai packages, LangChain and what is built on them can ask the agent. It only
// translates; identity, limits, idempotency, sessions and audit are the gate's own. Tools
// run in the service, so no answer ever asks the client to run one.
//
// A request for a chat completion brings its history, which serves that one run, and
// leaves nothing: unless one of the headers in CONVERSATION_HEADERS names a session, of
// which only the last message is then the next question. A response is a run, whose
// session previous_response_id and conversation go on with.
package openai

import (
	"cmp"
	"net/http"
	"slices"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/server"
)

// Door serves OpenAI's API below /v1/. Its name in DOORS is openai.
func Door() gate.Option { return gate.Door("openai", routes) }

// A door answers the routes.
type door struct{ server.Room }

func routes(room server.Room) []api.Route {
	d := &door{room}
	stored := []api.Code{api.NotFound, api.SessionStoreUnavailable}
	changed := append([]api.Code{api.SessionConflict, api.RequestTooLarge, api.RateLimited}, stored...)
	turn := append(api.TurnErrors(), api.NotFound)
	// What is sent and answered is OpenAI's to describe.
	unary := []api.DocAnswer{{Status: http.StatusOK, Name: "OpenAI", Description: "The answer.", Content: map[string]any{"application/json": object{}}}}
	streamed := []api.DocAnswer{{Status: http.StatusOK, Name: "OpenAIStream", Description: "The answer, with `stream` as events.", Content: map[string]any{"application/json": object{}, "text/event-stream": ""}}}
	route := func(method, path, id, summary, description string, handler api.Handler, errors []api.Code) api.Route {
		route := api.Route{Method: method, Path: "/v1/" + path, Summary: summary, Media: "application/json", Handler: handler, Fail: fail, Doc: api.Doc{
			ID: id, Tag: api.TagAgent, Description: description, Errors: errors, Failure: openAIError{},
			Answers: unary,
		}}
		if path == "responses/{response}" || path == "responses/{response}/cancel" {
			route.Doc.Params = []string{"responseId"}
		}
		return route
	}
	asks := func(r api.Route) api.Route {
		r.Audit, r.Doc.Params = api.AuditTurn, []string{"Idempotency-Key"}
		r.Doc.Body = &api.DocBody{Type: object{}}
		r.Doc.Answers = streamed
		return r
	}
	remove := route(http.MethodDelete, "responses/{response}", "deleteResponse", "Remove a response from what Responses shows.", "The session keeps its turn; `DELETE /sessions/{id}` removes that.", d.remove, changed)
	cancel := route(http.MethodPost, "responses/{response}/cancel", "cancelResponse", "Cancel a response.", "It stops the run, wherever that is worked on.", d.cancel, changed)
	remove.Audit, remove.Unrefused = "response.delete", true
	cancel.Audit, cancel.Unrefused = api.AuditRunStop, true
	read := route(http.MethodGet, "responses/{response}", "getResponse", "Read a response.", "As far as it has come. With `stream=true` as its events, from the start.", d.retrieve, stored)
	read.Audit, read.Doc.Answers = api.AuditRunRead, streamed
	return []api.Route{
		asks(route(http.MethodPost, "chat/completions", "createChatCompletion", "Ask in OpenAI's Chat Completions.",
			"The messages are the history of this one run, and nothing is stored, unless a header of `CONVERSATION_HEADERS` names a session.",
			d.complete, turn)),
		asks(route(http.MethodPost, "responses", "createResponse", "Ask in OpenAI's Responses.",
			"A response is a turn of a session: the one that `conversation` names, that of `previous_response_id`, or a new one.",
			d.respond, turn)),
		read, remove, cancel,
		route(http.MethodGet, "models", "listModels", "List the models.", "The agent, and the models that a request may name.", d.models, nil),
	}
}

// models handles GET /v1/models.
func (d *door) models(w http.ResponseWriter, _ *http.Request) error {
	var list []object
	for _, name := range slices.Compact(append([]string{d.Agent.Name}, d.Invoke.Models()...)) {
		list = append(list, object{"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"})
	}
	return api.WriteJSON(w, http.StatusOK, object{"object": "list", "data": list})
}

// An openAIError is an error in OpenAI's form.
type openAIError struct {
	Error errorInfo `json:"error"`
}

type errorInfo struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code" doc:"The gate's own code."`
}

// errorTypes are OpenAI's kinds of errors, by status or its first digit.
var errorTypes = map[int]string{401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 4: "invalid_request_error", 5: "server_error"}

// newError returns e in OpenAI's form. Who reads it is a developer, so it names the field.
func newError(e *api.Error) errorInfo {
	info := errorInfo{Message: e.Sentence(), Type: cmp.Or(errorTypes[e.Status()], errorTypes[e.Status()/100]), Code: string(e.Code)}
	if len(e.Details) > 0 {
		if e.Code != api.MalformedRequest && e.Code != api.RequestTooLarge { // which are about no parameter
			info.Param = &e.Details[0].Field
		}
		info.Message = e.Details[0].Field + " " + e.Details[0].Issue + "."
	}
	return info
}

// fail answers with e. The openai packages try 409, 429 and 5xx again unless
// X-Should-Retry is false.
func fail(w http.ResponseWriter, _ *http.Request, e *api.Error) error {
	e.SetHeader(w.Header())
	switch e.Code {
	case api.SessionConflict, api.QuotaExceeded, api.ModelFailed, api.Internal, api.Timeout:
		w.Header().Set("X-Should-Retry", "false")
	}
	return api.WriteJSON(w, e.Status(), openAIError{newError(e)})
}
