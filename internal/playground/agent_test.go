package playground_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/tool"
)

type payment struct {
	Amount int `json:"amount"`
}

// cashier is an agent with a tool that changes the world and asks first.
func cashier(paid chan<- int) agent.Agent {
	return agent.Agent{
		Description: "Pays invoices.", Examples: []string{"Pay the invoice."},
		Tools: []tool.Tool{
			tool.New("pay", "Pays an invoice.", func(_ context.Context, in payment) (string, error) {
				paid <- in.Amount
				return "paid", nil
			}, tool.Show(), tool.Effect[payment, string](nil), tool.Confirm(func(in payment) string { return "Pay the <b>invoice</b>?" })),
			tool.New("look", "Looks at invoices.", func(context.Context, struct{}) (string, error) { return "one", nil }),
		},
	}
}

// The page shows what the agent is, and how to call it.
func TestThePageKnowsTheAgent(t *testing.T) {
	b := openAgent(t, fixed(cashier(make(chan int, 1))))
	b.Sees("#welcome-title", "Ask fixed")
	b.Sees("#tools-title", "2 tools")
	b.Sees("#model", "gemini")
	b.Click("#tools summary")
	b.Sees("#tools-body li", "pay")
	if badges := chrometest.Eval[string](b.Tab, `[...document.querySelectorAll('#tools-body li')].map((li) => [...li.querySelectorAll('.badge')].map((b) => b.textContent).join('+')).join(' | ')`); badges != "changes things+asks first | " {
		t.Errorf("badges %q", badges)
	}
	b.Click("#code summary")
	b.Sees("#code-curl", "Pay the invoice.")
	b.Sees("#code-js", "await fetch(")
	if offline := b.Count("#offline:not([hidden])"); offline != 0 {
		t.Error("the page calls a model an offline stand-in")
	}
	b.Calm()
}

// What needs a person is asked on the page: approved or denied there, after a reload too.
func TestApprovals(t *testing.T) {
	slowtest.Skip(t, "approvals on the playground")
	tests := []struct {
		name, button string
		reload       bool
		paid         int
	}{
		{"approved", "Approve", false, 1},
		{"denied", "Deny", false, 0},
		{"approved after a reload", "Approve", true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			paid := make(chan int, 10)
			b := openAgent(t, fixed(cashier(paid)))
			b.gemini.Enqueue(
				geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"amount": 12}}),
				geminitest.Text("That is settled."),
			)
			b.ask("Pay the invoice.")
			b.answered(1)
			if tt.reload {
				b.Run(chromedp.Reload())
				b.answered(1)
			}
			b.Sees(".approval .question", "Pay the <b>invoice</b>?")
			b.Sees(".tool .state", "waits for you")
			if len(paid) != 0 {
				t.Fatal("the tool ran before it was approved")
			}
			b.ClickText(".approval button", tt.button)
			b.Sees(".text", "That is settled.")
			b.answered(1)
			if n := b.Count(".approval"); n != 0 {
				t.Errorf("%d approvals are left", n)
			}
			if len(paid) != tt.paid {
				t.Errorf("paid %d times, want %d", len(paid), tt.paid)
			}
			b.Run(chromedp.Reload())
			b.answered(1)
			b.Sees(".text", "That is settled.")
			if n := b.Count(".turn"); n != 1 {
				t.Errorf("%d turns after a reload", n)
			}
			b.Calm()
		})
	}
}

// Files that are attached go with the question, and nothing that the service refuses.
func TestAttachedFiles(t *testing.T) {
	b := openAgent(t, fixed(agent.Agent{}))
	dir := t.TempDir()
	image, program := filepath.Join(dir, "dot.png"), filepath.Join(dir, "program.wasm")
	for path, content := range map[string][]byte{image: pixel, program: []byte("\x00asm")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(`!document.querySelector('#attach').hidden`)
	b.Run(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{program}))
	b.Sees("#hint", "no files of the type")
	b.Run(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{image}))
	b.Sees("#attached li", "dot.png")
	b.Click("#attached button")
	b.Until(`document.querySelectorAll('#attached li').length === 0`)
	b.Run(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{image}))
	b.Sees("#attached li", "dot.png")
	b.gemini.Enqueue(geminitest.Text("A dot."))
	b.ask("What is it?")
	b.answered(1)
	b.Sees(".files .file", "dot.png")
	b.Until(`document.querySelector('.files img')?.naturalWidth === 1 && document.querySelectorAll('#attached li').length === 0`)
	if prompt := string(b.gemini.Requests()[0].Raw); !strings.Contains(prompt, `"image/png"`) {
		t.Errorf("the model was asked with %.300s", prompt)
	}
	b.Calm()
}

// The page reads code and lists of tasks.
func TestMarkdown(t *testing.T) {
	b := openAgent(t, fixed(agent.Agent{}))
	b.gemini.Enqueue(geminitest.Text("- [x] done\n- [ ] open\n\n```go\n// why\nfunc f() string { return \"x\" + 1 }\n```\n"))
	b.ask("Show me.")
	b.answered(1)
	for kind, text := range map[string]string{"comment": "// why", "keyword": "func", "string": `"x"`, "number": "1"} {
		b.Sees(".text .c-"+kind, text)
	}
	if boxes := chrometest.Eval[string](b.Tab, `[...document.querySelectorAll('.text .task input')].map((box) => box.checked + ' ' + box.disabled).join()`); boxes != "true true,false true" {
		t.Errorf("the boxes are %q", boxes)
	}
	b.Calm()
}

// Long blocks cost in proportion to their length, however small the pieces are in which
// they come.
func TestMarkdownIsLinear(t *testing.T) {
	slowtest.Skip(t, "whether the playground's work grows with the length of an answer only")
	b := openAgent(t, fixed(agent.Agent{}))
	for name, block := range map[string]string{
		"a table": "'|a|b|\\n|-|-|\\n' + '|c|d|\\n'.repeat(n)", "code": "'```\\n' + 'line\\n'.repeat(n)",
		"a list": "'- item\\n'.repeat(n)", "a paragraph": "'*word* '.repeat(n)", "quotes": "'> '.repeat(5) + '*word* '.repeat(n)",
	} {
		made := func(n int) work {
			return chrometest.Eval[work](b.Tab, fmt.Sprintf(`(async () => { const n = %d; %s return measure(%s, 6); })()`, n, measure, block))
		}
		few, many := made(1500), made(6000)
		ratio := many.Each / few.Each
		t.Logf("%s: four times the length costs %.2f times as much a character", name, ratio)
		if ratio > 1.7 {
			t.Errorf("%s: four times the length costs %.2f times as much a character", name, ratio)
		}
	}
	b.Calm()
}

// A work is what it takes to show a text: characters that are read and elements that are
// made, which cost about as much as 50 characters.
type work struct {
	Each  float64 `json:"each"` // a character
	Most  float64 `json:"most"` // in one task of the page
	Whole bool    `json:"whole"`
}

// measure is a function that shows a text piece by piece and counts the work.
const measure = `const { Writer } = await import('./playground/markdown.js');
	const measure = async (text, size) => {
		text += '\n\nthe end';
		const create = Document.prototype.createElement, split = String.prototype.split;
		let all = 0, task = 0, most = 0;
		const count = (n) => { all += n; task += n; most = Math.max(most, task); };
		document.createElement = function (...args) { count(50); return create.apply(this, args); };
		String.prototype.split = function (...args) { count(this.length); return split.apply(this, args); };
		const root = create.call(document, 'div');
		const writer = new Writer(root, (step) => { task = 0; step(); });
		for (let i = 0; i < text.length; i += size) {
			task = 0;
			writer.write(text.slice(i, i + size));
		}
		task = 0;
		writer.end();
		const whole = () => root.textContent.trimEnd().endsWith('the end');
		for (let i = 0; i < 1000 && !whole(); i++) await new Promise((resolve) => setTimeout(resolve, 50)); // for all steps
		delete document.createElement;
		String.prototype.split = split;
		return { each: all / text.length, most, whole: whole() };
	};`

// However an answer comes and whatever it is, no task of the page does more than a bounded
// part of the work: about 50 ms of a slow laptop.
func TestNoTaskIsLong(t *testing.T) {
	slowtest.Skip(t, "the work that a task of the playground does")
	b := openAgent(t, fixed(agent.Agent{}))
	const bound = 250_000 // 5 000 elements
	for name, text := range texts {
		for _, size := range []int{200, 1 << 21} { // as it is written, and whole
			got := chrometest.Eval[work](b.Tab, fmt.Sprintf(`(async () => { %s return measure(%s, %d); })()`, measure, text, size))
			t.Logf("%s, %d characters at once: %.0f in one task, %.1f a character", name, size, got.Most, got.Each)
			if got.Most > bound || !got.Whole {
				t.Errorf("%s, %d characters at once: %.0f in one task, shown to its end: %v", name, size, got.Most, got.Whole)
			}
		}
	}
	b.Calm()
}

// Sessions are found by the words of their titles, and exported.
func TestSearchAndExport(t *testing.T) {
	slowtest.Skip(t, "search and export of the playground")
	b := openAgent(t, fixed(agent.Agent{}))
	for i, question := range []string{"Apples and pears", "Pears", "Plums", "Cherries", "Apples"} {
		if i > 0 {
			b.Click("#new")
		}
		b.ask(question)
		b.answered(1)
	}
	b.Until(`document.querySelectorAll('#sessions li').length === 5`)
	b.Run(chromedp.SendKeys(chromedp.CSS("#search"), "pears app"))
	b.Until(`[...document.querySelectorAll('#sessions li')].filter((li) => !li.hidden).length === 1`)
	b.Click(`#sessions li:not([hidden]) [title=Rename]`)
	b.Press("Orchard" + kb.Enter)
	b.Until(`[...document.querySelectorAll('#sessions .title')].some((title) => title.textContent === 'Orchard')`)
	exported := chrometest.Eval[string](b.Tab, `new Promise((resolve) => {
		const real = URL.createObjectURL;
		URL.createObjectURL = (blob) => { blob.text().then(resolve); return real.call(URL, blob); };
		document.querySelector('#export').click();
	})`)
	if n := strings.Count(exported, `"kind":"session"`); n != 5 {
		t.Errorf("the export has %d sessions: %.200s", n, exported)
	}
	b.Calm()
}
