package mcp

import (
	"net/http"

	"example.com/gatehouse/internal/api"
)

// refusals are the statuses of errors that are not the SDK's.
var refusals = []int{400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 429, 500, 503}

// routes returns the door's routes, which are the same with and without an agent, as
// [server.Door] asks.
func (d *door) routes() []api.Route {
	answers := []api.DocAnswer{
		{Status: 200, Description: "The response, with notifications of progress before it in an event stream.", Content: map[string]api.DocMedia{
			"text/event-stream": {Type: ""}, "application/json": {Type: api.RPC{}},
		}},
		{Status: 202, Description: "A notification or a response was taken."},
	}
	for _, status := range refusals {
		answers = append(answers, api.DocAnswer{Status: status, Name: "MCPError", Description: "An error, as JSON-RPC has them, or in plain text.", Content: map[string]api.DocMedia{
			"application/json": {Type: failure{}}, "text/plain": {Type: ""},
		}})
	}
	describe := func(path, id string) api.Route {
		return api.Route{
			Method: http.MethodGet, Path: path, Summary: "Who issues tokens for MCP.", Media: "application/json", Probe: true,
			Handler: d.describe,
			Doc: api.Doc{
				ID: id, Tag: api.TagAbout, Description: "Metadata of the protected resource (RFC 9728), for MCP clients. It needs no credential.",
				Answers: []api.DocAnswer{{Status: 200, Description: "The metadata.", Content: map[string]api.DocMedia{"application/json": {
					Type:    resource{},
					Example: resource{Resource: "https://agent.example.com/mcp", AuthorizationServers: []string{"https://accounts.google.com"}, BearerMethods: []string{"header"}},
				}}}},
				Errors: []api.Code{api.MalformedRequest},
			},
		}
	}
	return []api.Route{
		{
			Method: http.MethodPost, Path: path, Summary: "The Model Context Protocol.", Media: "application/json",
			Handler: d.serve, Fail: d.fail,
			Doc: api.Doc{
				ID: "mcp", Tag: api.TagAgent,
				Description: "The agent as an MCP server over streamable HTTP: the tool `ask`, and with `MCP_TOOLS=true` the agent's own tools. " +
					"It speaks the spec 2026-07-28, which has no sessions, and older ones. `Accept` names `application/json` and `text/event-stream`.",
				Body: &api.DocBody{Type: api.RPC{}, Examples: map[string]any{
					"ask": api.RPC{JSONRPC: "2.0", ID: 1, Method: "tools/call", Params: map[string]any{"name": askName, "arguments": map[string]any{"query": "What can you do?"}}},
				}},
				Answers: answers,
			},
		},
		describe(metadata+path, "mcpResource"),
		describe(metadata, "mcpResourceRoot"), // where older clients look
	}
}
