package mcp

import (
	"net/http"

	"example.com/gatehouse/internal/api"
)

// routes returns the door's routes, which are the same with and without an agent, as
// [server.Door] asks.
func (d *door) routes() []api.Route {
	answers := []api.DocAnswer{
		{Status: 200, Description: "The response; in an event stream notifications come before it.", Content: map[string]any{
			"text/event-stream": "", "application/json": api.RPC{},
		}},
		{Status: 202, Description: "A notification or a response was taken."},
	}
	describe := func(path, id string) api.Route {
		return api.Route{
			Method: http.MethodGet, Path: path, Summary: "Who issues tokens for MCP.", Media: "application/json", Probe: true,
			Handler: d.describe,
			Doc: api.Doc{
				ID: id, Tag: api.TagAbout, Description: "RFC 9728, for MCP clients.",
				Answers: []api.DocAnswer{{Status: 200, Name: "Resource", Description: "The metadata.", Content: map[string]any{"application/json": map[string]any{}}}},
				Errors:  []api.Code{api.MalformedRequest},
			},
		}
	}
	return []api.Route{
		{
			Method: http.MethodPost, Path: path, Summary: "The Model Context Protocol.", Media: "application/json",
			Handler: d.serve, Fail: d.fail,
			Doc: api.Doc{
				ID: "mcp", Tag: api.TagAgent, Failure: api.RPC{}, FailureText: "What the protocol's SDK refused.",
				Description: "The tool `ask`, and with `MCP_TOOLS=true` the agent's own, by the spec 2026-07-28 and older ones.",
				Body:        &api.DocBody{Type: api.RPC{}},
				Answers:     answers,
			},
		},
		describe(metadata+path, "mcpResource"),
		describe(metadata, "mcpResourceRoot"), // where older clients look
	}
}
