package researcher_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/examples/researcher"
)

type (
	query struct {
		Text string `json:"text" jsonschema:"what to look for in the library"`
	}
	found struct {
		Notes []string `json:"notes"`
	}
	id struct {
		Note string `json:"note" jsonschema:"the name of a note"`
	}
)

// library serves two tools that the agent takes, and one that it does not, to who has
// the key.
func library(t *testing.T) {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "library", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "search", Description: "Searches the notes of the library."},
		func(context.Context, *mcp.CallToolRequest, query) (*mcp.CallToolResult, found, error) {
			return nil, found{[]string{"logs-retention"}}, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "read", Description: "Returns a note."},
		func(_ context.Context, _ *mcp.CallToolRequest, in id) (*mcp.CallToolResult, any, error) {
			text := "Logs are kept for 30 days (" + in.Note + ")."
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "delete", Description: "Deletes a note."},
		func(context.Context, *mcp.CallToolRequest, id) (*mcp.CallToolResult, any, error) {
			t.Error("a note was deleted")
			return nil, nil, nil
		})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer k-1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	t.Setenv("LIBRARY_URL", listener.URL)
}

// What Google Search found is shown with the answer.
func TestSources(t *testing.T) {
	library(t)
	s := agenttest.Start(t, researcher.New, "LIBRARY_TOKEN=k-1")
	s.Model(agenttest.Say("The release is out.").Search("release", agenttest.Source{Title: "News", URI: "https://news.example/1", Text: "release"}))
	answer := s.Ask("Is the release out?")
	if len(answer.Sources) != 1 || answer.Sources[0].URI != "https://news.example/1" || !strings.Contains(answer.Data["search_suggestions"].(string), "release") {
		t.Errorf("%+v", answer)
	}
}

func TestResearch(t *testing.T) {
	library(t)
	s := agenttest.Start(t, researcher.New, "LIBRARY_TOKEN=k-1")
	s.Model(
		agenttest.Call("library_search", map[string]any{"text": "logs"}),
		agenttest.Call("library_read", map[string]any{"note": "logs-retention"}),
		agenttest.Say("Logs are kept for 30 days (logs-retention)."),
	)
	answer := s.Ask("How long are logs kept?")
	if len(answer.Tools) != 2 || !answer.Tools[0].OK || answer.Tools[1].Output["output"] != "Logs are kept for 30 days (logs-retention)." {
		t.Errorf("%+v", answer)
	}
	if got := answer.Sent[0].Tools; !slices.Equal(got, []string{"library_read", "library_search"}) {
		t.Errorf("the model may call %v", got)
	}
	if sent, _ := json.Marshal(answer.Sent[0].Body["tools"]); !strings.Contains(string(sent), `"googleSearch"`) || !strings.Contains(string(sent), `"urlContext"`) {
		t.Errorf("the model is sent the tools %s", sent)
	}
}

// Without a script the offline stand-in calls the tool that the question is about.
func TestOffline(t *testing.T) {
	library(t)
	answer := agenttest.Start(t, researcher.New, "LIBRARY_TOKEN=k-1").Ask("Which notes of the library speak of logs? Search for them.")
	if !strings.Contains(answer.Text, "logs-retention") {
		t.Errorf("%+v", answer)
	}
}

func TestTheLibraryIsAway(t *testing.T) {
	library(t)
	s := agenttest.Start(t, researcher.New, "LIBRARY_TOKEN=wrong")
	s.Model(agenttest.Call("library_unavailable", nil), agenttest.Say("The library cannot be reached."))
	answer := s.Ask("How long are logs kept?")
	if len(answer.Tools) != 1 || answer.Tools[0].OK || answer.Text != "The library cannot be reached." {
		t.Errorf("%+v", answer)
	}
}

func TestWithoutALibrary(t *testing.T) {
	t.Setenv("LIBRARY_URL", "")
	if _, err := researcher.New(t.Context(), agent.Env{}); err == nil || !strings.Contains(err.Error(), "LIBRARY_URL") {
		t.Error(err)
	}
}
