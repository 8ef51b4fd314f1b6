package playground_test

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// pixel is a PNG of one pixel.
var pixel, _ = base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

type size struct {
	Width int `json:"width"`
}

// fixed is an agent that needs nothing of its environment.
func fixed(a agent.Agent) func(context.Context, agent.Env) (agent.Agent, error) {
	a.Name, a.MaxTokens = "fixed", 1000
	return func(context.Context, agent.Env) (agent.Agent, error) { return a, nil }
}

func draughtsman() agent.Agent {
	return agent.Agent{
		Model: &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true}},
		Tools: []tool.Tool{
			tool.New("measure", "Measures.", func(context.Context, struct{}) (size, error) { return size{1234}, nil }, tool.Show()),
			tool.New("weigh", "Weighs.", func(context.Context, struct{}) (size, error) {
				return size{}, errors.New("the <b>scales</b> are broken")
			}),
			tool.New("draw", "Draws.", func(context.Context, struct{}) ([]tool.File, error) {
				return []tool.File{{Name: "dot.png", Type: "image/png", Data: pixel}, {Name: "notes.txt", Type: "text/plain", Data: []byte("A dot.")}}, nil
			}),
		},
	}
}

// What a developer looks for: what tools were called with, what they returned and why
// they failed, the thoughts, the files. It is the same after a reload.
func TestWhatAnAnswerHas(t *testing.T) {
	b := openAgent(t, fixed(draughtsman()))
	b.gemini.Enqueue(
		geminitest.Calls(geminitest.FunctionCall{Name: "measure"}, geminitest.FunctionCall{Name: "weigh"}, geminitest.FunctionCall{Name: "draw"}).WithThought("I measure first."),
		geminitest.Text("Here it is."),
	)
	b.ask("Draw a dot.")
	b.answered(1)
	look := func(when string) {
		b.Sees(".tool.ok pre", "1234")
		b.Sees(".tool.failed .state", "failed")
		b.Sees(".why:not([hidden])", "the <b>scales</b> are broken")
		b.Sees(".reasoning .thoughts", "I measure first.")
		b.Sees(".text", "Here it is.")
		facts := b.Text(".facts")
		for _, fact := range []string{"Request", "Run", "Turn", "STOP", "Trace"} {
			if !strings.Contains(facts, fact) {
				t.Errorf("%s: %q is not among %q", when, fact, facts)
			}
		}
		if folded := chrometest.Eval[bool](b.Tab, `!document.querySelector('.reasoning').open`); !folded {
			t.Errorf("%s the reasoning is not folded", when)
		}
		// What is said after the tools stands below them.
		if below := chrometest.Eval[bool](b.Tab, `!!(document.querySelector('.call').compareDocumentPosition(document.querySelector('.text')) & Node.DOCUMENT_POSITION_FOLLOWING)`); !below {
			t.Errorf("%s the answer stands above its tools", when)
		}
		b.Sees(".file", "dot.png")
		b.Sees(".file", "notes.txt")
	}
	look("at first")
	b.Until(`document.querySelector('.file img')?.naturalWidth === 1`)
	b.Run(chromedp.Reload())
	b.answered(1)
	look("after a reload")
	b.Sees(".facts dt", "Agent") // by its digest
	b.Calm()
}

// A slowStore takes its time, as one over a network does.
type slowStore struct{ session.Store }

func (s slowStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	time.Sleep(5 * time.Millisecond)
	return s.Store.Load(ctx, key)
}

func (s slowStore) Apply(ctx context.Context, loaded *session.Session, c session.Change) (*session.Session, error) {
	time.Sleep(5 * time.Millisecond)
	return s.Store.Apply(ctx, loaded, c)
}

// A page that waits says what for, tools by their names.
func TestWhatAnAnswerWaitsFor(t *testing.T) {
	slowtest.Skip(t, "what the playground shows while an answer waits")
	measured, answer := make(chan struct{}), make(chan struct{})
	b := openAgent(t, fixed(agent.Agent{Tools: []tool.Tool{tool.New("measure", "Measures.", func(ctx context.Context, _ struct{}) (string, error) {
		select {
		case <-measured:
			return "1234", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})}}))
	b.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "measure"}), geminitest.Text("It is here.").WithGate(0, answer))
	b.ask("Measure it.")
	b.Sees(".waits", "Waiting for measure, ")
	close(measured)
	b.Sees(".waits", "Waiting for the model, ")
	close(answer)
	b.answered(1)
	if text := b.Text(".waits"); text != "" {
		t.Errorf("at the end it says %q", text)
	}
	b.Calm()
}

// Where the time of a turn went is the same after a reload. Another tab does not know how
// long it took to store the turn.
func TestWhereTheTimeWent(t *testing.T) {
	slowtest.Skip(t, "where the playground says a turn's time went")
	memory := session.NewMemory(time.Hour, session.MemoryLimit, time.Now, slog.New(slog.DiscardHandler))
	b := openOn(t, slowStore{memory}, fixed(agent.Agent{Tools: []tool.Tool{tool.New("measure", "Measures.", func(context.Context, struct{}) (string, error) {
		time.Sleep(5 * time.Millisecond)
		return "1234", nil
	})}}))
	b.ask("Hello.")
	b.answered(1)
	b.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "measure"}), geminitest.Text("It is", " here.").WithDelay(5*time.Millisecond))
	b.ask("Measure it.")
	b.answered(2)
	look := func() (all []string) {
		return chrometest.Eval[[]string](b.Tab, `[...document.querySelectorAll('.time, .facts summary')].map((e) => e.textContent)`)
	}
	seen := look()
	if len(seen) != 4 {
		t.Fatalf("seen %q", seen)
	}
	if phases := regexp.MustCompile(`^load \d+ ms · model \d.* · tools \d.* · commit \d+ ms$`); !phases.MatchString(seen[3]) {
		t.Errorf("the time went to %q", seen[3])
	}
	if n := b.Count(".turn:last-child .bar span"); n != 4 {
		t.Errorf("the bar has %d phases", n)
	}
	b.Run(chromedp.Reload())
	b.answered(2)
	if diff := cmp.Diff(look(), seen); diff != "" {
		t.Errorf("after a reload (-got +want): %s", diff)
	}
	chrometest.Eval[bool](b.Tab, `sessionStorage.clear() ?? true`)
	b.Run(chromedp.Reload())
	b.answered(2)
	if phases := regexp.MustCompile(`^load \d+ ms · model \d.* · tools \d.*[ms]$`); !phases.MatchString(look()[3]) || strings.Contains(look()[3], "commit") {
		t.Errorf("in another tab the time went to %q", look()[3])
	}
	b.Calm()
}

// The model names a source as it likes: the host that its link leads to is beside it. The
// suggestions that Google's terms want shown are in a document that runs nothing.
func TestSources(t *testing.T) {
	b := openAgent(t, fixed(agent.Agent{Tools: []tool.Tool{tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})}}))
	b.gemini.Enqueue(geminitest.Text("Yes. [bank.example](https://evil.example/x) [https://evil.example/y](https://evil.example/y)").WithSearch(
		[]string{`<style>a { color: rgb(1, 2, 3) }</style><script>alert(1)</script><img src=x onerror=alert(1)><a id=chip href="https://www.google.com/search?q=x" onclick="alert(1)">chip</a>`},
		geminitest.Source{Title: "bank.example", URI: "https://evil.example/page"}, geminitest.Source{Title: "A script", URI: "javascript:alert(1)"}))
	b.ask("Is it?")
	b.answered(1)
	look := func(when string) {
		b.Sees(".sources a", "bank.example")
		b.Sees(".sources .host", "evil.example")
		for _, link := range chrometest.Eval[[]string](b.Tab, `[...document.querySelectorAll('.sources a')].map((a) => [a.protocol, a.rel, a.target].join(' '))`) {
			if link != "https: noopener noreferrer _blank" {
				t.Errorf("%s a source links with %q", when, link)
			}
		}
		if hosts := strings.Join(chrometest.Eval[[]string](b.Tab, `[...document.querySelectorAll('.text a')].map((a) => String(a.dataset.host))`), " "); hosts != "evil.example undefined" {
			t.Errorf("%s links show the hosts %q", when, hosts)
		}
		b.Until(`document.querySelector('.suggestions')?.contentDocument?.querySelector('#chip')`)
		got := chrometest.Eval[string](b.Tab, `(() => {
			const frame = document.querySelector('.suggestions'), chip = frame.contentDocument.querySelector('#chip');
			chip.dispatchEvent(new MouseEvent('click', {cancelable: true}));
			return [frame.sandbox, chip.target, chip.rel, frame.contentWindow.getComputedStyle(chip).color].join('; ');
		})()`)
		if want := "allow-same-origin allow-popups allow-popups-to-escape-sandbox; _blank; noopener noreferrer; rgb(1, 2, 3)"; got != want {
			t.Errorf("%s the frame is %q, want %q", when, got, want)
		}
	}
	look("at first")
	b.Run(chromedp.Reload())
	b.answered(1)
	look("after a reload")
	for _, address := range b.Requests() {
		if strings.HasPrefix(address, "http") && !strings.HasPrefix(address, b.URL) {
			t.Errorf("the page asked %s", address)
		}
	}
	b.Calm("Content Security Policy", "Blocked script execution") // what the frame refused
}

func TestTypedOutput(t *testing.T) {
	b := openAgent(t, fixed(agent.Agent{Output: agent.OutputOf[size]()}))
	b.gemini.Enqueue(geminitest.Text(`{"width":77}`))
	b.ask("How wide?")
	b.answered(1)
	b.Sees(".output pre", `"width": 77`)
	b.Run(chromedp.Reload())
	b.answered(1)
	b.Sees(".output pre", `"width": 77`)
	b.Calm()
}

func TestDocumentOfSuggestions(t *testing.T) {
	t.Parallel()
	h := get(t, "/playground/searches.html").Header()
	csp := h.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "script-src") || !strings.Contains(csp, "frame-ancestors 'self'") || h.Get("X-Frame-Options") != "SAMEORIGIN" {
		t.Errorf("policy %q, frames %q", csp, h.Get("X-Frame-Options"))
	}
}

// A question that is not sent yet, and one that is being answered, survive a reload.
func TestReload(t *testing.T) {
	slowtest.Skip(t, "reloads of the playground")
	b := open(t)
	gate := make(chan struct{})
	b.gemini.Enqueue(geminitest.Text("It began", ", and it ended.").WithGate(1, gate))
	b.ask("Well?")
	b.Sees(".text", "It began")
	begun := time.Now()
	b.Run(chromedp.SendKeys(chromedp.CSS("#query"), "And then"))
	b.Run(chromedp.Reload())
	b.Sees(".ask", "Well?")
	took := time.Since(begun)
	close(gate)
	b.answered(1)
	// It took as long as its user waited, not as long as the page that has it now.
	said := strings.ReplaceAll(chrometest.Eval[string](b.Tab, `[...document.querySelectorAll('.facts dt')].find((e) => e.textContent === 'Took').nextSibling.textContent`), " ", "")
	if d, err := time.ParseDuration(said); err != nil || d < took-100*time.Millisecond {
		t.Errorf("the page says that it took %s, want %s or more", said, took)
	}
	if strings.Contains(b.Text(".facts"), "First text") {
		t.Error("a page that did not see the first text says when it came")
	}
	b.Sees(".text", "It began, and it ended.")
	b.Until(`document.querySelector('#query').value === 'And then'`)
	if asked := len(b.gemini.Requests()); asked != 1 {
		t.Errorf("the model was asked %d times", asked)
	}
	b.Run(chromedp.Reload())
	b.answered(1)
	b.Calm("409")
}
