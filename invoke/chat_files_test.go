package invoke_test

import (
	"strconv"
	"strings"
	"testing"

	"example.com/gatehouse/internal/gcp/bucket/buckettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/invoke"
)

// looksAtFiles is a model that draws, and says which files it sees.
func looksAtFiles(r geminitest.Request) geminitest.Reply {
	contents := r.Contents()
	var types []string
	var image any
	for _, p := range contents[len(contents)-1]["parts"].([]any) {
		if data, ok := p.(map[string]any)["inlineData"].(map[string]any); ok {
			types = append(types, data["mimeType"].(string))
			image = data
		}
	}
	switch raw := string(r.Raw); {
	case geminitest.TextOf(contents[len(contents)-1]) == "draw":
		first := contents[len(contents)-1]["parts"].([]any)[1].(map[string]any)["inlineData"]
		return geminitest.Parts(map[string]any{"text": strings.Join(types, " ")}, map[string]any{"inlineData": first})
	case image != nil:
		return geminitest.Text("One image.")
	case strings.Contains(raw, `"inlineData"`):
		return geminitest.Text("remembers")
	case strings.Contains(raw, "A file of the type application/pdf"):
		return geminitest.Text("has a note")
	}
	return geminitest.Text("sees nothing")
}

// The AI SDK's own packages send images, PDF and text, and show the files of answers.
func TestFilesByTheAISDK(t *testing.T) {
	t.Parallel()
	dir := npmtest.InstallProgram(t, "files by the AI SDK", "testdata/files.mjs", "ai5@npm:ai@5.0.277", "ai6@npm:ai@6.0.326", "ai7@npm:ai@7.0.173", "zod@4.1.8")
	for _, major := range []string{"5", "6", "7"} {
		for _, kept := range []bool{false, true} {
			t.Run(major+" kept "+strconv.FormatBool(kept), func(t *testing.T) {
				gemini := geminitest.Start(t)
				gemini.Handle(looksAtFiles)
				var storage *buckettest.Server
				if kept {
					storage = buckettest.Start(t)
				}
				server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, kept, func(c *invoke.Config) { c.MaxBodyBytes = 1 << 17 }))
				npmtest.Run(t, dir, "files.mjs", server.URL, major, strconv.FormatBool(kept))
			})
		}
	}
}
