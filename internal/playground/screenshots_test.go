package playground_test

import (
	"bytes"
	"flag"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/testagent"
)

var update = flag.Bool("update", false, "rewrite the screenshots of the documentation")

const shown = "Your service is **healthy**. To put a new version beside it:\n\n" +
	"```sh\ngcloud run deploy invoke --source . --function invoke \\\n  --no-traffic --tag candidate\n```\n\n" +
	"| Step | Traffic |\n|---|---:|\n| Try the tagged URL | 0 % |\n| Watch the error rate | 10 % |\n| Go on | 100 % |\n\n" +
	"Which region are your users in?"

// TestScreenshots looks whether the documentation's pictures are there; with
// -update it takes them.
func TestScreenshots(t *testing.T) {
	const dir = "../../docs/img"
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, scheme  string
		width, height int64
		scale         float64
	}{
		{"playground", "light", 1100, 720, 1},
		{"playground-dark", "dark", 1100, 720, 1},
		{"playground-phone", "light", 360, 720, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, tt.name+".png")
			if *update {
				if err := os.WriteFile(file, screenshot(t, tt.scheme, tt.width, tt.height, tt.scale), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			taken, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			picture, err := png.DecodeConfig(bytes.NewReader(taken))
			if err != nil {
				t.Fatal(err)
			}
			if int64(picture.Width) != int64(float64(tt.width)*tt.scale) || int64(picture.Height) != int64(float64(tt.height)*tt.scale) || len(taken) > 150_000 {
				t.Errorf("%s has %d bytes and is %d by %d", file, len(taken), picture.Width, picture.Height)
			}
			if !strings.Contains(string(readme), "docs/img/"+tt.name+".png") {
				t.Errorf("the README does not show %s", file)
			}
		})
	}
}

// screenshot is the page with a session on it.
func screenshot(t *testing.T, scheme string, width, height int64, scale float64) []byte {
	b := open(t)
	chrometest.Call(b.Tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: scale, Mobile: width < 600})
	b.Scheme(scheme)
	b.ask("How long are sessions kept?")
	b.answered(1)
	b.Click("#new")
	b.ask("What does a turn cost?")
	b.answered(1)
	b.Click("#new")
	b.gemini.Enqueue(
		geminitest.Calls(geminitest.FunctionCall{Name: testagent.Status}),
		geminitest.Text(shown).WithUsage(geminitest.Usage{Prompt: 1430, Output: 133}),
	)
	b.ask("How is my deployment doing, and how do I try a new version?")
	b.answered(1)
	b.Until(`document.querySelectorAll('#sessions li').length === 3 && document.querySelector('#sessions li:first-child [aria-current]')`)
	chrometest.Eval[int](b.Tab, `document.activeElement.blur(); 1`)
	chrometest.Call(b.Tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: 1, Y: float64(height) - 1}) // over nothing
	ctx, cancel := b.Context()
	defer cancel()
	taken, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(taken))
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, picture); err != nil {
		t.Fatal(err)
	}
	return small.Bytes()
}
