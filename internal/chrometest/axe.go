package chrometest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// The checker of what people with assistive technology meet, as npm has it.
const (
	axePackage   = "axe-core@4.14.1"
	axeIntegrity = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==" // SHA-512
)

// Axe returns the script of axe-core, which npm fetches and which is checked against its
// hash. Without npm or its registry the test is skipped, with what as the untested part in
// its message; in CI it fails.
func Axe(t testing.TB, what string) string {
	t.Helper()
	dir := t.TempDir()
	pack := exec.CommandContext(t.Context(), "npm", "pack", axePackage, "--silent", "--pack-destination", dir)
	pack.Dir = dir
	if output, err := pack.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("npm, and a registry with %s, are needed: %v: %s", axePackage, err, output)
		}
		t.Skipf("NOT TESTED: %s; npm pack %s: %v: %s", what, axePackage, err, output)
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

// Scheme has the browser prefer light or dark.
func (b *Tab) Scheme(name string) {
	b.t.Helper()
	Call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// Accessible fails the test for each violation that axe, the script of [Axe], finds on the
// page as it is now.
func (b *Tab) Accessible(axe, when string) {
	b.t.Helper()
	b.Run(chromedp.Evaluate[chromedp.Void](axe))
	result := Eval[string](b, `axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify({
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
