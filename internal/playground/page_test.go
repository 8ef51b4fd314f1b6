package playground_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/testagent"
)

func TestAnswerIsShownAsItIsWritten(t *testing.T) {
	b := open(t)
	gate := make(chan struct{})
	b.gemini.Enqueue(geminitest.Text("First **words**", " and the rest.").WithGate(1, gate).WithUsage(geminitest.Usage{Prompt: 1234, Output: 56}))
	b.ask("How are you?")
	b.sees(".text strong", "words")
	if text := b.text(".text"); strings.Contains(text, "rest") || b.count(".foot") != 0 {
		t.Errorf("before the model has said it: %q", text)
	}
	close(gate)
	b.answered(1)
	if got := b.text(".text"); got != "First words and the rest." {
		t.Errorf("the answer is %q", got)
	}
	facts := b.text(".facts")
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
	b.sees("#status", "This is the stand-in's answer.") // what is read out
	b.calm()
}

// What the agent is for, and what to ask it, are its author's words.
func TestTheAgentsDescriptionAndExamples(t *testing.T) {
	b := open(t)
	about, err := testagent.New(t.Context(), agent.Env{})
	if err != nil {
		t.Fatal(err)
	}
	b.sees("#about", about.Description)
	if n := b.count("#examples button"); n != len(about.Examples) {
		t.Errorf("%d examples, want %d", n, len(about.Examples))
	}
	b.clickText(about.Examples[1])
	b.answered(1)
	if prompt := b.gemini.Requests()[0].Prompt(); prompt != about.Examples[1] {
		t.Errorf("asked %q", prompt)
	}
	b.calm()
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
	b.sees(".tool.ok", testagent.Prices)
	b.sees(".tool.ok pre", `"fruit": "apple"`)
	b.sees(".tool.ok .state", " ms")
	b.sees(".tool.failed pre", `<img src=x onerror=alert(1)>`)
	b.sees(".tool.failed .state", "failed")
	b.calm()
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name  string
		reply geminitest.Reply
		sees  []string
		text  string // of the answer, as far as it came
	}{
		{"before the stream", geminitest.Error(400, "no"), []string{"model_failed", "502"}, ""},
		{"a question that is refused", geminitest.Blocked("SAFETY"), []string{"content_blocked", "422"}, ""},
		{"within the stream", geminitest.Text("It began").FailAfter(500, "no"), []string{"model_"}, "It began"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t)
			b.gemini.Enqueue(tt.reply)
			b.ask("Well?")
			for _, text := range tt.sees {
				b.sees("#turns .problem", text)
			}
			b.sees("#turns .problem", "request")
			if got := b.text(".text"); got != tt.text {
				t.Errorf("the answer is %q, want %q", got, tt.text)
			}
			b.sees("#status", ".") // it is read out
			b.gemini.Enqueue(geminitest.Text("Better now."))
			b.clickText("Try again")
			b.answered(1)
			if got := b.text(".text"); got != "Better now." || b.count(".problem .buttons") != 0 {
				t.Errorf("after trying again the page shows %q", b.text("#turns"))
			}
			b.calm("Failed to load resource")
		})
	}
}

func TestWarnings(t *testing.T) {
	b := open(t)
	b.gemini.Enqueue(geminitest.Finish("MAX_TOKENS", "Half of a"))
	b.ask("Tell me everything")
	b.answered(1)
	b.sees(".warning", "The answer was cut off.")
	b.sees(".warning", "response_truncated")
	b.calm()
}

// What a model says stays text, whatever it says.
func TestHostileAnswers(t *testing.T) {
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
			b.click("#new")
			b.ask("Well?")
			b.answered(1)
			if tt.sees != "" {
				b.sees(".text", tt.sees)
			}
			if n := b.count(".text :is(script, img, iframe, b, style, object, svg, form)"); n != 0 {
				t.Errorf("%d elements of the model's own", n)
			}
			for _, link := range eval[[]string](b, `[...document.querySelectorAll('.text a')].map((a) => [a.protocol, a.rel, a.username].join(' '))`) {
				if link != "https: noopener noreferrer " && link != "http: noopener noreferrer " {
					t.Errorf("a link %q", link)
				}
			}
			if isolated := eval[bool](b, `[...document.querySelectorAll('.text, .ask, .title')].every((e) => getComputedStyle(e).unicodeBidi.startsWith('isolate'))`); !isolated {
				t.Error("its direction reaches beyond it")
			}
			b.calm()
		})
	}
	b.t = t
	for _, address := range eval[[]string](b, `performance.getEntriesByType('resource').map((e) => e.name)`) {
		if !strings.HasPrefix(address, b.URL) {
			t.Errorf("the page asked %s", address)
		}
	}
}

// A megabyte in one chunk, of which the service stores the beginning, and as much as
// it stores whole: the page shows all of it, reports what is not stored, and goes on
// answering its user.
func TestHugeAnswers(t *testing.T) {
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
			b.until(`document.querySelector('#stop').hidden && document.querySelector('.foot, #turns .problem') && document.querySelector('.text')`)
			settled := time.Since(begun)
			if shown := eval[bool](b, `document.querySelector('.text').textContent.endsWith('the end')`); !shown {
				t.Error("its end is missing")
			}
			if isStored, cut := b.count(".foot") == 1, strings.Contains(b.text("#turns"), "response_truncated"); !isStored || cut != (tt.size == megabyte) {
				t.Errorf("stored: %v, cut: %v, and the page reports %q", isStored, cut, b.text("#turns .problem"))
			}
			// It still answers its user: what is typed is there, and drawn.
			begun = time.Now()
			b.press("still here")
			b.until(`document.querySelector('#query').value === 'still here'`)
			eval[int](b, `new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(1))))`)
			t.Logf("settled after %v, typed in after %v", settled, time.Since(begun))
			b.calm()
		})
	}
}

func TestStop(t *testing.T) {
	for name, stop := range map[string]func(*tab){
		"the button": func(b *tab) { b.click("#stop") },
		"Escape":     func(b *tab) { b.press(kb.Escape) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.gemini.Enqueue(geminitest.Text("It began", "never said").SilentAfter(1))
			b.ask("Well?")
			b.sees(".text", "It began")
			stop(b)
			b.sees(".warning", "Stopped.")
			if _, err := b.gemini.AwaitCancelled(b.ctx, 0); err != nil {
				t.Error(err)
			}
			b.until(`document.activeElement.id === 'query' && !document.querySelector('#send').hidden`)
			b.clickText("Try again")
			b.answered(1)
			if sessions := b.fetch("sessions")["sessions"].([]any); len(sessions) != 1 || sessions[0].(map[string]any)["turns"] != 1.0 {
				t.Errorf("stored: %v", sessions)
			}
			b.calm("Failed to load resource") // a 409 while the stopped call gives its key back
		})
	}
}

func TestSessions(t *testing.T) {
	b := open(t, "RATE_LIMIT_PER_MINUTE=1000")
	const sessions = 22
	for n := range sessions {
		eval[bool](b, fmt.Sprintf(`fetch('invoke', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({query: 'Question %d'})}).then((r) => r.ok)`, n))
	}
	b.run(chromedp.Reload())
	b.until(`document.querySelectorAll('#sessions li').length === 20`)
	b.clickText("Show older sessions")
	b.until(`document.querySelectorAll('#sessions li').length === 22 && document.querySelector('#more').hidden`)
	b.run(chromedp.Click(`//nav//button[contains(., "Question 3")]`))
	b.answered(1)
	b.sees(".ask", "Question 3")
	b.sees("[aria-current=true]", "Question 3")
	b.ask("Go on")
	b.answered(2)
	b.sees("#sessions li:first-child", "2 turns")
	// It survives a reload, by its id in the address.
	b.run(chromedp.Reload())
	b.answered(2)
	// Deleted, after being asked.
	b.until(`document.querySelectorAll('#sessions li').length === 20`)
	b.click(`#sessions li:first-child .icon`)
	b.sees("#confirm-text", "Question 3")
	b.press(kb.Enter) // on Cancel
	b.until(`!document.querySelector('#confirm').open`)
	b.click(`#sessions li:first-child .icon`)
	b.click("#confirm-yes")
	b.until(`document.querySelectorAll('.turn').length === 0 && !document.querySelector('#sessions').textContent.includes('Question 3')`)
	b.clickText("Delete all")
	b.click("#confirm-yes")
	b.sees("#sessions-note", "None yet.")
	if left := b.fetch("sessions")["sessions"].([]any); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	b.click("#usage summary")
	b.sees("#usage-body", "Calls a minute, you")
	b.calm()
}

func TestSessionThatIsGone(t *testing.T) {
	b := open(t)
	b.ask("Hello")
	b.answered(1)
	eval[bool](b, `fetch('sessions', {method: 'DELETE'}).then((r) => r.ok)`)
	b.ask("Still there?")
	b.sees("#turns .problem", "session_not_found")
	b.run(chromedp.Click(`//div[@class="problem"]//button[.="New session"]`))
	b.until(`document.querySelectorAll('.turn').length === 0`)
	b.ask("Hello again")
	b.answered(1)
	b.calm("404")
}

func TestFeedback(t *testing.T) {
	b := open(t)
	b.ask("Hello")
	b.answered(1)
	bodies := `window.sent = []; const real = window.fetch; window.fetch = async (url, init) => { const r = await real(url, init); if (init?.method === 'PUT') sent.push([new URL(url).pathname.split('/').slice(-3).join('/'), init.body, r.status].join(' ')); return r }; 1`
	eval[int](b, bodies)
	b.click(`[aria-label="Bad answer"]`)
	b.until(`document.querySelector('[aria-label="Bad answer"]').ariaPressed === 'true'`)
	b.run(chromedp.SendKeys(chromedp.CSS(`.reason input`), "Too short"))
	b.press(kb.Enter)
	b.sees(".actions .note", "Thank you")
	b.click(`[aria-label="Good answer"]`)
	b.until(`document.querySelector('[aria-label="Good answer"]').ariaPressed === 'true' && document.querySelector('[aria-label="Bad answer"]').ariaPressed === 'false'`)
	b.click(`[aria-label="Good answer"]`)
	b.sees(".actions .note", "Taken back.")
	want := []string{
		`turns/1/feedback {"score":-1} 204`, `turns/1/feedback {"score":-1,"comment":"Too short"} 204`,
		`turns/1/feedback {"score":1} 204`, `turns/1/feedback {"score":0} 204`,
	}
	if got := eval[[]string](b, `window.sent`); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("sent:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	b.calm()
}

func TestSettings(t *testing.T) {
	b := open(t)
	b.click("#settings-open")
	b.run(chromedp.SendKeys(chromedp.CSS("#temperature"), "1.5"), chromedp.SendKeys(chromedp.CSS("#max_tokens"), "77"))
	b.click(`#settings [name=stream]`)
	b.click("#settings .primary")
	eval[int](b, `window.types = []; const real = window.fetch; window.fetch = async (url, init) => { const r = await real(url, init); if (init?.method === 'POST') types.push(r.headers.get('Content-Type')); return r }; 1`)
	b.gemini.Enqueue(
		geminitest.Calls(geminitest.FunctionCall{Name: testagent.Prices, Args: map[string]any{"fruit": "apple"}}),
		geminitest.Text("Without **streaming**."),
	)
	b.ask("Hello")
	b.answered(1)
	// Without streaming it comes whole, as JSON.
	b.sees(".tool.ok", testagent.Prices)
	b.sees(".text strong", "streaming")
	if types := eval[[]string](b, `window.types`); len(types) != 1 || !strings.HasPrefix(types[0], "application/json") {
		t.Errorf("it came as %q", types)
	}
	request := b.gemini.Requests()[0]
	generation, _ := request.Body["generationConfig"].(map[string]any)
	if _, sampled := generation["temperature"]; sampled || generation["maxOutputTokens"] != 77.0 {
		t.Errorf("the model, which takes no temperature, was asked with %v", generation)
	}
	b.calm()
}

const secret = "ghk_the-very-secret-key-of-this-test"

func TestCredential(t *testing.T) {
	sum := sha256.Sum256([]byte(secret))
	b := open(t, "AUTH=api_key", `API_KEYS=[{"name":"web","sha256":"`+hex.EncodeToString(sum[:])+`"}]`)
	b.sees("#sessions-note", "credential")
	b.ask("Hello")
	b.sees("#turns .problem", "unauthenticated")
	b.run(chromedp.Click(`//div[@class="problem"]//button[.="Enter a credential"]`))
	b.until(`document.activeElement.id === 'secret' && document.querySelector('[value=key]').checked`)
	b.press("has a space" + kb.Enter)
	b.sees("#secret-problem", "no spaces")
	b.run(chromedp.SetValue(chromedp.CSS("#secret"), secret))
	b.click("#settings .primary")
	b.sees("#sessions-note", "None yet.")
	b.ask("Hello")
	b.answered(1)
	// Kept in the tab alone, and never put into what is copied.
	if eval[string](b, `document.cookie + JSON.stringify(localStorage)`) != "{}" {
		t.Error("it is kept beyond the tab")
	}
	command := eval[string](b, copied)
	if strings.Contains(command, secret) || !strings.Contains(command, `-H "X-API-Key: $GATEHOUSE_API_KEY"`) {
		t.Errorf("copied: %s", command)
	}
	if strings.Contains(eval[string](b, `document.documentElement.outerHTML`), secret) {
		t.Error("the page shows it")
	}
	b.run(chromedp.Reload())
	b.until(`document.querySelectorAll('#sessions li').length === 1`)
	b.calm("401")
}

func TestBearerToken(t *testing.T) {
	issuer := authtest.Start(t, "")
	claims := issuer.Claims("app", time.Now())
	b := open(t, "AUTH=oidc", "OIDC_ISSUERS="+issuer.URL+"|app")
	b.sees("#sessions-note", "credential")
	b.clickText("Enter a credential")
	b.until(`document.activeElement.id === 'secret' && document.querySelector('[value=token]').checked`)
	enter := func(token string) {
		b.run(chromedp.SetValue(chromedp.CSS("#secret"), token))
		b.click("#settings .primary")
	}
	enter("Bearer " + issuer.Sign(authtest.With(claims, "exp", time.Now().Add(-time.Hour).Unix())))
	b.ask("Hello")
	b.sees("#turns .problem", "unauthenticated")
	b.click("#settings-open")
	token := issuer.Sign(claims)
	enter(token)
	b.sees("#sessions-note", "None yet.")
	b.ask("Hello")
	b.answered(1)
	command := eval[string](b, copied)
	if strings.Contains(command, token) || !strings.Contains(command, `-H "Authorization: Bearer $GATEHOUSE_TOKEN"`) {
		t.Errorf("copied: %s", command)
	}
	b.calm("401")
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
	eval[int](b, fmt.Sprintf(`document.querySelector('#query').value = %s; 1`, js(nasty)))
	b.click("#send")
	b.answered(1)
	command := eval[string](b, copied)
	for _, r := range command {
		if r == '\u202E' || r == '\u009b' || r == '\u200d' {
			t.Errorf("%U would be obeyed by a terminal", r)
		}
	}
	output, err := exec.CommandContext(b.ctx, "sh", "-c", command).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "event: done") {
		t.Fatalf("%s: %v: %s", command, err, output)
	}
	requests := b.gemini.Requests()
	if got := requests[len(requests)-1].Prompt(); got != nasty {
		t.Errorf("the shell's curl asked %q, not %q", got, nasty)
	}
	// Without the clipboard the text is shown, to be copied by hand.
	eval[int](b, `Object.defineProperty(navigator, 'clipboard', {configurable: true, value: undefined}); 1`)
	b.clickText("Copy as curl")
	b.until(`document.querySelector('#copy').open && document.querySelector('#copy-text').value.startsWith('curl ')`)
	b.calm()
}

func TestKeyboardAlone(t *testing.T) {
	b := open(t)
	b.until(`document.activeElement.id === 'query'`)
	b.press("First line")
	b.run(chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierShift))) // Shift
	b.press("second line" + kb.Enter)
	b.answered(1)
	if got := b.text(".ask"); got != "First line\nsecond line" {
		t.Errorf("asked %q", got)
	}
	b.until(`!document.querySelector('#delete-all').hidden`) // the session is listed, a moment after its answer
	// From the beginning of the page, Tab reaches everything in the order in
	// which it is read.
	eval[int](b, `document.activeElement.blur(); window.getSelection().removeAllRanges(); document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex'); 1`)
	var order []string
	for range 24 {
		b.press(kb.Tab)
		order = append(order, eval[string](b, `(() => { const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.textContent.trim().slice(0, 20) })()`))
		if order[len(order)-1] == "send" {
			break
		}
	}
	want := []string{"Skip to the question", "delete-all", "First line", "Delete the session", "Usage and limits", "new", "settings-open", "scroll", "gemini-3.5-flash-lit", "Copy", "Copy as curl", "Good answer", "Bad answer", "query", "send"}
	i := 0
	for _, name := range order {
		if i < len(want) && strings.HasPrefix(name, want[i]) {
			i++
		}
	}
	if i < len(want) {
		t.Errorf("Tab reaches %q; %q is missing or out of order", order, want[i])
	}
	// A dialog is left by Escape, and gives the focus back.
	b.run(chromedp.Focus(chromedp.CSS("#settings-open")))
	b.press(kb.Enter)
	b.until(`document.querySelector('#settings').open`)
	b.press(kb.Escape)
	b.until(`!document.querySelector('#settings').open && document.activeElement.id === 'settings-open'`)
	b.calm()
}

const showcase = "## Options\n\nThere are **two** ways, with `gcloud` or by hand:\n\n1. Deploy\n2. Try\n\n```sh\ngcloud run deploy invoke --source . --function invoke --base-image go126 --region europe-west1 --no-allow-unauthenticated\n```\n\n" +
	"| Option | Cost | When |\n|---|---:|---|\n| Cloud Run | low | always, for anything that is asked of it |\n| Elsewhere | high | never |\n\n> Averylongwordthatdoesnotbreak" + "" + "\n\nSee https://example.com/a/very/long/address/that/does/not/fit/into/the/width/of/a/phone/at/all."

// A person follows an answer into the log by what the page shows of it.
func TestIDsAreThoseOfTheLog(t *testing.T) {
	b := open(t, "GOOGLE_CLOUD_PROJECT=a-project")
	b.ask("Hello")
	b.answered(1)
	fact := func(name string) string {
		return eval[string](b, fmt.Sprintf(`[...document.querySelectorAll('.facts dt')].find((e) => e.textContent === %s).nextSibling.textContent`, js(name)))
	}
	trace, request := fact("Trace"), fact("Request")
	if len(trace) != 32 || request == "" {
		t.Fatalf("trace %q, request %q", trace, request)
	}
	logged := b.log.Lines(`"` + request + `"`)
	if len(logged) == 0 {
		t.Fatalf("the log has no line of the request %s", request)
	}
	for _, line := range logged {
		if !strings.Contains(line, `"logging.googleapis.com/trace":"projects/a-project/traces/`+trace+`"`) {
			t.Errorf("the page says trace %s, the log %s", trace, line)
		}
	}
	b.calm()
}

func TestConnectionThatBreaks(t *testing.T) {
	b := open(t)
	b.gemini.Enqueue(geminitest.Text("It began", "never said").SilentAfter(1))
	b.ask("Well?")
	b.sees(".text", "It began")
	b.server.CloseClientConnections()
	b.sees("#turns .problem", "The connection ended before the answer did.")
	b.sees("#status", "The connection ended")
	if got := b.text(".text"); got != "It began" {
		t.Errorf("of the answer it shows %q", got)
	}
	b.gemini.Enqueue(geminitest.Text("Whole."))
	b.clickText("Try again")
	b.answered(1)
	if got := b.text(".text"); got != "Whole." {
		t.Errorf("the second answer is %q", got)
	}
	if sessions := b.fetch("sessions")["sessions"].([]any); len(sessions) != 1 || sessions[0].(map[string]any)["turns"] != 1.0 {
		t.Errorf("stored: %v", sessions)
	}
	b.calm("Failed to load resource")
}

func TestServiceThatIsGone(t *testing.T) {
	b := open(t)
	b.server.CloseClientConnections()
	b.server.Close()
	b.ask("Hello?")
	b.sees("#turns .problem", "The service could not be reached.")
	b.calm("Failed to load resource")
}

func TestPhone(t *testing.T) {
	b := open(t)
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 640, DeviceScaleFactor: 2, Mobile: true})
	call(b, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
	b.run(chromedp.Reload())
	b.until(`document.querySelector('#version').textContent !== ''`)
	b.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: testagent.Prices, Args: map[string]any{"fruit": "apple"}}), geminitest.Text(showcase+strings.Repeat("W", 300)))
	b.run(chromedp.SendKeys(chromedp.CSS("#query"), "Which options are there? "+strings.Repeat("w", 100)))
	b.click("#send")
	b.answered(1)
	narrow := func(when string) {
		t.Helper()
		wide := eval[[]string](b, `[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('pre, .table, .unseen, .skip') && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '.' + e.className)`)
		if width := eval[int](b, `Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)`); width > 360 || len(wide) > 0 {
			t.Errorf("%s the page is %d wide, with %q", when, width, wide)
		}
	}
	narrow("with an answer")
	eval[int](b, `document.querySelector('.facts').open = true; 1`)
	narrow("with the facts")
	if b.count("#side:popover-open") != 0 {
		t.Error("the sessions are open")
	}
	b.click("#menu")
	b.until(`document.querySelector('#side').matches(':popover-open')`)
	b.click(".session")
	b.press(kb.Escape)
	b.until(`!document.querySelector('#side').matches(':popover-open')`)
	b.click("#settings-open")
	narrow("with the settings")
	b.calm()
}

func TestTimeToFirstText(t *testing.T) {
	b := open(t)
	b.ask("Hello")
	b.answered(1)
	paint := eval[float64](b, `performance.getEntriesByName('first-contentful-paint')[0].startTime`)
	requests := eval[[]string](b, `performance.getEntriesByType('resource').map((e) => e.name)`)
	text := eval[string](b, `[...document.querySelectorAll('.facts dt')].find((e) => e.textContent === 'First text').nextSibling.textContent`)
	t.Logf("first paint after %.0f ms; first text of an answer after %s; requests %q", paint, text, requests)
	for _, address := range requests {
		if !strings.HasPrefix(address, b.URL) {
			t.Errorf("the page asked %s", address)
		}
	}
	if paint > float64((5 * time.Second).Milliseconds()) {
		t.Errorf("the first paint came after %.0f ms", paint)
	}
	b.calm()
}
