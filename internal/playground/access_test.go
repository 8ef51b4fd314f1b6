package playground_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

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
			b.Calm("502")
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
