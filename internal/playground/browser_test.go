package playground_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/internal/testlog"
)

// limit bounds whatever a test waits for.
const limit = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// untested skips t, loudly, for want of what; in CI it fails it.
func untested(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed: %v", what, err)
	}
	t.Skipf("NOT TESTED: the playground, for want of %s (%v).", what, err)
}

// A tab is a browser's tab with a service of its own.
type tab struct {
	t      testing.TB
	ctx    context.Context
	URL    string
	gemini *geminitest.Server
	server *httptest.Server
	log    *testlog.Buffer

	mu       sync.Mutex
	troubles []string // what the console said, and what was thrown
	dialogs  []string // alerts
}

// open starts a service with this environment and opens its page.
func open(t testing.TB, env ...string) *tab {
	t.Helper()
	path := chrometest.Find(t, "the playground in a browser")
	gemini := geminitest.Start(t)
	values := map[string]string{"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": gemini.URL}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	log := &testlog.Buffer{}
	s := server.New(testagent.Options(func(name string) (string, bool) { v, ok := values[name]; return v, ok }, log))
	server := httptest.NewServer(s.Both)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("shutting down: %v", err)
		}
	})
	b := openAt(t, path, server.URL+"/")
	b.gemini, b.server, b.log = gemini, server, log
	return b
}

func openAt(t testing.TB, path, url string) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("lang", "en"), chromedp.WindowSize(1200, 800))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	// A browser of its own: a tab beside another is in the background, where
	// nothing is drawn.
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {})) // of events newer than the library
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting the browser: %v", err)
	}
	ctx, cancel = context.WithTimeout(ctx, 3*limit)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, URL: url}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, cdplog.Enable, cdp.Empty{})
	b.run(chromedp.Navigate(url))
	b.until(`document.querySelector('#version').textContent !== ''`)
	return b
}

func (b *tab) listen(event any) {
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
	case *page.EventJavascriptDialogOpening:
		b.dialogs = append(b.dialogs, event.Message)
		go func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

// calm fails the test if anything went wrong in the page that the test did not
// bring about itself: a complaint that holds one of these words.
func (b *tab) calm(expected ...string) {
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

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// call sends the browser a command of its protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// eval is the value of an expression, a promise awaited.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// until waits until a condition holds in the page.
func (b *tab) until(condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// Not by chromedp.Poll, which compiles text, as the page's policy forbids.
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		if holds {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(b.ctx, time.Second)
			defer cancel()
			text, _ := chromedp.Run(last, chromedp.Evaluate[string](`document.body.innerText.slice(0, 3000)`))
			b.t.Fatalf("it never came about that %s: %v\n%s", condition, err, text)
		}
	}
}

// sees waits until an element holds a text.
func (b *tab) sees(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`[...document.querySelectorAll(%s)].some((e) => e.textContent.includes(%s))`, js(selector), js(text)))
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`[...document.querySelectorAll(%s)].map((e) => e.textContent).join('\n')`, js(selector)))
}

func (b *tab) count(selector string) int {
	b.t.Helper()
	return eval[int](b, fmt.Sprintf(`document.querySelectorAll(%s).length`, js(selector)))
}

// press types keys into whatever has the focus.
func (b *tab) press(keys string) { b.t.Helper(); b.run(chromedp.KeyEvent(keys)) }

func (b *tab) click(selector string) { b.t.Helper(); b.run(chromedp.Click(chromedp.CSS(selector))) }

// clickText clicks the button that says text.
func (b *tab) clickText(text string) {
	b.t.Helper()
	b.run(chromedp.Click(fmt.Sprintf(`//button[normalize-space()=%s]`, js(text))))
}

func (b *tab) ask(question string) {
	b.t.Helper()
	b.run(chromedp.SendKeys(chromedp.CSS("#query"), question))
	// As a browser has it: a key that the page takes for itself gives no
	// character, which chromedp.KeyEvent would send all the same.
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, NativeVirtualKeyCode: 13})
	}
}

// answered waits for the end of n answers.
func (b *tab) answered(n int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelectorAll('.foot').length === %d && document.querySelector('#stop').hidden`, n))
}

// fetch asks the service itself, as the page's user.
func (b *tab) fetch(path string) map[string]any {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.(*testing.T).Context(), http.MethodGet, b.URL+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var envelope struct {
		Data map[string]any `json:"data"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&envelope); err != nil {
		b.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return envelope.Data
}

// js is text as JavaScript has it.
func js(text string) string {
	quoted, _ := json.Marshal(text) // strings always encode
	return string(quoted)
}
