package advisor

import (
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

// A choice is recalled in another session of the same user, and of nobody else.
func TestMyChoice(t *testing.T) {
	t.Parallel()
	s := agenttest.Start(t, New)
	ask := func(user string, args map[string]any) map[string]any {
		t.Helper()
		s.Model(agenttest.Call("remember_my_choice", args), agenttest.Say("Noted."))
		answer := s.Do(agenttest.Request{Query: "About my choice", Header: http.Header{"X-End-User": {user}}})
		if answer.Error != "" || len(answer.Tools) != 1 || !answer.Tools[0].OK {
			t.Fatalf("%+v", answer)
		}
		return answer.Tools[0].Output
	}
	if got := ask("ada", nil); got["choice"] != nil || got["note"] != "Nothing was chosen yet." {
		t.Errorf("before: %v", got)
	}
	if got := ask("ada", map[string]any{"choice": "GKE"}); got["choice"] != "GKE" || got["date"] == nil {
		t.Errorf("chosen: %v", got)
	}
	if got := ask("ada", nil); got["choice"] != "GKE" {
		t.Errorf("in another session: %v", got)
	}
	if got := ask("bob", nil); got["choice"] != nil {
		t.Errorf("somebody else's: %v", got)
	}
	if got := ask("ada", map[string]any{"choice": "Cloud Run"}); got["choice"] != "Cloud Run" {
		t.Errorf("chosen again: %v", got)
	}
}

func TestMyChoiceIsBounded(t *testing.T) {
	t.Parallel()
	ctx := tool.WithStates(t.Context(), tool.MemoryStates())
	if _, err := rememberMyChoice(ctx, myChoiceIn{strings.Repeat("ä", maxChoice)}); err != nil {
		t.Errorf("the longest: %v", err)
	}
	if _, err := rememberMyChoice(ctx, myChoiceIn{strings.Repeat("x", maxChoice+1)}); err == nil {
		t.Error("one character more is taken")
	}
}
