package openapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"example.com/gatehouse/internal/chrometest"
)

// The page shows every operation and asks the service through it, under its
// policy: no error on the console, and nothing from elsewhere.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	path := chrometest.Find(t, "the page at /docs in a browser")
	h := local(t, nil)
	server := httptest.NewServer(h)
	defer server.Close()
	operations := 0
	for _, item := range document(t, h).Paths {
		operations += len(item)
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 1600))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {})) // of events newer than the library
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting the browser: %v", err)
	}
	ctx, cancel = context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var mu sync.Mutex
	var troubles, requests []string
	err := chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			troubles = append(troubles, event.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning {
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
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, cdplog.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}

	const usage = `#operations-Limits-getUsage`
	var shown int
	var title, answer string
	err = errors.Join(
		chromedp.Do(ctx, chromedp.Navigate(server.URL+"/docs#/Limits/getUsage"), chromedp.WaitVisible(usage+" .btn.execute")),
		read(ctx, &shown, chromedp.Evaluate[int](`document.querySelectorAll(".opblock").length`)),
		read(ctx, &title, chromedp.Text(".info .title")),
		chromedp.Do(ctx, chromedp.Click(usage+" .btn.execute"), chromedp.WaitVisible(usage+" .live-responses-table .microlight")),
		read(ctx, &answer, chromedp.Text(usage+" .live-responses-table")),
	)
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

// read runs an action and keeps what it returns.
func read[T any](ctx context.Context, to *T, action chromedp.Action[T]) error {
	value, err := chromedp.Run(ctx, action)
	*to = value
	return err
}
