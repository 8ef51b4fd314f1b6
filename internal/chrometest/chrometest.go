// Package chrometest drives Chromium for tests: [Open] opens a page in a browser of
// its own, whose methods wait for what a user would see and fail the test otherwise.
//
// No wait is a measure of speed: on a busy machine a page may take a minute for what
// takes a second elsewhere. [Limit] ends only a wait for what never comes.
package chrometest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Limit bounds each wait of a test.
const Limit = 3 * time.Minute

// Find returns the path of Chromium, from CHROME or PATH. Without one the test is
// skipped, with what as the untested part in its message; in CI it fails.
func Find(t testing.TB, what string) string {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}
	if name := os.Getenv("CHROME"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	problem := "none of " + strings.Join(names, ", ") + " is there: install the package chromium, or set CHROME to a browser's path"
	if os.Getenv("CI") != "" {
		t.Fatal(problem)
	}
	t.Skip("NOT TESTED: " + what + "; " + problem)
	return ""
}

// A Tab is the only tab of a browser.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	troubles []string // errors and warnings of the console, exceptions
	dialogs  []string // alerts
	requests []string // addresses
}

// Open starts the browser at path, which [Find] returns, and goes to url. The browser
// ends with t.
func Open(t testing.TB, path, url string) *Tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WSURLReadTimeout(Limit), chromedp.Flag("lang", "en"), chromedp.WindowSize(1200, 800))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	// One browser for each test: a tab beside another is in the background, where
	// nothing is drawn.
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {})) // of events newer than the library
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting the browser: %v", err)
	}
	b := &Tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	Call(b, cdplog.Enable, cdp.Empty{})
	Call(b, network.Enable, network.EnableParams{})
	b.Run(chromedp.Navigate(url))
	return b
}

// Context returns a context that ends with the browser or after [Limit].
func (b *Tab) Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, Limit)
}

func (b *Tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning {
			b.troubles = append(b.troubles, fmt.Sprintf("console: %v", event.Args))
		}
	case *runtime.EventExceptionThrown:
		thrown := event.ExceptionDetails.Text
		if exception := event.ExceptionDetails.Exception; exception != nil {
			thrown += ": " + exception.Description
		}
		b.troubles = append(b.troubles, thrown)
	case *cdplog.EventEntryAdded:
		if level := event.Entry.Level; level == cdplog.EntryLevelWarning || level == cdplog.EntryLevelError {
			b.troubles = append(b.troubles, string(event.Entry.Source)+": "+event.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, event.Request.URL)
	case *page.EventJavascriptDialogOpening:
		b.dialogs = append(b.dialogs, event.Message)
		go func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

// Requests returns the addresses that the page has asked for.
func (b *Tab) Requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.requests...)
}

// Calm fails the test if anything went wrong in the page that the test did not
// bring about itself: a complaint that contains none of these words.
func (b *Tab) Calm(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, trouble := range b.troubles {
		for _, word := range expected {
			if strings.Contains(trouble, word) {
				continue next
			}
		}
		b.t.Errorf("the page complained: %s", trouble)
	}
	if len(b.dialogs) > 0 {
		b.t.Errorf("scripts ran: %q", b.dialogs)
	}
}

// Run does actions, one after the other.
func (b *Tab) Run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := b.do(actions...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Tab) do(actions ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := b.Context()
	defer cancel()
	return chromedp.Do(ctx, actions...)
}

// Call sends the browser a command of its protocol.
func Call[P, R any](b *Tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := b.Context()
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// Eval returns the value of an expression. A promise is awaited.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, cancel := b.Context()
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// Until waits until a condition holds in the page.
func (b *Tab) Until(condition string) {
	b.t.Helper()
	await(b, "!!("+condition+")", func(holds bool) bool { return holds })
}

// await evaluates an expression until its value is enough, and returns that. An
// evaluation may fail while the page is being replaced.
func await[T any](b *Tab, expression string, enough func(T) bool) T {
	b.t.Helper()
	ctx, cancel := b.Context()
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// Not by chromedp.Poll, which compiles text, as the page's policy forbids.
		value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		if err == nil && enough(value) {
			return value
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(b.ctx, 10*time.Second)
			defer cancel()
			text, _ := chromedp.Run(last, chromedp.Evaluate[string](`document.body.innerText.slice(0, 3000)`))
			b.mu.Lock()
			defer b.mu.Unlock()
			b.t.Fatalf("never true: %s\n%v\n%s\n%q", expression, err, text, b.troubles)
		}
	}
}

// Sees waits until an element holds a text.
func (b *Tab) Sees(selector, text string) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`[...document.querySelectorAll(%s)].some((e) => e.textContent.includes(%s))`, JS(selector), JS(text)))
}

// Text returns the text of the elements.
func (b *Tab) Text(selector string) string {
	b.t.Helper()
	return Eval[string](b, fmt.Sprintf(`[...document.querySelectorAll(%s)].map((e) => e.textContent).join('\n')`, JS(selector)))
}

// Count returns the number of elements.
func (b *Tab) Count(selector string) int {
	b.t.Helper()
	return Eval[int](b, fmt.Sprintf(`document.querySelectorAll(%s).length`, JS(selector)))
}

// Press types keys into the element that has the focus.
func (b *Tab) Press(keys string) { b.t.Helper(); b.Run(chromedp.KeyEvent(keys)) }

// Click clicks the first element of a selector once it can be hit.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.click("document.querySelector(" + JS(selector) + ")")
}

// ClickText clicks the first element of a selector that contains text, like Click.
func (b *Tab) ClickText(selector, text string) {
	b.t.Helper()
	b.click(fmt.Sprintf("[...document.querySelectorAll(%s)].find((e) => e.textContent.includes(%s))", JS(selector), JS(text)))
}

// maxMisses is how often a click may go beside its element.
const maxMisses = 10

// A page that scrolls or is being drawn moves an element between the look where it is
// and the mouse's press and release there, and the click goes elsewhere. So an element
// is clicked once it has stood still for two frames with nothing over it, and again if
// the click did not arrive.
const clickable = `(async () => {
	const e = %s;
	if (!e) return null;
	e.scrollIntoViewIfNeeded();
	const middle = () => { const r = e.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; };
	const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
	const before = middle();
	await frame();
	await frame();
	const [x, y] = middle();
	if (x !== before[0] || y !== before[1] || !e.contains(document.elementFromPoint(x, y))) return null;
	globalThis.clickArrived = false;
	e.addEventListener('click', () => { globalThis.clickArrived = true; }, {once: true, capture: true});
	return [x, y];
})()`

func (b *Tab) click(element string) {
	b.t.Helper()
	for range maxMisses {
		at := await(b, fmt.Sprintf(clickable, element), func(at []float64) bool { return len(at) == 2 })
		// A click that leads to another page ends the page that it is reported to.
		err := b.do(chromedp.MouseClickXY(at[0], at[1]))
		arrived := await(b, `globalThis.clickArrived !== false`, func(bool) bool { return true })
		if arrived { // undefined in a page that has replaced it
			return
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Fatalf("%d clicks missed %s", maxMisses, element)
}

// JS returns text as a literal of JavaScript.
func JS(text string) string {
	quoted, _ := json.Marshal(text) // strings always encode
	return string(quoted)
}
