package openapi_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is CHROME, or the one that the PATH has. Without any the test fails in
// CI, and elsewhere says what was not tested.
func browser(t *testing.T) string {
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
	t.Skip("NOT TESTED: the page at /docs in a browser; " + problem)
	return ""
}

// The page shows every operation and asks the service through it, under its
// policy: no error on the console, and nothing from elsewhere.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	path := browser(t)
	h := local(t, nil)
	server := httptest.NewServer(h)
	defer server.Close()
	operations := 0
	for _, item := range document(t, h).Paths {
		operations += len(item)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 1600))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	var mu sync.Mutex
	var troubles, requests []string
	chromedp.ListenTarget(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			troubles = append(troubles, event.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if event.Type == runtime.APITypeError || event.Type == runtime.APITypeWarning {
				for _, arg := range event.Args {
					troubles = append(troubles, fmt.Sprintf("%s: %s%s", event.Type, arg.Value, arg.Description))
				}
			}
		case *cdplog.EventEntryAdded:
			troubles = append(troubles, event.Entry.Text)
		case *network.EventRequestWillBeSent:
			requests = append(requests, event.Request.URL)
		}
	})

	const usage = `#operations-Limits-getUsage`
	var shown int
	var title, answer string
	var picture []byte
	err := chromedp.Run(ctx,
		network.Enable(), cdplog.Enable(),
		chromedp.Navigate(server.URL+"/docs#/Limits/getUsage"),
		chromedp.WaitVisible(usage+" .btn.execute", chromedp.ByQuery),
		chromedp.Evaluate(`document.querySelectorAll(".opblock").length`, &shown),
		chromedp.Text(".info .title", &title, chromedp.ByQuery),
		chromedp.Click(usage+" .btn.execute", chromedp.ByQuery),
		chromedp.WaitVisible(usage+" .live-responses-table .microlight", chromedp.ByQuery),
		chromedp.Text(usage+" .live-responses-table", &answer, chromedp.ByQuery),
		chromedp.FullScreenshot(&picture, 60),
	)
	if to := os.Getenv("SCREENSHOT"); to != "" && err == nil {
		err = os.WriteFile(to, picture, 0o600)
	}
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, strings.Join(troubles, "\n"), strings.Join(requests, "\n"))
	}
	if shown != operations || !strings.Contains(title, "Gatehouse") {
		t.Errorf("%d operations are shown, want %d, under %q", shown, operations, title)
	}
	if !strings.Contains(answer, "200") || !strings.Contains(answer, "calls_per_minute") {
		t.Errorf("GET /usage, tried on the page: %s", answer)
	}
	for _, trouble := range troubles {
		t.Errorf("the console says: %s", trouble)
	}
	for _, url := range requests {
		if !strings.HasPrefix(url, server.URL+"/") && !strings.HasPrefix(url, "data:") {
			t.Errorf("a request to elsewhere: %s", url)
		}
	}
}
