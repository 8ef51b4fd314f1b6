package playground_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/testagent"
)

func TestAccessibility(t *testing.T) {
	slowtest.Skip(t, "the accessibility of the playground")
	script := chrometest.Axe(t, "the accessibility of the playground")
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			b := open(t)
			b.Scheme(scheme)
			b.Accessible(script, "at first")
			b.gemini.Enqueue(
				geminitest.Calls(geminitest.FunctionCall{Name: testagent.Prices, Args: map[string]any{"fruit": "apple"}}, geminitest.FunctionCall{Name: "no_such_tool"}),
				geminitest.Finish("MAX_TOKENS", showcase),
			)
			b.ask("Which options are there?")
			b.answered(1)
			b.Click(`[aria-label="Good answer"]`)
			b.Sees(".actions .note", "Stored")
			// What holds calls is tried in each form before it is refused.
			b.gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Error(400, "no") })
			b.ask("And now?")
			b.Sees("#turns .problem", "model_failed")
			chrometest.Eval[int](b.Tab, `for (const e of document.querySelectorAll('details')) e.open = true; 1`)
			b.Sees("#usage-body", "Calls a minute, you")
			b.Accessible(script, "with answers")
			// Each state is where a reader of the screen is told of it.
			if got := chrometest.Eval[string](b.Tab, `[...document.querySelectorAll('#status, #secret-problem')].map((e) => e.getAttribute('role')).join(' ')`); got != "status alert" {
				t.Errorf("live regions: %q", got)
			}
			b.Click(firstEdit)
			b.Accessible(script, "with a question that is edited")
			b.ClickText("form.edit button", "Cancel")
			b.Click("#settings-open")
			b.Accessible(script, "with the settings")
			b.ClickText("#settings button", "Cancel")
			b.Click("#sessions [title=Rename]")
			b.Accessible(script, "with a title that is changed")
			b.Press(kb.Escape)
			b.Click("#sessions [title=Delete]")
			b.Accessible(script, "with a question about a session")
			b.ClickText("#confirm button", "Cancel")
			chrometest.Eval[bool](b.Tab, `(navigator.clipboard.writeText = () => Promise.reject()) && true`)
			b.ClickText(".actions button", "Copy")
			b.Until(`document.querySelector('#copy').open`)
			b.Accessible(script, "with a text to copy")
			b.ClickText("#copy button", "Close")
			gate := make(chan struct{})
			b.gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("Again").WithGate(0, gate) })
			b.ClickText(".actions button", "Answer again")
			b.Accessible(script, "with a question about an answer")
			b.Click("#confirm-yes")
			b.Sees(".waits", "Waiting for")
			b.Accessible(script, "with an answer that is made again")
			close(gate)
			b.answered(1)
			b.Calm("502")
		})
		t.Run(scheme+", asked for a credential", func(t *testing.T) {
			sum := sha256.Sum256([]byte("right"))
			b := open(t, "AUTH=api_key", fmt.Sprintf(`API_KEYS=[{"name": "web", "sha256": "%x"}]`, sum))
			b.Scheme(scheme)
			b.ask("Well?")
			b.Sees("#turns .problem", "unauthenticated")
			b.Accessible(script, "asked for a credential")
			b.Run(chromedp.SendKeys(chromedp.CSS(".credential input"), "wrong"))
			b.Click(".credential button")
			b.Sees(".credential", "does not take this key")
			b.Accessible(script, "with a credential that is refused")
			b.Calm("401")
		})
		t.Run(scheme+", refused", func(t *testing.T) {
			b := open(t)
			b.Scheme(scheme)
			refusal := &api.Error{Code: api.RateLimited, RetryAfter: 30 * time.Second}
			b.refuse(refusal, refusal)
			for i := range 2 {
				b.ask("Well?")
				b.Until(fmt.Sprintf(`document.querySelectorAll('.turn').length === %d && document.querySelector('.turn:last-child .problem')`, i+1))
				chrometest.Eval[bool](b.Tab, `(document.querySelector('#query').value = '') === ''`)
			}
			b.Accessible(script, "with two refusals")
			b.Calm()
		})
		t.Run(scheme+", asked to approve", func(t *testing.T) {
			b := openAgent(t, fixed(cashier(make(chan int, 1))))
			b.Scheme(scheme)
			b.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"amount": 12}}))
			b.ask("Pay the invoice.")
			b.answered(1)
			b.Sees(".approval", "Approve")
			b.Accessible(script, "with an approval")
			b.Calm()
		})
		t.Run(scheme+", a phone's sessions", func(t *testing.T) {
			b := open(t, "RATE_LIMIT_PER_MINUTE=1000")
			b.Scheme(scheme)
			for range 5 {
				chrometest.Eval[bool](b.Tab, `fetch('invoke', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"query": "Well?"}'}).then((r) => r.ok)`)
			}
			chrometest.Call(b.Tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 640, DeviceScaleFactor: 1, Mobile: true})
			b.Run(chromedp.Reload())
			b.Until(`document.querySelectorAll('#sessions li').length === 5`)
			b.Click("#menu")
			b.Run(chromedp.SendKeys(chromedp.CSS("#search"), "nothing"))
			b.Sees("#sessions-note", "No title has these words.")
			b.Sees("#status", "No title has these words.")
			b.Accessible(script, "with a search without a result")
			b.Calm()
		})
	}
}

// A check that finds nothing anywhere would be no check.
func TestAccessibilityIsReallyChecked(t *testing.T) {
	slowtest.Skip(t, "whether the accessibility of the playground is really checked")
	script := chrometest.Axe(t, "the accessibility of the playground")
	b := open(t)
	b.Run(chromedp.Evaluate[chromedp.Void](script))
	chrometest.Eval[int](b.Tab, `document.querySelector('#send').removeAttribute('aria-label'); document.querySelector('#version').style.color = '#eee'; 1`)
	found := chrometest.Eval[[]string](b.Tab, `axe.run(document).then((r) => r.violations.map((v) => v.id))`)
	if all := strings.Join(found, " "); !strings.Contains(all, "button-name") || !strings.Contains(all, "color-contrast") {
		t.Errorf("of a button without a name and a text that is hard to see it finds %q", found)
	}
}

func TestDarkAndLight(t *testing.T) {
	slowtest.Skip(t, "the playground in the dark")
	b := open(t)
	ground := func() int {
		return chrometest.Eval[int](b.Tab, `(() => {
			const canvas = new OffscreenCanvas(1, 1).getContext('2d');
			canvas.fillStyle = getComputedStyle(document.documentElement).backgroundColor;
			canvas.fillRect(0, 0, 1, 1);
			return Math.max(...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3));
		})()`)
	}
	for scheme, right := range map[string]func(int) bool{"light": func(g int) bool { return g > 200 }, "dark": func(g int) bool { return g < 60 }} {
		b.Scheme(scheme)
		if g := ground(); !right(g) {
			t.Errorf("%s has a ground of %d of 255", scheme, g)
		}
	}
	b.Calm()
}
