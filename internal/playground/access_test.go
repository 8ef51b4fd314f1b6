package playground_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/testagent"
)

// The checker of what people with assistive technology meet, as npm has it.
const (
	axePackage   = "axe-core@4.14.1"
	axeIntegrity = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==" // SHA-512
)

// axe is axe-core's script, fetched by npm and checked.
func axe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	pack := exec.CommandContext(t.Context(), "npm", "pack", axePackage, "--silent", "--pack-destination", dir)
	pack.Dir = dir
	if output, err := pack.CombinedOutput(); err != nil {
		untested(t, "npm, and a registry with "+axePackage+", for the check of its accessibility", errors.Join(err, errors.New(string(output))))
	}
	packed, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(axePackage, "@", "-")+".tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha512.Sum512(packed); base64.StdEncoding.EncodeToString(sum[:]) != axeIntegrity {
		t.Fatalf("%s is not what was pinned: %x", axePackage, sum)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if err != nil {
			t.Fatalf("looking for axe.min.js: %v", err)
		}
		if header.Name == "package/axe.min.js" {
			script, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			return string(script)
		}
	}
}

// scheme has the browser prefer light or dark.
func (b *tab) scheme(name string) {
	b.t.Helper()
	chrometest.Call(b.Tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// accessible fails the test for each violation that axe finds on the page as it is now.
func (b *tab) accessible(script, when string) {
	b.t.Helper()
	b.Run(chromedp.Evaluate[chromedp.Void](script))
	result := chrometest.Eval[string](b.Tab, `axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify({
		checked: r.passes.map((rule) => rule.id),
		violations: r.violations.map((v) => [v.id, v.help, ...v.nodes.map((n) => n.target.join(' ') + ': ' + n.failureSummary)].join('\n')),
	}))`)
	var found struct{ Checked, Violations []string }
	if err := json.Unmarshal([]byte(result), &found); err != nil {
		b.t.Fatal(err)
	}
	for _, violation := range found.Violations {
		b.t.Errorf("%s: %s", when, violation)
	}
	for _, rule := range []string{"color-contrast", "button-name"} {
		if !strings.Contains(result, `"`+rule+`"`) {
			b.t.Errorf("%s: axe did not check %s, but %q", when, rule, found.Checked)
		}
	}
}

func TestAccessibility(t *testing.T) {
	script := axe(t)
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			b := open(t)
			b.scheme(scheme)
			b.accessible(script, "at first")
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
			b.accessible(script, "with answers")
			// Each state is where a reader of the screen is told of it.
			if got := chrometest.Eval[string](b.Tab, `[...document.querySelectorAll('#status, #secret-problem')].map((e) => e.getAttribute('role')).join(' ')`); got != "status alert" {
				t.Errorf("live regions: %q", got)
			}
			b.Click(firstEdit)
			b.accessible(script, "with a question that is edited")
			b.ClickText("form.edit button", "Cancel")
			b.Click("#settings-open")
			b.accessible(script, "with the settings")
			b.Calm("502")
		})
	}
}

// A check that finds nothing anywhere would be no check.
func TestAccessibilityIsReallyChecked(t *testing.T) {
	script := axe(t)
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
		b.scheme(scheme)
		if g := ground(); !right(g) {
			t.Errorf("%s has a ground of %d of 255", scheme, g)
		}
	}
	b.Calm()
}
