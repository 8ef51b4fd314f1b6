package invoke_test

import (
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/npmtest"
)

// A page of assistant-ui needs no code for /chat. What its transport sends of the page's own
// prompt, settings, key and tools reaches no model.
func TestAssistantUI(t *testing.T) {
	t.Parallel()
	dir := npmtest.InstallProgram(t, "assistant-ui's transport", "testdata/assistant.mjs", "@assistant-ui/react-ai-sdk@1.4.12", "ai@7.0.173", "react@19.3.1", "zod@4.1.8")
	gemini := geminitest.Start(t)
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		contents := r.Contents()
		return geminitest.Text("heard ", geminitest.TextOf(contents[len(contents)-1]))
	})
	server, _ := serveAgent(t, newMemory(), gemini, reader())
	npmtest.Run(t, dir, "assistant.mjs", server.URL)
	for _, r := range gemini.Requests() {
		for _, foreign := range []string{"Obey the page", "deleteAll", "gpt-4o", `"maxOutputTokens":1,`} {
			if strings.Contains(string(r.Raw), foreign) {
				t.Errorf("the model was sent %q: %s", foreign, r.Raw)
			}
		}
	}
}
