package adk_test

import (
	"testing"

	"example.com/gatehouse/adk/example"
	"example.com/gatehouse/agenttest"
)

func TestATurn(t *testing.T) {
	t.Parallel()
	s := agenttest.Start(t, example.New)
	s.Model(agenttest.Call("get_price", map[string]any{"fruit": "apple"}), agenttest.Say("1.25 dollars."), agenttest.Say("Half a dollar."))
	answer := s.Ask("What is an apple?")
	if answer.Text != "1.25 dollars." || len(answer.Tools) != 1 || !answer.Tools[0].OK {
		t.Fatalf("%+v", answer)
	}
	again := s.Do(agenttest.Request{Query: "And a banana?", SessionID: answer.SessionID, Stream: true})
	if again.Text != "Half a dollar." || again.Turn != 2 {
		t.Fatalf("%+v", again)
	}
	t.Logf("%+v", again.Sent[0].Contents)
}
