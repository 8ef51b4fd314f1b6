package invoke_test

import (
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/tool"
)

// answersQuestions is a model that does what a question asks for.
func answersQuestions(r geminitest.Request) geminitest.Reply {
	contents := r.Contents()
	last := contents[len(contents)-1]
	question := geminitest.TextOf(last)
	pay := geminitest.FunctionCall{Name: "pay", Args: map[string]any{"to": "Ann", "amount": 50}}
	switch {
	case strings.HasPrefix(question, "look and pay"):
		return geminitest.Calls(geminitest.FunctionCall{Name: "look"}, pay)
	case strings.HasSuffix(question, "twice"):
		return geminitest.Calls(pay, pay)
	case strings.HasPrefix(question, "pay"):
		return geminitest.Calls(pay)
	}
	return geminitest.Text("We", "ll.")
}

// The AI SDK's own packages ask for approvals and send them.
func TestApprovalsByTheAISDK(t *testing.T) {
	t.Parallel()
	dir := npmtest.InstallProgram(t, "approvals by the AI SDK", "testdata/approvals.mjs", "ai5@npm:ai@5.0.277", "ai6@npm:ai@6.0.326", "ai7@npm:ai@7.0.173", "zod@4.1.8")
	for major, paid := range map[string]int{"5": 0, "6": 150, "7": 150} {
		t.Run(major, func(t *testing.T) {
			b, gemini := &bank{}, geminitest.Start(t)
			gemini.Handle(answersQuestions)
			server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
			npmtest.Run(t, dir, "approvals.mjs", server.URL, major)
			if b.sum() != paid {
				t.Errorf("paid %d, want %d", b.sum(), paid)
			}
		})
	}
}
