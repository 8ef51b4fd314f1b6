package mcptool_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/tool"
	"example.com/gatehouse/tool/mcptool"
)

// newAgent makes an agent of sets, which it closes.
func newAgent(sets ...*mcptool.Set) agent.NewFunc {
	return func(context.Context, agent.Env) (agent.Agent, error) {
		a := agent.Agent{Name: "far", Close: func(ctx context.Context) error {
			for _, set := range sets {
				if err := set.Close(ctx); err != nil {
					return err
				}
			}
			return nil
		}}
		for _, set := range sets {
			a.Toolsets = append(a.Toolsets, set)
		}
		return a, nil
	}
}

func named(t *testing.T, name, url string, options ...mcptool.Option) *mcptool.Set {
	t.Helper()
	set, err := mcptool.HTTP(name, url, options...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The service starts while a server is away, and a turn uses the one that is there.
func TestTwoServersOneAway(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	there := serve(t, newServer(), stateless)
	begin := time.Now()
	s := agenttest.Start(t, newAgent(named(t, "there", there.url), named(t, "gone", gone.URL)))
	if n := there.requests.Load(); n != 0 {
		t.Errorf("the start asks a server: %d requests", n)
	}
	t.Logf("ready after %v", time.Since(begin))
	begin = time.Now()
	s.Model(agenttest.Call("there_echo", map[string]any{"text": "hello"}).And("gone_unavailable", nil), agenttest.Say("Hello."))
	answer := s.Ask("Say hello.")
	t.Logf("the first turn took %v", time.Since(begin))
	if len(answer.Tools) != 2 || !answer.Tools[0].OK || answer.Tools[0].Output["text"] != "hello" {
		t.Fatalf("%+v", answer)
	}
	if answer.Tools[1].OK || answer.Tools[1].Output["error"] != "the server gone cannot be reached" {
		t.Errorf("the tool of the server that is away: %+v", answer.Tools[1])
	}
}

// The token that a caller sends to the gate goes to the server that is to have it, and
// to no other. A caller without one finds that the server needs it.
func TestTheCallersTokenThroughTheService(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	theirs, ours := serve(t, newServer(), stateless), serve(t, newServer(), stateless)
	s := agenttest.Start(t, newAgent(named(t, "theirs", theirs.url, mcptool.AsCaller()), named(t, "ours", ours.url)),
		"AUTH=oidc,none", "OIDC_ISSUERS="+issuer.URL+"|app")
	token := "Bearer " + issuer.Sign(issuer.Claims("app", time.Now()))
	both := agenttest.Call("theirs_echo", map[string]any{"text": "a"}).And("ours_echo", map[string]any{"text": "b"})

	s.Model(both, agenttest.Say("Done."))
	answer := s.Do(agenttest.Request{Query: "Go.", Header: http.Header{"Authorization": {token}}})
	if len(answer.Tools) != 2 || !answer.Tools[0].OK || !answer.Tools[1].OK {
		t.Fatalf("%+v", answer)
	}
	s.Model(both, agenttest.Say("Done."))
	if answer := s.Ask("Go."); len(answer.Tools) != 2 || answer.Tools[0].OK || !answer.Tools[1].OK {
		t.Errorf("a caller without a token: %+v", answer)
	}
	if got := theirs.sent("Authorization"); !slices.Equal(got, []string{token}) {
		t.Errorf("their server was sent %d credentials", len(got))
	}
	if got := ours.sent("Authorization"); !slices.Equal(got, []string{""}) {
		t.Errorf("our server was sent the caller's token: %d credentials", len(got))
	}
}

func BenchmarkNew(b *testing.B) {
	secret := agent.NewSecret(func() string { return "k" })
	for b.Loop() {
		if _, err := mcptool.HTTP("far", "https://mcp.example.org/mcp", mcptool.Bearer(secret)); err != nil {
			b.Fatal(err)
		}
	}
}

// A turn whose model calls none of the server's tools.
func BenchmarkTurnWithoutACall(b *testing.B) {
	server := newServer()
	for i := range 20 {
		addEcho(server, "echo"+strings.Repeat("x", i+1))
	}
	handler := httptest.NewServer(stream(server, stateless))
	defer handler.Close()
	set, err := mcptool.HTTP("far", handler.URL, mcptool.Refresh(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close(context.Background())
	var tools []tool.Tool
	for b.Loop() {
		tools = set.Tools(b.Context())
	}
	if len(tools) != 21 {
		b.Errorf("%v", names(tools))
	}
}
