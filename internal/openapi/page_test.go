package openapi_test

import (
	"net/http/httptest"
	"strings"
	"testing"

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

	b := chrometest.Open(t, path, server.URL+"/docs#/Limits/getUsage")
	const usage = `#operations-Limits-getUsage`
	b.Click(usage + " .btn.execute")
	b.Sees(usage+" .live-responses-table", "calls_per_minute")
	if answer := b.Text(usage + " .live-responses-table"); !strings.Contains(answer, "200") {
		t.Errorf("GET /usage, tried on the page: %s", answer)
	}
	if shown := b.Count(".opblock"); shown != operations {
		t.Errorf("%d operations are shown, want %d", shown, operations)
	}
	if title := b.Text(".info .title"); !strings.Contains(title, "Gatehouse") {
		t.Errorf("the title is %q", title)
	}
	b.Calm()
	for _, url := range b.Requests() {
		if !strings.HasPrefix(url, server.URL+"/") && !strings.HasPrefix(url, "data:") {
			t.Errorf("a request to elsewhere: %s", url)
		}
	}
}
