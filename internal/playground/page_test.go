package playground_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/testagent"
)

func TestAnswerIsShownAsItIsWritten(t *testing.T) {
	b := open(t)
	gate := make(chan struct{})
	b.gemini.Enqueue(geminitest.Text("First **words**", " and the rest.").WithGate(1, gate).WithUsage(geminitest.Usage{Prompt: 1234, Output: 56}))
	b.ask("How are you?")
	b.Sees(".text strong", "words")
	if text := b.Text(".text"); strings.Contains(text, "rest") || b.Count(".foot") != 0 {
		t.Errorf("before the model has said it: %q", text)
	}
	close(gate)
	b.answered(1)
	if got := b.Text(".text"); got != "First words and the rest." {
		t.Errorf("the answer is %q", got)
	}
	facts := b.Text(".facts")
	for _, fact := range []string{"gemini-3.5-flash-lite", "1,290 tokens", "$0.00", "STOP", "Request", "Trace", "counted by the model"} {
		if !strings.Contains(facts, fact) {
			t.Errorf("%q is not among %q", fact, facts)
		}
	}
	id := b.fetch("sessions")["sessions"].([]any)[0].(map[string]any)["session_id"].(string)
	if !strings.Contains(facts, id) {
		t.Errorf("the session's id %s is not among %q", id, facts)
	}
	// The next turn goes on with the session.
	b.ask("And you?")
	b.answered(2)
	if turns := b.fetch("sessions/" + id)["turns"].([]any); len(turns) != 2 {
		t.Errorf("the session has %d turns", len(turns))
	}
	b.Sees("#status", "This is the stand-in's answer.") // what is read out
	b.Calm()
}

// What the agent is for, and what to ask it, are its author's words.
func TestTheAgentsDescriptionAndExamples(t *testing.T) {
	b := open(t)
	about, err := testagent.New(t.Context(), agent.Env{})
	if err != nil {
		t.Fatal(err)
	}
	b.Sees("#about", about.Description)
	if n := b.Count("#examples button"); n != len(about.Examples) {
		t.Errorf("%d examples, want %d", n, len(about.Examples))
	}
	b.ClickText("button", about.Examples[1])
	b.answered(1)
	if prompt := b.gemini.Requests()[0].Prompt(); prompt != about.Examples[1] {
		t.Errorf("asked %q", prompt)
	}
	b.Calm()
}

func TestToolCalls(t *testing.T) {
	b := open(t)
	b.gemini.Enqueue(
		geminitest.Calls(
			geminitest.FunctionCall{Name: testagent.Prices, Args: map[string]any{"fruit": "apple"}},
			geminitest.FunctionCall{Name: "no_such_tool", Args: map[string]any{"html": "<img src=x onerror=alert(1)>"}},
		),
		geminitest.Text("Done."),
	)
	b.ask("What is best?")
	b.answered(1)
	b.Sees(".tool.ok", testagent.Prices)
	b.Sees(".tool.ok pre", `"fruit": "apple"`)
	b.Sees(".tool.ok .state", " ms")
	b.Sees(".tool.failed pre", `<img src=x onerror=alert(1)>`)
	b.Sees(".tool.failed .state", "failed")
	b.Calm()
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name  string
		reply geminitest.Reply
		sees  []string
		text  string // of the answer, as far as it came
	}{
		{"before the stream", geminitest.Error(400, "no"), []string{"model_failed"}, ""},
		{"a question that is refused", geminitest.Blocked("SAFETY"), []string{"content_blocked"}, ""},
		{"within the stream", geminitest.Text("It began").FailAfter(500, "no"), []string{"model_"}, "It began"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t)
			b.gemini.Handle(func(geminitest.Request) geminitest.Reply { return tt.reply }) // each attempt
			b.ask("Well?")
			for _, text := range tt.sees {
				b.Sees("#turns .problem", text)
			}
			b.Sees("#turns .problem", "request")
			if got := b.Text(".text"); got != tt.text {
				t.Errorf("the answer is %q, want %q", got, tt.text)
			}
			b.Sees("#status", ".") // it is read out
			b.gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("Better now.") })
			b.ClickText("button", "Try again")
			b.answered(1)
			if got := b.Text(".text"); got != "Better now." || b.Count(".problem .buttons") != 0 {
				t.Errorf("after trying again the page shows %q", b.Text("#turns"))
			}
			b.Calm("Failed to load resource")
		})
	}
}

func TestWarnings(t *testing.T) {
	b := open(t)
	b.gemini.Enqueue(geminitest.Finish("MAX_TOKENS", "Half of a"))
	b.ask("Tell me everything")
	b.answered(1)
	b.Sees(".warning", "The answer was cut off.")
	b.Sees(".warning", "response_truncated")
	b.Calm()
}

// What a model writes stays text, markup and scripts too.
func TestHostileAnswers(t *testing.T) {
	slowtest.Skip(t, "hostile answers on the playground")
	const override = "\u202E"
	tests := []struct {
		name   string
		chunks []string
		sees   string // text that must be there, as it was said
	}{
		{"HTML", []string{"<b>bold</b> <img src=x onerror=alert(1)> <iframe src=https://example.com></iframe>"}, "<img src=x onerror=alert(1)>"},
		{"a script", []string{"<script>alert(1)</script>"}, "<script>alert(1)</script>"},
		{"a script in pieces", []string{"<scr", "ipt>alert(1)</scr", "ipt>"}, "<script>alert(1)</script>"},
		{"links that are scripts", []string{"[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,x) <javascript:alert(1)>"}, "javascript:alert(1)"},
		{"a link to another site's name", []string{"[x](https://bank.example@evil.example/)"}, "evil.example"},
		{"a link that breaks out", []string{"[x](https://e.example/\"onmouseover=alert(1)) \"<"}, "<"},
		{"a picture", []string{"![x](https://e.example/track.png)"}, "x"},
		{"broken Markdown", []string{"**a *b `c [d](e ```\n> - 1. # |\n|--|\n```", "\n~~~"}, "a"},
		{"text from right to left", []string{"abc " + override + "def"}, override + "def"},
		{"code with marks of HTML", []string{"```html\n<script>alert(1)</script>\n```"}, "<script>alert(1)</script>"},
		{"100 KB in one chunk", []string{strings.Repeat("word **b** [l](x ", 6250)}, "word"},
		{"100 KB of brackets", []string{strings.Repeat("[", 100_000)}, "[["},
		{"100 KB of quotes in one another", []string{strings.Repeat("> ", 50_000)}, ""},
		{"100 KB of lists in one another", []string{strings.Repeat("- ", 50_000) + "end"}, "end"},
	}
	b := open(t, "RATE_LIMIT_PER_MINUTE=1000")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.t = t
			b.gemini.Enqueue(geminitest.Text(tt.chunks...))
			b.Click("#new")
			b.ask("Well?")
			b.answered(1)
			if tt.sees != "" {
				b.Sees(".text", tt.sees)
			}
			if n := b.Count(".text :is(script, img, iframe, b, style, object, svg, form)"); n != 0 {
				t.Errorf("%d elements of the model's own", n)
			}
			for _, link := range chrometest.Eval[[]string](b.Tab, `[...document.querySelectorAll('.text a')].map((a) => [a.protocol, a.rel, a.username].join(' '))`) {
				if link != "https: noopener noreferrer " && link != "http: noopener noreferrer " {
					t.Errorf("a link %q", link)
				}
			}
			if isolated := chrometest.Eval[bool](b.Tab, `[...document.querySelectorAll('.text, .ask, .title')].every((e) => getComputedStyle(e).unicodeBidi.startsWith('isolate'))`); !isolated {
				t.Error("its direction reaches beyond it")
			}
			b.Calm()
		})
	}
	b.t = t
	for _, address := range chrometest.Eval[[]string](b.Tab, `performance.getEntriesByType('resource').map((e) => e.name)`) {
		if !strings.HasPrefix(address, b.URL) {
			t.Errorf("the page asked %s", address)
		}
	}
}

// A megabyte in one chunk, of which the service stores and shows the beginning, and as much
// as it stores whole: the page shows it, reports that it was cut, and goes on answering its
// user.
func TestHugeAnswers(t *testing.T) {
	slowtest.Skip(t, "answers of a megabyte on the playground")
	const stored, megabyte = 350_000, 1 << 20
	tests := []struct {
		name, text string
		size       int
	}{
		{"a megabyte of words", "word **b** [l](x ", megabyte},
		{"a megabyte without a break", "x", megabyte},
		{"a megabyte of brackets", "[", megabyte},
		{"a megabyte of paragraphs", "Some *words*.\n\n", megabyte},
		{"words, stored", "word **b** [l](x ", stored},
		{"backticks, stored", "` `` ", stored},
		{"rows of a table, stored", "|a|b|\n|-|-|\n", stored},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t)
			answer := strings.Repeat(tt.text, tt.size/len(tt.text)) + "the end"
			b.gemini.Enqueue(geminitest.Text(answer))
			begun := time.Now()
			b.ask("Well?")
			b.Until(`document.querySelector('#stop').hidden && document.querySelector('.foot, #turns .problem') && document.querySelector('.text')`)
			settled := time.Since(begun)
			// What a turn cannot hold is not shown either. The rest comes in steps.
			if tt.size == stored {
				b.Until(`document.querySelector('.text').textContent.endsWith('the end')`)
			}
			if isStored, cut := b.Count(".foot") == 1, strings.Contains(b.Text("#turns"), "response_truncated"); !isStored || cut != (tt.size == megabyte) {
				t.Errorf("stored: %v, cut: %v, and the page reports %q", isStored, cut, b.Text("#turns .problem"))
			}
			// It still answers its user: what is typed is there, and drawn.
			begun = time.Now()
			b.Press("still here")
			b.Until(`document.querySelector('#query').value === 'still here'`)
			chrometest.Eval[int](b.Tab, `new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(1))))`)
			t.Logf("settled after %v, typed in after %v", settled, time.Since(begun))
			if shown := chrometest.Eval[bool](b.Tab, `document.querySelector('.text').textContent.endsWith('the end')`); shown != (tt.size == stored) {
				t.Errorf("its end is shown: %t", shown)
			}
			b.Calm()
		})
	}
}

func TestStop(t *testing.T) {
	for name, stop := range map[string]func(*tab){
		"the button": func(b *tab) { b.Click("#stop") },
		"Escape":     func(b *tab) { b.Press(kb.Escape) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.gemini.Enqueue(geminitest.Text("It began", "never said").SilentAfter(1))
			b.ask("Well?")
			b.Sees(".text", "It began")
			stop(b)
			b.Sees(".warning", "Stopped.")
			ctx, cancel := b.Context()
			defer cancel()
			if _, err := b.gemini.AwaitCancelled(ctx, 0); err != nil {
				t.Error(err)
			}
			b.answered(1)
			b.Until(`document.activeElement.id === 'query' && !document.querySelector('#send').hidden`)
			// The session has what was shown.
			b.Run(chromedp.Reload())
			b.answered(1)
			b.Sees(".text", "It began")
			b.Sees(".warning", "Stopped.")
			b.Calm()
		})
	}
}

func TestSessions(t *testing.T) {
	b := open(t, "RATE_LIMIT_PER_MINUTE=1000")
	const sessions = 22
	for n := range sessions {
		chrometest.Eval[bool](b.Tab, fmt.Sprintf(`fetch('invoke', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({query: 'Question %d'})}).then((r) => r.ok)`, n))
	}
	b.Run(chromedp.Reload())
	b.Until(`document.querySelectorAll('#sessions li').length === 20`)
	b.ClickText("button", "Show older sessions")
	b.Until(`document.querySelectorAll('#sessions li').length === 22 && document.querySelector('#more').hidden`)
	b.ClickText("nav button", "Question 3")
	b.answered(1)
	b.Sees(".ask", "Question 3")
	b.Sees("[aria-current=true]", "Question 3")
	b.ask("Go on")
	b.answered(2)
	b.Sees("#sessions li:first-child", "2 turns")
	// It survives a reload, by its id in the address.
	b.Run(chromedp.Reload())
	b.answered(2)
	// Deleted, after being asked.
	b.Until(`document.querySelectorAll('#sessions li').length === 20`)
	b.Click(`#sessions li:first-child [title=Delete]`)
	b.Sees("#confirm-text", "Question 3")
	b.Press(kb.Enter) // on Cancel
	b.Until(`!document.querySelector('#confirm').open`)
	b.Click(`#sessions li:first-child [title=Delete]`)
	b.Click("#confirm-yes")
	b.Until(`document.querySelectorAll('.turn').length === 0 && !document.querySelector('#sessions').textContent.includes('Question 3')`)
	b.ClickText("button", "Delete all")
	b.Click("#confirm-yes")
	b.Sees("#sessions-note", "None yet.")
	if left := b.fetch("sessions")["sessions"].([]any); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	b.Click("#usage summary")
	b.Sees("#usage-body", "Calls a minute, you")
	b.Calm()
}

func TestSessionThatIsGone(t *testing.T) {
	b := open(t)
	b.ask("Hello")
	b.answered(1)
	chrometest.Eval[bool](b.Tab, `fetch('sessions', {method: 'DELETE'}).then((r) => r.ok)`)
	b.ask("Still there?")
	b.Sees("#turns .problem", "session_not_found")
	b.ClickText(".problem button", "New session")
	b.Until(`document.querySelectorAll('.turn').length === 0 && document.querySelector('#query').value === 'Still there?'`)
	b.enter()
	b.answered(1)
	b.Calm("404")
}

func TestFeedback(t *testing.T) {
	b := open(t)
	b.ask("Hello")
	b.answered(1)
	bodies := `window.sent = []; const real = window.fetch; window.fetch = async (url, init) => { const r = await real(url, init); if (init?.method === 'PUT') sent.push([new URL(url).pathname.split('/').slice(-3).join('/'), init.body, r.status].join(' ')); return r }; 1`
	chrometest.Eval[int](b.Tab, bodies)
	b.Click(`[aria-label="Bad answer"]`)
	b.Until(`document.querySelector('[aria-label="Bad answer"]').ariaPressed === 'true'`)
	b.Run(chromedp.SendKeys(chromedp.CSS(`.reason input`), "Too short"))
	b.Press(kb.Enter)
	b.Sees(".actions .note", "Thank you")
	b.Click(`[aria-label="Good answer"]`)
	b.Until(`document.querySelector('[aria-label="Good answer"]').ariaPressed === 'true' && document.querySelector('[aria-label="Bad answer"]').ariaPressed === 'false'`)
	b.Click(`[aria-label="Good answer"]`)
	b.Sees(".actions .note", "Taken back.")
	b.Click(`[aria-label="Bad answer"]`)
	b.Until(`window.sent.length === 5`)
	sent := chrometest.Eval[[]string](b.Tab, `window.sent`)
	b.Run(chromedp.Reload())
	b.answered(1)
	b.Until(`document.querySelector('[aria-label="Bad answer"]').ariaPressed === 'true' && document.querySelector('[aria-label="Good answer"]').ariaPressed === 'false'`)
	want := []string{
		`turns/1/feedback {"score":-1} 204`, `turns/1/feedback {"score":-1,"comment":"Too short"} 204`,
		`turns/1/feedback {"score":1} 204`, `turns/1/feedback {"score":0} 204`, `turns/1/feedback {"score":-1} 204`,
	}
	if strings.Join(sent, "\n") != strings.Join(want, "\n") {
		t.Errorf("sent:\n%s\nwant:\n%s", strings.Join(sent, "\n"), strings.Join(want, "\n"))
	}
	b.Calm()
}

func TestSettings(t *testing.T) {
	b := open(t)
	b.Click("#settings-open")
	b.Run(chromedp.SendKeys(chromedp.CSS("#temperature"), "1.5"), chromedp.SendKeys(chromedp.CSS("#max_tokens"), "77"))
	b.Click(`#settings [name=stream]`)
	b.Click("#settings .primary")
	chrometest.Eval[int](b.Tab, `window.types = []; const real = window.fetch; window.fetch = async (url, init) => { const r = await real(url, init); if (init?.method === 'POST') types.push(r.headers.get('Content-Type')); return r }; 1`)
	b.gemini.Enqueue(
		geminitest.Calls(geminitest.FunctionCall{Name: testagent.Prices, Args: map[string]any{"fruit": "apple"}}),
		geminitest.Text("Without **streaming**."),
	)
	b.ask("Hello")
	b.answered(1)
	// Without streaming it comes whole, as JSON.
	b.Sees(".tool.ok", testagent.Prices)
	b.Sees(".text strong", "streaming")
	if types := chrometest.Eval[[]string](b.Tab, `window.types`); len(types) != 1 || !strings.HasPrefix(types[0], "application/json") {
		t.Errorf("it came as %q", types)
	}
	request := b.gemini.Requests()[0]
	generation, _ := request.Body["generationConfig"].(map[string]any)
	if _, sampled := generation["temperature"]; sampled || generation["maxOutputTokens"] != 77.0 {
		t.Errorf("the model, which takes no temperature, was asked with %v", generation)
	}
	b.Calm()
}

const secret = "ghk_the-very-secret-key-of-this-test"

func TestCredential(t *testing.T) {
	sum := sha256.Sum256([]byte(secret))
	b := open(t, "AUTH=api_key", `API_KEYS=[{"name":"web","sha256":"`+hex.EncodeToString(sum[:])+`"}]`)
	b.Sees("#sessions-login:not([hidden])", "Enter a credential")
	b.ask("Hello")
	b.Sees("#turns .problem", "unauthenticated")
	// The service asks for a key, so the form does. It checks what is entered.
	if kind := chrometest.Eval[string](b.Tab, `document.querySelector('.credential select').value`); kind != "key" {
		t.Errorf("the form asks for a %s", kind)
	}
	enter := func(key, answer string) {
		b.Run(chromedp.SetValue(chromedp.CSS(".credential input"), key))
		b.Click(".credential .primary")
		b.Sees(".credential [role=alert]", answer)
	}
	enter("has a space", "no spaces")
	enter("ghk_another", "does not take this key")
	// Once the key is right, the question goes out by itself, and the page is as it was.
	b.Run(chromedp.SetValue(chromedp.CSS(".credential input"), secret))
	b.Click(".credential .primary")
	b.answered(1)
	b.Sees(".ask", "Hello")
	if n := b.Count(".turn"); n != 1 {
		t.Errorf("the page has %d turns", n)
	}
	// Kept only in the tab, and never put into what is copied.
	if chrometest.Eval[string](b.Tab, `document.cookie + JSON.stringify(localStorage)`) != "{}" {
		t.Error("it is kept beyond the tab")
	}
	command := chrometest.Eval[string](b.Tab, copied)
	if strings.Contains(command, secret) || !strings.Contains(command, `-H "X-API-Key: $GATEHOUSE_API_KEY"`) {
		t.Errorf("copied: %s", command)
	}
	if strings.Contains(chrometest.Eval[string](b.Tab, `document.documentElement.outerHTML`), secret) {
		t.Error("the page shows it")
	}
	b.Run(chromedp.Reload())
	b.Until(`document.querySelectorAll('#sessions li').length === 1`)
	b.Calm("401")
}

func TestBearerToken(t *testing.T) {
	issuer := authtest.Start(t, "")
	claims := issuer.Claims("app", time.Now())
	b := open(t, "AUTH=oidc", "OIDC_ISSUERS="+issuer.URL+"|app")
	b.Sees("#sessions-login:not([hidden])", "Enter a credential")
	b.ClickText("button", "Enter a credential")
	b.Until(`document.activeElement.id === 'secret' && document.querySelector('[value=token]').checked`)
	enter := func(token string) {
		b.Run(chromedp.SetValue(chromedp.CSS("#secret"), token))
		b.Click("#settings .primary")
	}
	enter("has a space")
	b.Sees("#secret-problem", "no spaces")
	enter("Bearer " + issuer.Sign(authtest.With(claims, "exp", time.Now().Add(-time.Hour).Unix())))
	b.Sees("#secret-problem", "does not take this token")
	token := issuer.Sign(claims)
	enter(token)
	b.Sees("#sessions-note", "None yet.")
	b.ask("Hello")
	b.answered(1)
	command := chrometest.Eval[string](b.Tab, copied)
	if strings.Contains(command, token) || !strings.Contains(command, `-H "Authorization: Bearer $GATEHOUSE_TOKEN"`) {
		t.Errorf("copied: %s", command)
	}
	b.Calm("401")
}

// copied presses "Copy as curl" and returns what it puts on the clipboard.
const copied = `new Promise((resolve) => {
	Object.defineProperty(navigator, 'clipboard', {configurable: true, value: {writeText: async (text) => resolve(text)}});
	[...document.querySelectorAll('.actions button')].filter((b) => b.textContent === 'Copy as curl').at(-1).click();
})`

// What is copied is run by a real shell, with a text that would do harm if it
// were not quoted.
func TestCopyAsCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		untested(t, "curl", err)
	}
	b := open(t)
	const nasty = "it's $(touch /nowhere/x) `id` \"quoted\" \\ ! %s \u202Eright to left\u202C \U0001F468\u200D\U0001F469 \u009b31m end"
	chrometest.Eval[int](b.Tab, fmt.Sprintf(`document.querySelector('#query').value = %s; 1`, chrometest.JS(nasty)))
	b.Click("#send")
	b.answered(1)
	command := chrometest.Eval[string](b.Tab, copied)
	for _, r := range command {
		if r == '\u202E' || r == '\u009b' || r == '\u200d' {
			t.Errorf("%U would be obeyed by a terminal", r)
		}
	}
	ctx, cancel := b.Context()
	defer cancel()
	output, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "event: done") {
		t.Fatalf("%s: %v: %s", command, err, output)
	}
	requests := b.gemini.Requests()
	if got := requests[len(requests)-1].Prompt(); got != nasty {
		t.Errorf("the shell's curl asked %q, not %q", got, nasty)
	}
	// Without the clipboard the text is shown, to be copied by hand.
	chrometest.Eval[int](b.Tab, `Object.defineProperty(navigator, 'clipboard', {configurable: true, value: undefined}); 1`)
	b.ClickText("button", "Copy as curl")
	b.Until(`document.querySelector('#copy').open && document.querySelector('#copy-text').value.startsWith('curl ')`)
	b.Calm()
}

func TestKeyboardAlone(t *testing.T) {
	b := open(t)
	b.Until(`document.activeElement.id === 'query'`)
	b.Press("First line")
	b.Run(chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierShift))) // Shift
	b.Press("second line" + kb.Enter)
	b.answered(1)
	if got := b.Text(".ask"); got != "First line\nsecond line" {
		t.Errorf("asked %q", got)
	}
	b.Until(`!document.querySelector('#delete-all').hidden`) // the session is listed, a moment after its answer
	// From the beginning of the page, Tab reaches everything in the order in
	// which it is read.
	chrometest.Eval[int](b.Tab, `document.activeElement.blur(); window.getSelection().removeAllRanges(); document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex'); 1`)
	var order []string
	for range 24 {
		b.Press(kb.Tab)
		order = append(order, chrometest.Eval[string](b.Tab, `(() => { const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.textContent.trim().slice(0, 20) })()`))
		if order[len(order)-1] == "send" {
			break
		}
	}
	want := []string{"Skip to the question", "delete-all", "First line", "Delete the session", "Usage and limits", "new", "settings-open", "scroll", "Edit the question", "gemini-3.5-flash-lit", "Copy", "Answer again", "Copy as curl", "Good answer", "Bad answer", "query", "send"}
	i := 0
	for _, name := range order {
		if i < len(want) && strings.HasPrefix(name, want[i]) {
			i++
		}
	}
	if i < len(want) {
		t.Errorf("Tab reaches %q; %q is missing or out of order", order, want[i])
	}
	// A dialog is left by Escape, and returns the focus.
	b.Run(chromedp.Focus(chromedp.CSS("#settings-open")))
	b.Press(kb.Enter)
	b.Until(`document.querySelector('#settings').open`)
	b.Press(kb.Escape)
	b.Until(`!document.querySelector('#settings').open && document.activeElement.id === 'settings-open'`)
	b.Calm()
}

const showcase = "## Options\n\nThere are **two** ways, with `gcloud` or by hand:\n\n1. Deploy\n2. Try\n\n```sh\ngcloud run deploy invoke --source . --function invoke --base-image go126 --region europe-west1 --no-allow-unauthenticated\n```\n\n" +
	"| Option | Cost | When |\n|---|---:|---|\n| Cloud Run | low | always, for anything that is asked of it |\n| Elsewhere | high | never |\n\n> Averylongwordthatdoesnotbreak" + "" + "\n\nSee https://example.com/a/very/long/address/that/does/not/fit/into/the/width/of/a/phone/at/all."

// A person follows an answer into the log by what the page shows of it.
func TestIDsAreThoseOfTheLog(t *testing.T) {
	b := open(t, "GOOGLE_CLOUD_PROJECT=a-project")
	b.ask("Hello")
	b.answered(1)
	fact := func(name string) string {
		return chrometest.Eval[string](b.Tab, fmt.Sprintf(`[...document.querySelectorAll('.facts dt')].find((e) => e.textContent === %s).nextSibling.textContent`, chrometest.JS(name)))
	}
	trace, request := fact("Trace"), fact("Request")
	if len(trace) != 32 || request == "" {
		t.Fatalf("trace %q, request %q", trace, request)
	}
	// The request's line is written after its answer.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.log.Await(ctx, regexp.MustCompile(`"httpRequest".*"`+request+`"|"`+request+`".*"httpRequest"`)); err != nil {
		t.Fatal(err)
	}
	for _, line := range b.log.Lines(`"` + request + `"`) {
		if !strings.Contains(line, `"logging.googleapis.com/trace":"projects/a-project/traces/`+trace+`"`) {
			t.Errorf("the page says trace %s, the log %s", trace, line)
		}
	}
	b.Calm()
}

func TestConnectionThatBreaks(t *testing.T) {
	b := open(t)
	gate := make(chan struct{})
	b.gemini.Enqueue(geminitest.Text("It began", ", and it ended.").WithGate(1, gate))
	b.ask("Well?")
	b.Sees(".text", "It began")
	b.server.CloseClientConnections()
	b.Sees("#turns .problem", "The connection ended before the answer did.")
	b.Sees("#status", "The connection ended")
	if got := b.Text(".text"); got != "It began" {
		t.Errorf("of the answer it shows %q", got)
	}
	// The run went on without its client.
	close(gate)
	b.ClickText("button", "Try again")
	b.answered(1)
	if got := b.Text(".text"); got != "It began, and it ended." {
		t.Errorf("the second answer is %q", got)
	}
	if sessions := b.fetch("sessions")["sessions"].([]any); len(sessions) != 1 || sessions[0].(map[string]any)["turns"] != 1.0 {
		t.Errorf("stored: %v", sessions)
	}
	b.Calm("Failed to load resource")
}

func TestServiceThatIsGone(t *testing.T) {
	b := open(t)
	b.server.CloseClientConnections()
	b.server.Close()
	b.ask("Hello?")
	b.Sees("#turns .problem", "The service could not be reached.")
	b.Calm("Failed to load resource")
}

func TestPhone(t *testing.T) {
	b := open(t)
	chrometest.Call(b.Tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 640, DeviceScaleFactor: 2, Mobile: true})
	chrometest.Call(b.Tab, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
	b.Run(chromedp.Reload())
	b.Until(`document.querySelector('#version').textContent !== ''`)
	narrow := func(when string) {
		t.Helper()
		wide := chrometest.Eval[[]string](b.Tab, `[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('pre, .table, .unseen, .skip') && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '.' + e.className)`)
		if width := chrometest.Eval[int](b.Tab, `Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)`); width > 360 || len(wide) > 0 {
			t.Errorf("%s the page is %d wide, with %q", when, width, wide)
		}
	}
	b.Click("#code summary")
	narrow("with the code of a call")
	if b.Count("#jump:not([hidden])") != 0 {
		t.Error("a button leads to the end of a conversation that has not begun")
	}
	b.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: testagent.Prices, Args: map[string]any{"fruit": "apple"}}), geminitest.Text(showcase+strings.Repeat("W", 300)))
	b.Run(chromedp.SendKeys(chromedp.CSS("#query"), "Which options are there? "+strings.Repeat("w", 100)))
	b.Click("#send")
	b.answered(1)
	narrow("with an answer")
	// The sessions cover the page: Tab stays among them.
	b.Click("#menu")
	b.Until(`document.activeElement.id === 'side'`)
	for range 10 {
		b.Press(kb.Tab)
		if got := chrometest.Eval[string](b.Tab, `document.activeElement.closest('#side, body').id || document.activeElement.tagName + document.activeElement.id`); got != "side" && got != "BODY" {
			t.Errorf("behind the sessions, the focus is on %s", got)
		}
	}
	b.Press(kb.Escape)
	b.Until(`document.activeElement.id === 'menu'`)
	if cut := chrometest.Eval[bool](b.Tab, `(() => { document.querySelector('#offline').hidden = false; const name = document.querySelector('h1'); return name.scrollWidth > name.clientWidth; })()`); cut {
		t.Error("the name is cut off")
	}
	chrometest.Eval[int](b.Tab, `document.querySelector('.facts').open = true; 1`)
	narrow("with the facts")
	b.Click(firstEdit)
	narrow("with a question that is edited")
	b.ClickText("form.edit button", "Cancel")
	if b.Count("#side:popover-open") != 0 {
		t.Error("the sessions are open")
	}
	b.Click("#menu")
	b.Until(`document.querySelector('#side').matches(':popover-open')`)
	b.Click(".session")
	b.Press(kb.Escape)
	b.Until(`!document.querySelector('#side').matches(':popover-open')`)
	b.Click("#settings-open")
	narrow("with the settings")
	b.Calm()
}

// The end of an answer stays in view above a phone's keyboard, which takes of the page's height.
func TestTheKeyboardLeavesTheEndInView(t *testing.T) {
	b := open(t)
	b.gemini.Enqueue(geminitest.Text(strings.Repeat("A paragraph.\n\n", 50)))
	for _, height := range []int64{700, 350} {
		chrometest.Call(b.Tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: height, DeviceScaleFactor: 1, Mobile: true})
		if height == 700 {
			b.ask("Well?")
			b.answered(1)
		}
		b.Until(`(() => { const box = document.querySelector('#scroll'); return innerHeight === ` + fmt.Sprint(height) + ` && box.scrollTop > 0 && box.scrollHeight - box.scrollTop - box.clientHeight < 80; })()`)
	}
	b.Calm()
}

// Nothing but the page's own files is asked for. What the times are depends on the
// machine: the log has them.
func TestRequestsOfAPage(t *testing.T) {
	b := open(t)
	b.ask("Hello")
	b.answered(1)
	// The question's field stands below the answers, edge on edge.
	if edges := chrometest.Eval[[]float64](b.Tab, `['#turns', '.field'].flatMap((s) => { const r = document.querySelector(s).getBoundingClientRect(); return [r.left, r.right]; })`); edges[0] != edges[2] || edges[1] != edges[3] {
		t.Errorf("answers and question end at %v", edges)
	}
	paint := chrometest.Eval[float64](b.Tab, `performance.getEntriesByName('first-contentful-paint')[0].startTime`)
	requests := chrometest.Eval[[]string](b.Tab, `performance.getEntriesByType('resource').map((e) => e.name)`)
	text := chrometest.Eval[string](b.Tab, `[...document.querySelectorAll('.facts dt')].find((e) => e.textContent === 'First text').nextSibling.textContent`)
	t.Logf("first paint after %.0f ms; first text of an answer after %s; requests %q", paint, text, requests)
	for _, address := range requests {
		if !strings.HasPrefix(address, b.URL) {
			t.Errorf("the page asked %s", address)
		}
	}
	b.Calm()
}
