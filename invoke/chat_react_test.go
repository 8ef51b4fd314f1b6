package invoke_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/tool"
)

// useChat of each major sends, resumes, stops, makes again, approves and restores, by its
// stock transport.
func TestUseChat(t *testing.T) {
	t.Parallel()
	dir := npmtest.Install(t, "useChat by @ai-sdk/react", "ai5@npm:ai@5.0.277", "ai6@npm:ai@6.0.326", "ai7@npm:ai@7.0.173",
		"react5@npm:@ai-sdk/react@2.0.280", "react6@npm:@ai-sdk/react@3.0.328", "react7@npm:@ai-sdk/react@4.0.177",
		"react@19.3.1", "react-dom@19.3.1", "jsdom@26.1.0", "zod@4.1.8")
	program, err := os.ReadFile("testdata/usechat.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "usechat.mjs"), program, 0o644); err != nil {
		t.Fatal(err)
	}
	for major, paid := range map[string]int{"5": 0, "6": 50, "7": 50} {
		t.Run(major, func(t *testing.T) {
			b, gemini, goOn, seen := &bank{}, geminitest.Start(t), make(chan struct{}, 1), atomic.Int64{}
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				contents := r.Contents()
				switch question := geminitest.TextOf(contents[len(contents)-1]); question {
				case "": // a tool's result
					return geminitest.Text(fmt.Sprintf("Seen %d.", seen.Add(1)))
				case "look":
					return geminitest.Calls(geminitest.FunctionCall{Name: "look"})
				case "pay 50":
					return pays(50)
				case "wait":
					return geminitest.Text("One", " two.").WithGate(1, goOn)
				default:
					return geminitest.Text("You said ", question)
				}
			})
			server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
			next := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { goOn <- struct{}{} }))
			t.Cleanup(next.Close)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, "node", "usechat.mjs", server.URL, major, next.URL)
			command.Dir = dir
			if out, err := command.CombinedOutput(); err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
				t.Fatalf("%v\n%s", err, out)
			}
			if b.sum() != paid {
				t.Errorf("paid %d, want %d", b.sum(), paid)
			}
		})
	}
}
