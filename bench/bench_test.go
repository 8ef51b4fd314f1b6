package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/bench/internal/answer"
	"example.com/gatehouse/internal/gcp/emulator"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

// TestReport runs the whole benchmark, for the shortest time that yields figures.
func TestReport(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs servers")
	}
	if err := raiseFiles(100); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	o := quick()
	o.Duration, o.AtOnce, o.Streams, o.Gap = 40*time.Millisecond, []int{1, 4}, []int{20}, 5*time.Millisecond
	o.SessionTurns, o.CPUProfile, o.Out = 3, filepath.Join(dir, "profiles"), filepath.Join(dir, "results.json")
	for _, other := range others {
		if !other.emulator { // they have separate tests
			o.Configs = append(o.Configs, other.name)
		}
	}
	var out bytes.Buffer
	if err := report(t.Context(), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}

	raw, err := os.ReadFile(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	var results Results
	if err := json.Unmarshal(raw, &results); err != nil {
		t.Fatal(err)
	}
	all, targets := scenarios(o), o.targets()
	if got, want := len(results.Runs), 2*o.Rounds*len(all)*(len(targets)-1); got != want {
		t.Errorf("%d runs, want %d", got, want)
	}
	for _, run := range results.Runs {
		for name, value := range run.Figures {
			// A short run may take less CPU than the kernel counts in.
			small := name == failures || name == cpu
			if math.IsInf(value, 0) || math.IsNaN(value) || value < 0 || value == 0 && !small {
				t.Errorf("%s, %s, round %d: %s is %v", run.Scenario, run.Target, run.Round, name, value)
			}
		}
		if run.Figures[failures] != 0 {
			t.Errorf("%s, %s: %v streams failed", run.Scenario, run.Target, run.Figures[failures])
		}
	}
	compared := make(map[string]bool)
	for _, c := range results.Comparison {
		compared[c.Scenario+"/"+c.Target+"/"+c.Figure] = true
		if len(c.ByRound) != o.Rounds && c.Figure != cpu {
			t.Errorf("%s of %s in %s: %d comparisons in %d rounds", c.Figure, c.Target, c.Scenario, len(c.ByRound), o.Rounds)
		}
	}
	for _, s := range all {
		if !strings.Contains(out.String(), "### "+s.name+"\n") {
			t.Errorf("no table of %q in:\n%s", s.name, &out)
		}
		for _, target := range targets[1:] {
			for name := range s.budgets {
				if !target.held {
					continue
				}
				if key := s.name + "/" + target.name + "/" + name; !compared[key] {
					t.Errorf("nothing to hold against the budget of %s", key)
				}
			}
		}
	}
	for _, program := range programs {
		if results.Binaries[program] < 1<<20 {
			t.Errorf("the binary of %s has %d bytes", program, results.Binaries[program])
		}
	}
	if m := results.Machine; m.Cores == 0 || m.Go == "" || m.Date.IsZero() {
		t.Errorf("the machine's facts lack some: %+v", m)
	}
	profiles, err := filepath.Glob(filepath.Join(o.CPUProfile, "*.pprof"))
	if want := len(targets) * (len(all) - 1); err != nil || len(profiles) != want { // all but the start
		t.Errorf("profiles %v (%v), want %d", profiles, err, want)
	}
}

// TestDocuments counts a turn's documents on the wire, as the budgets have them,
// and starts the service with all its services far away.
func TestDocuments(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", emulator.Host(t))
	o := quick()
	o.Starts = 1
	var there []target
	for _, other := range others {
		if other.emulator {
			there = append(there, other)
		}
	}
	services, built, model := prepare(t, o, there)
	runOf := func(other target) *run {
		return &run{Options: o, target: other, binary: built.path(other.program), model: model.address, told: services.environment}
	}
	all, err := documents(t.Context(), runOf(there[0]), services)
	if err != nil || len(all) != 4 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, touched := range all[:3] {
		if !touched.Met {
			t.Errorf("%+v", touched)
		}
	}
	if all[3].Turns == 0 || all[3].Sessions.Writes == 0 {
		t.Errorf("%+v", all[3])
	}
	shared, err := instances(t.Context(), runOf(there[0]), services)
	if err != nil || len(shared) != len(processCounts) {
		t.Fatalf("%v, %v", shared, err)
	}
	for _, i := range shared {
		// The first turn of the second that is shared may lease and write figures; what
		// a turn does to its session is the same for all.
		if i.Turns < i.Processes || i.P50 <= 0 || i.Sessions != (Documents{1, 1, 2}) || i.Limits.Writes > 2*float64(i.Processes) {
			t.Errorf("%+v", i)
		}
	}
	f, err := coldStart().run(t.Context(), runOf(there[1]))
	if err != nil {
		t.Fatal(err)
	}
	if got := f[firstTurn]; got < ms(2*slowCall) {
		t.Errorf("a first turn after %v ms, though its keys, and then its session, take %v each", got, slowCall)
	}
}

// Peers in Go, and one in Python that cannot be installed, which is reported and holds up
// none of the others.
func TestPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs servers")
	}
	var some []string
	for _, peer := range peers {
		if peer.python == nil {
			some = append(some, peer.name)
		}
	}
	got := measurePeers(t, some, target{name: "nothing", python: &python{"nowhere", "requirements.txt"}})
	for i, server := range got.Servers {
		if broken := server.Name == "nothing"; (server.Missing != "") != broken || broken && i != len(got.Servers)-1 {
			t.Errorf("%+v", server)
		}
	}
	tables := got.tables()
	if !strings.Contains(tables["peers machine"], "**Not measured, or not to its end: nothing**") {
		t.Errorf("what is not there is not reported: %s", tables["peers machine"])
	}
	for name, rows := range map[string]int{"peers": 4, "peers streams": 4, "peers growth": 2} {
		if n := strings.Count(tables[name], "\n") - 2; n != rows {
			t.Errorf("%s has %d rows, want %d:\n%s", name, n, rows, tables[name])
		}
	}
}

// Peers in Python answer as they are asked. They take minutes, most of them to be installed and
// to start, so that only BENCH_PYTHON=1 has them tested.
func TestPythonPeers(t *testing.T) {
	if os.Getenv("BENCH_PYTHON") == "" {
		t.Skip("NOT TESTED: the peers in Python; set BENCH_PYTHON=1")
	}
	var some []string
	for _, peer := range peers {
		if peer.python != nil {
			some = append(some, peer.name)
		}
	}
	for _, server := range measurePeers(t, some).Servers {
		if server.Missing != "" {
			t.Errorf("%s: %s", server.Name, server.Missing)
		}
	}
}

// prepare starts the stand-ins and the model, and compiles the programs of targets.
func prepare(t *testing.T, o Options, targets []target) (*standins, build, *server) {
	t.Helper()
	services, err := startStandins(targets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(services.close)
	built, err := compile(t.Context(), t.TempDir(), o.BuildFlags, targets)
	if err != nil {
		t.Fatal(err)
	}
	model, err := start(t.Context(), command{binary: built.path(standin.program), obeys: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.stop)
	if _, err := model.first(t.Context(), standin, false); err != nil {
		t.Fatal(err)
	}
	return services, built, model
}

// measurePeers compares peers in the shortest time, and checks that each that is not
// missing has all figures.
func measurePeers(t *testing.T, names []string, more ...target) *Peers {
	t.Helper()
	o := quick()
	o.Peers, o.Rounds, o.Duration, o.PeerStreams = names, 1, 40*time.Millisecond, 10
	targets := append(o.peers(), more...)
	services, built, model := prepare(t, o, targets)
	p, err := comparePeers(t.Context(), o, targets, built, model, services, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range targets {
		missing := slices.ContainsFunc(p.Servers, func(s Server) bool { return s.Name == c.name && s.Missing != "" })
		for scenario, figure := range map[string]string{starting: idleMemory, sequential: added, atOnce: throughput, streaming: firstP50, growing: lastTurns} {
			if scenario == growing && !c.keeps && !c.dialect.carried {
				continue
			}
			if n := len(p.values(scenario, c.name, figure)); (n == 0) != missing {
				t.Errorf("%s, %s: %d figures, missing is %v", c.name, scenario, n, missing)
			}
		}
	}
	return p
}

func TestMember(t *testing.T) {
	for _, test := range []struct{ name, data, want string }{
		{"of an object", `{"a": 1, "text": "x"}`, "x"},
		{"without a space", `{"text":"x"}`, "x"},
		{"the first of two", `{"text": "x", "b": {"text": "y"}}`, "x"},
		{"with a quote in it", `{"text": "say \"x\"\n", "b": 1}`, "say \"x\"\n"},
		{"with a backslash last", `{"text": "x\\", "b": "y"}`, `x\`},
		{"empty", `{"text": ""}`, ""},
		{"null", `{"text": null, "b": "y"}`, ""},
		{"of another name", `{"context": "x"}`, ""},
		{"that does not end", `{"text": "x`, ""},
	} {
		if got := string(member([]byte(test.data), "text")); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A server that answers something else than the model is no peer.
func TestAnswersAreChecked(t *testing.T) {
	for _, test := range []struct {
		name, body, events string
		ok                 bool
	}{
		{"the model's answer", answer.Text, answer.Text, true},
		{"a part of it", answer.Text[1:], answer.Text[1:], false},
		{"more", answer.Text + ".", answer.Text + ".", false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") == acceptStream {
				_, _ = fmt.Fprintf(w, "data: {\"text\": %q}\n\ndata: {\"text\": %q}\n\n", test.events[:9], test.events[9:])
				return
			}
			_, _ = fmt.Fprintf(w, `{"response": %q}`, test.body)
		}))
		c, err := connect(t.Context(), server.Listener.Addr().String(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.turn(); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := c.stream(limit.turn(acceptStream, conversation{}), limit.dialect, func() {}); (err == nil) != test.ok {
			t.Errorf("%s, streamed: %v", test.name, err)
		}
		c.close()
		server.Close()
	}
}

// The page's tables come from what was measured, and cannot be typed.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	want, err := document("..", string(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not what %s has (-): cd bench && go run . -docs\n%s", page, kept, diff)
	}
	r, err := read[Results]("..", kept)
	if err != nil {
		t.Fatal(err)
	}
	p := instancesPlot(r.Instances)
	if svg, err := os.ReadFile(filepath.Join("..", images, p.File)); err != nil || string(svg) != p.SVG() {
		t.Errorf("%s/%s is not drawn from %s (%v): cd bench && go run . -docs", images, p.File, kept, err)
	}
	if n := strings.Count(want, "<!-- bench "); n < 10 {
		t.Errorf("%d tables come from files", n)
	}
}

func TestCompare(t *testing.T) {
	s := scenario{name: "s", budgets: map[string]budget{throughput: atLeast(0.6), firstTurn: atMost(30)}}
	r := Results{Runs: []Run{
		{"s", "limit", "g", 1, Figures{throughput: 100, firstTurn: 10, cpu: 0}},
		{"s", "g", "", 1, Figures{throughput: 50, firstTurn: 15, cpu: 1}},
		{"s", "limit", "h", 1, Figures{throughput: 1, firstTurn: 1, cpu: 1}},
		{"s", "g", "", 2, Figures{throughput: 60, firstTurn: 25, cpu: 1}},
		{"s", "limit", "g", 2, Figures{throughput: 80, firstTurn: 11, cpu: 2}},
	}}
	r.compare([]scenario{s}, []target{limit, {name: "g", held: true}})
	yes := true
	want := []Comparison{
		{"s", "g", throughput, "ratio", 90, 55, []float64{0.5, 0.75}, 0.625, "≥ 0.6", &yes},
		{"s", "g", cpu, "ratio", 1, 1, []float64{0.5}, 0.5, "", nil},
		{"s", "g", firstTurn, "difference", 10.5, 20, []float64{5, 14}, 9.5, "≤ 30", &yes},
	}
	if diff := cmp.Diff(want, r.Comparison); diff != "" {
		t.Error(diff)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		name   string
		sorted []time.Duration
		p      int
		want   time.Duration
	}{
		{"of nothing", nil, 50, 0},
		{"of one", hundred[:1], 99, 1},
		{"the middle of three", hundred[:3], 50, 2},
		{"the 99th of a hundred", hundred, 99, 99},
		{"the largest of ten", hundred[:10], 99, 10},
	} {
		if got := percentile(test.sorted, test.p); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"nothing", nil, true},
		{"quick, two configurations", []string{"-quick", "-configs", usual + "; + logs"}, true},
		{"an unknown configuration", []string{"-configs", "another"}, false},
		{"one peer", []string{"-configs", "", "-peers", "Genkit"}, true},
		{"an unknown peer", []string{"-peers", "another"}, false},
		{"too many rounds", []string{"-rounds", "1000"}, false},
		{"quick, and only the page", []string{"-quick", "-docs"}, false},
		{"quick, and only the peers", []string{"-quick", "-install"}, false},
		{"the page and the peers", []string{"-docs", "-install"}, false},
		{"a negative latency", []string{"-latency", "-1s"}, false},
	} {
		o, err := parse(test.args)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.ok && len(o.targets()) != 1+len(o.Configs) {
			t.Errorf("%s: %d servers for %q", test.name, len(o.targets()), o.Configs)
		}
	}
}
