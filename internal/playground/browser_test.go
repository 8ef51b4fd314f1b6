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
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// untested skips t, loudly, for want of what; in CI it fails it.
func untested(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed: %v", what, err)
	}
	t.Skipf("NOT TESTED: the playground, for want of %s (%v).", what, err)
}

// A tab is a browser's tab and the service behind it.
type tab struct {
	*chrometest.Tab
	t      testing.TB
	URL    string
	gemini *geminitest.Server
	server *httptest.Server
	log    *testlog.Buffer
}

// open starts a service with this environment and opens its page.
func open(t testing.TB, env ...string) *tab {
	t.Helper()
	return openAgent(t, testagent.New, env...)
}

// openAgent is open for another agent.
func openAgent(t testing.TB, of func(context.Context, agent.Env) (agent.Agent, error), env ...string) *tab {
	t.Helper()
	return openOn(t, nil, of, env...)
}

// openOn is openAgent on a store, nil for the service's own.
func openOn(t testing.TB, store session.Store, of func(context.Context, agent.Env) (agent.Agent, error), env ...string) *tab {
	t.Helper()
	path := chrometest.Find(t, "the playground in a browser")
	gemini := geminitest.Start(t)
	values := map[string]string{"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": gemini.URL}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	log := &testlog.Buffer{}
	options := testagent.Options(func(name string) (string, bool) { v, ok := values[name]; return v, ok }, log)
	options.Agent, options.Store = of, store
	s := server.New(options)
	server := httptest.NewServer(s.Both)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), chrometest.Limit)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("shutting down: %v", err)
		}
	})
	b := &tab{Tab: chrometest.Open(t, path, server.URL+"/"), t: t, URL: server.URL + "/", gemini: gemini, server: server, log: log}
	b.Until(`document.querySelector('#version').textContent !== ''`)
	return b
}

func (b *tab) ask(question string) {
	b.t.Helper()
	b.Run(chromedp.SendKeys(chromedp.CSS("#query"), question))
	b.enter()
}

// enter presses Enter in a field that sends.
func (b *tab) enter() {
	b.t.Helper()
	// As in a browser, a key that the page handles itself types no character, which
	// chromedp.KeyEvent would send.
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		chrometest.Call(b.Tab, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, NativeVirtualKeyCode: 13})
	}
}

// answered waits for the end of n answers.
func (b *tab) answered(n int) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`document.querySelectorAll('.foot').length === %d && document.querySelector('#stop').hidden`, n))
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
