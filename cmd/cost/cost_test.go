package main

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/models"
)

var update = flag.Bool("update", false, "write what the command prints into docs/cost.md")

// generated matches a command in the document and its output.
var generated = regexp.MustCompile(`(?s)<!-- go run \./cmd/cost (.*?) -->\n(.*?)<!-- end -->`)

// TestDocument runs every command whose output docs/cost.md shows.
func TestDocument(t *testing.T) {
	const path = "../../docs/cost.md"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	want := generated.ReplaceAllStringFunc(string(raw), func(block string) string {
		n++
		args := generated.FindStringSubmatch(block)[1]
		var out bytes.Buffer
		if err := run(strings.Fields(args), &out, models.BuiltIn().Date.Begin()); err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		return "<!-- go run ./cmd/cost " + args + " -->\n" + out.String() + "<!-- end -->"
	})
	if n < 3 {
		t.Fatalf("%d commands in the document", n)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("docs/cost.md is not what cmd/cost prints; go test ./cmd/cost -update writes it (-want +got):\n%s", diff)
	}
}

func TestMeasuredFiguresHaveTheirSource(t *testing.T) {
	if _, err := time.Parse(time.DateOnly, measured().Date); err != nil {
		t.Error(err)
	}
	for name, f := range measured().Figures {
		if f.Value <= 0 || f.Of == "" || f.Source == "" {
			t.Errorf("%s: %+v", name, f)
		}
		// A test named as source must exist.
		if pkg, test, ok := strings.Cut(f.Source, " Test"); ok {
			found := false
			entries, err := os.ReadDir("../../" + pkg)
			if err != nil {
				t.Error(err)
			}
			for _, e := range entries {
				raw, _ := os.ReadFile("../../" + pkg + "/" + e.Name())
				found = found || strings.Contains(string(raw), "func Test"+test+"(")
			}
			if !found {
				t.Errorf("%s: no test %s", name, f.Source)
			}
		}
	}
}

func TestOpenSeconds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*usage)
		want   float64
	}{
		// A turn of 3 s every 26 s: few overlap.
		{"few turns are paid for one by one", func(u *usage) { u.Turns = 1e5 }, month * (1 - math.Exp(-3e5/month))},
		{"turns at once share an instance", func(u *usage) { u.Turns = 1e7 }, month * (1 - math.Exp(-3e7/month))},
		{"a hundred instances' worth needs a hundred", func(u *usage) { u.Turns = 100 * busy * 80 * month / 3 }, 100 * month},
		{"in a third of the day", func(u *usage) { u.Turns, u.Hours = 1e9, 8 }, month / 3 * (1e9 / (month / 3) * 3 / (busy * 80))},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := defaults()
			c.change(&u)
			if got := u.open(); math.Abs(got-c.want) > c.want/1000 {
				t.Errorf("open = %.0f s, want %.0f", got, c.want)
			}
		})
	}
}

// TestBillByHand compares lines with hand-computed values.
func TestBillByHand(t *testing.T) {
	u := defaults()
	u.Secrets, u.Keyed, u.MinInstances = 2, 0.5, 1
	lines, err := u.bill()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, l := range lines {
		got[l.name] = l.amount
	}
	for name, want := range map[string]float64{
		"requests, a health ping a minute among them": 1e6 + 43200,
		// A turn every 2.592 s: an instance writes its statistics every 12.592 s, and
		// not at all in a minute without a turn, one of e^23.
		"Firestore reads":               0.8e6 + 43200*(1+3+5),
		"Firestore writes":              1.5e6 + 86400 + month/12.592,
		"Firestore deletions, by TTL":   0.2e6 + 86400 + 43200,
		"audit GiB kept beyond 30 days": 1e6 * 860 / gib * 370 / 30,
		"log GiB: our line and Cloud Run's a request, an audit entry a turn": (1043200*2030 + 1e6*860) / gib,
		"secret versions": 2,
		"scheduler jobs":  1,
		"turns' tokens, " + models.BuiltIn().Default: 1e6,
	} {
		if math.Abs(got[name]-want) > 1e-6*want+1e-3 {
			t.Errorf("%s: %.0f, want %.0f", name, got[name], want)
		}
	}
	seconds := got[invokeInstances+"vCPU-seconds with a request"] + got[invokeInstances+"vCPU-seconds idle, minimum instances"]
	if math.Abs(seconds-month) > 1 {
		t.Errorf("a minimum instance of one vCPU is there for %.0f s of %.0f", seconds, month)
	}
	// 1 500 prompt tokens at $0.30 and 300 others at $2.50 a million.
	if usd := lines[len(lines)-1].item.USD; math.Abs(usd-0.0012) > 1e-9 {
		t.Errorf("a turn's tokens cost %v", usd)
	}
	if got, want := alwaysOn(false), 4*month*0.000018+8*month*0.000002; math.Abs(got-want) > 1e-9 {
		t.Errorf("an always-on instance costs %v, want %v", got, want)
	}
}

// Searches are counted as the model's prices have them.
func TestSearches(t *testing.T) {
	for _, tt := range []struct {
		model    string
		searches float64
		name     string
		usd      float64 // a month
	}{
		{"gemini-3.5-flash-lite", 2, "queries of Google Search", 2e6 * 0.014},
		{"gemini-3.5-flash-lite", 0.1, "queries of Google Search", 1e5 * 0.014},
		{"gemini-2.5-flash", 2, "turns with Google Search", 1e6 * 0.035},
		{"gemini-2.5-flash", 0.1, "turns with Google Search", 1e5 * 0.035},
		{"gemini-3.5-flash-lite", 0, "", 0},
	} {
		u := defaults()
		u.Model, u.Searches = tt.model, tt.searches
		lines, err := u.bill()
		if err != nil {
			t.Fatal(err)
		}
		last := lines[len(lines)-1]
		if tt.name == "" {
			if strings.Contains(last.name, "Search") {
				t.Errorf("%+v", last)
			}
			continue
		}
		if usd := last.amount * last.item.USD; last.name != tt.name || math.Abs(usd-tt.usd) > 1e-6*tt.usd {
			t.Errorf("%s, %v searches: %+v for %v, want %v", tt.model, tt.searches, last, usd, tt.usd)
		}
	}
	u := defaults()
	u.Searches = -1
	if u.check() == nil {
		t.Error("searches below 0 are taken")
	}
}

// TestReadme compares the README's figures with the bill.
func TestReadme(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, ok := strings.Cut(string(raw), "\n## What it costs\n")
	page, _, _ = strings.Cut(page, "\n## ")
	if !ok {
		t.Fatal("the README does not say what it costs")
	}
	lines, err := defaults().bill()
	if err != nil {
		t.Fatal(err)
	}
	sum := func(lines []line) (cloud, tokens float64) {
		for _, l := range lines {
			if strings.HasPrefix(l.name, "turns' tokens") {
				tokens += due(l.amount, l.item, true)
			} else {
				cloud += due(l.amount, l.item, true)
			}
		}
		return cloud, tokens
	}
	cloud, tokens := sum(lines)
	idle := func(condition float64) float64 {
		u := defaults()
		u.Turns, u.ConditionUSD = 0, condition
		lines, err := u.bill()
		if err != nil {
			t.Fatal(err)
		}
		usd, _ := sum(lines)
		return usd
	}
	said := regexp.MustCompile(`\$[0-9.]+[0-9]`).FindAllString(page, -1)
	want := []string{fmt.Sprintf("$%.2f", cloud), fmt.Sprintf("$%.2f", instances(lines, true)), fmt.Sprintf("$%.2f", alwaysOn(true)), fmt.Sprintf("$%.2f", tokens), fmt.Sprintf("$%.2f", idle(0.1)), fmt.Sprintf("$%.2f", idle(1.5))}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("the README's figures are not the bill's (-want +got):\n%s", diff)
	}
}

// TestTasks compares what a run in the background adds, and the task of a stream that goes on
// without its client, with values computed by hand.
func TestTasks(t *testing.T) {
	lines := func(change func(*usage)) map[string]float64 {
		u := defaults()
		change(&u)
		all, err := u.bill()
		if err != nil {
			t.Fatal(err)
		}
		amounts := map[string]float64{}
		for _, l := range all {
			amounts[l.name] = l.amount
		}
		return amounts
	}
	usual := lines(func(*usage) {})
	streamed := lines(func(u *usage) { u.Streamed = 1 })
	for name, want := range map[string]float64{
		"operations of Cloud Tasks":                   1e6 * 2, // added, and delivered
		"requests, a health ping a minute among them": 1e6,
		"Firestore reads":                             1e6,
		"Firestore writes":                            0,
		"Firestore deletions, by TTL":                 0,
	} {
		all := lines(func(u *usage) { u.Streamed, u.Continued = 1, 1 })
		if got := all[name] - streamed[name]; math.Abs(got-want) > 1 {
			t.Errorf("of a stream that goes on without its client, %s: %.0f more, want %.0f", name, got, want)
		}
	}
	for name, want := range map[string]float64{
		"operations of Cloud Tasks":                   2e6 * 2, // its task and its webhook's: added, and delivered
		"requests, a health ping a minute among them": 2e6,
		"Firestore reads":                             5e6,
		"Firestore writes":                            4e6, // of 3 s
		"Firestore deletions, by TTL":                 1e6,
	} {
		all := lines(func(u *usage) { u.Background, u.Webhooks = 1, 1 })
		if got := all[name] - usual[name]; math.Abs(got-want) > 1 {
			t.Errorf("%s: %.0f more, want %.0f", name, got, want)
		}
	}
}

// TestKindsOfRuns compares the writes that each kind of run adds with those counted on the
// wire.
func TestKindsOfRuns(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*usage)
		more   float64 // writes a turn
	}{
		{"a stream of 3 s", func(u *usage) { u.Streamed = 1 }, 3},
		{"a stream of 2.6 s", func(u *usage) { u.Streamed, u.Seconds = 1, 2.6 }, 3},
		{"a stream of under 2 s", func(u *usage) { u.Streamed, u.Seconds = 1, 1.9 }, 2},
		{"a stream of a second", func(u *usage) { u.Streamed, u.Seconds = 1, 1 }, 0},
		{"a stream that goes on without its client", func(u *usage) { u.Streamed, u.Continued = 1, 1 }, 3},
		{"an effect", func(u *usage) { u.Effects = 1 }, 2},
		{"an approval", func(u *usage) { u.Approvals = 1 }, 5},
	} {
		u := defaults()
		tt.change(&u)
		plain := defaults()
		plain.Seconds = u.Seconds
		writes := func(u usage) (n float64) {
			lines, err := u.bill()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				if l.name == "Firestore writes" {
					n = l.amount
				}
			}
			return n
		}
		if got := (writes(u) - writes(plain)) / u.Turns; math.Abs(got-tt.more) > 1e-6 {
			t.Errorf("%s: %.3f writes more, want %.0f", tt.name, got, tt.more)
		}
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		name                     string
		change                   func(*usage)
		writes, documents, reads float64
	}{
		// In 30 days every turn is written, and every ping reads one document or none.
		{"hardly a turn", func(u *usage) { u.Turns = 30 }, 30, 30, 4 * minutes},
		{"a turn a second", func(u *usage) { u.Turns = month }, month / 11, minutes, 8 * minutes},
		// 600 turns of 3 s per second need 37.5 instances with 16 turns per second
		// each.
		{"many instances", func(u *usage) { u.Turns = 600 * month }, 37.5 * month / 10.0625, 37.5 * minutes, (3 + 187.5) * minutes},
		{"in a third of the day", func(u *usage) { u.Turns, u.Hours = 200*month, 8 }, 37.5 * month / 3 / 10.0625, 37.5 * minutes / 3, (3 + 62.5) * minutes},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := defaults()
			c.change(&u)
			writes, documents, reads := u.figures()
			for name, pair := range map[string][2]float64{"writes": {writes, c.writes}, "documents": {documents, c.documents}, "reads": {reads, c.reads}} {
				if math.Abs(pair[0]-pair[1]) > pair[1]/1000 {
					t.Errorf("%s: %.0f, want %.0f", name, pair[0], pair[1])
				}
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string]string{
		"fewer turns than none": "-turns -1",
		"not a number":          "-turns NaN",
		"infinitely many":       "-turns Inf",
		"half a session":        "-turns-per-session 0.5",
		"a share above 1":       "-keyed 2",
		"runs above the turns":  "-background 2",
		"streams that go on":    "-continued 2",
		"a day of 25 hours":     "-hours 25",
		"more cached than sent": "-prompt 10 -cached 20",
		"an unknown model":      "-model nobody",
		"words":                 "many",
		"negative memory":       "-memory -1",
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(strings.Fields(args), &out, models.BuiltIn().Date.Begin()); err == nil || out.Len() > 0 {
				t.Errorf("error %v, and it printed:\n%s", err, &out)
			}
		})
	}
}
