package openapi_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/slowtest"
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

// The page in the playground's colors, in the forms that it has, is clear of what axe
// checks, fits a phone and leads back.
func TestThePageIsAccessible(t *testing.T) {
	slowtest.Skip(t, "the accessibility of the page at /docs")
	t.Parallel()
	path := chrometest.Find(t, "the accessibility of the page at /docs")
	axe := chrometest.Axe(t, "the accessibility of the page at /docs")
	server := httptest.NewServer(local(t, map[string]string{"AUTH": "api_key", "API_KEYS": keyList, "PLAYGROUND": "true"}))
	defer server.Close()
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			b := chrometest.Open(t, path, server.URL+"/docs#/Agent/invoke")
			b.Scheme(scheme)
			const invoke = `#operations-Agent-invoke`
			b.Until(`document.querySelector('` + invoke + ` .btn.execute') && !document.querySelector('#playground').hidden`)
			b.Accessible(axe, "with an operation")
			b.Click(invoke + " .btn.execute")
			b.Sees(invoke+" .live-responses-table", "unauthenticated")
			b.Accessible(axe, "with an answer")
			b.Click(".btn.authorize")
			b.Until(`document.querySelector('.dialog-ux input')`)
			b.Accessible(axe, "with the credential")
			b.Click(".dialog-ux .close-modal")
			chrometest.Call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 375, Height: 700, DeviceScaleFactor: 2, Mobile: true})
			if width := chrometest.Eval[int](b, `document.documentElement.scrollWidth`); width > 375 {
				t.Errorf("on a phone it is %d wide", width)
			}
			b.Accessible(axe, "on a phone")
			b.Click("#playground")
			b.Until(`document.querySelector('#query')`)
			b.Calm("401")
		})
	}
}

const secret = "ghk_the-very-secret-key-of-this-test"

// keyList is the list with secret.
var keyList = func() string {
	sum := sha256.Sum256([]byte(secret))
	return `[{"name": "web", "sha256": "` + hex.EncodeToString(sum[:]) + `"}]`
}()

// A credential that is entered at the playground is used here too, and the other way around.
func TestThePageSharesTheCredential(t *testing.T) {
	t.Parallel()
	path := chrometest.Find(t, "the credential of the page at /docs")
	server := httptest.NewServer(local(t, map[string]string{"AUTH": "api_key", "API_KEYS": keyList, "PLAYGROUND": "false"}))
	defer server.Close()
	b := chrometest.Open(t, path, server.URL+"/docs#/Limits/getUsage")
	const usage = `#operations-Limits-getUsage`
	b.Click(usage + " .btn.execute")
	b.Sees(usage+" .live-responses-table", "unauthenticated")
	b.Click(".btn.authorize")
	b.Run(chromedp.SendKeys(chromedp.CSS(".dialog-ux input"), secret))
	b.Click(".dialog-ux .btn.authorize")
	b.Until(`JSON.parse(sessionStorage.getItem('gatehouse')).secret === '` + secret + `' && JSON.parse(sessionStorage.getItem('gatehouse')).kind === 'key'`)
	b.Run(chromedp.Reload())
	b.Click(usage + " .btn.execute")
	b.Sees(usage+" .live-responses-table", "calls_per_minute")
	// Beside the command, which has it for copying, it is shown nowhere and kept nowhere else.
	if kept := chrometest.Eval[string](b, `document.cookie + JSON.stringify(localStorage)`); kept != "{}" {
		t.Errorf("kept beyond the tab: %s", kept)
	}
	if hidden := chrometest.Eval[bool](b, `document.querySelector('#playground').hidden`); !hidden {
		t.Error("it leads to a playground that is not there")
	}
	b.Calm("401")
}
