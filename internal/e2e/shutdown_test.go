package e2e_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry/telemetrytest"
)

// A parting is a process that is told to end, and all that it depends on.
type parting struct {
	*service
	headers   []string // of who calls
	gemini    *geminitest.Server
	log       *loggingtest.Server
	collector *telemetrytest.Collector
	store     *link
}

// partings are the programs that are told to end.
var partings = []struct {
	name  string
	start func(t *testing.T) *parting
}{
	{"cmd/local", func(t *testing.T) *parting {
		p := &parting{gemini: geminitest.Start(t), store: newLink(t, emulatorHost(t))}
		p.service = startLocal(t, append(p.watched(t, firestore(p.store.Addr)),
			"GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+p.gemini.URL)...)
		return p
	}},
	{"the deployed program", func(t *testing.T) *parting {
		p := &parting{store: newLink(t, emulatorHost(t)), headers: []string{"Authorization", bearer(t, "ann", nil)}}
		var env []string
		env, p.gemini = deployment(t)
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "FIRESTORE_EMULATOR_HOST=") })
		p.service = startDeployed(t, "invoke", p.watched(t, append(env, "FIRESTORE_EMULATOR_HOST="+p.store.Addr))...)
		return p
	}},
}

// watched adds to env where the audit and telemetry go.
func (p *parting) watched(t *testing.T, env []string) []string {
	p.log, p.collector = loggingtest.Start(t), telemetrytest.New(t)
	return append(env, "LOGGING_ENDPOINT="+p.log.Addr, "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+p.collector.HTTP)
}

// audited returns the outcomes of the audit by request, from all places.
func (p *parting) audited() map[string]string {
	outcomes := map[string]string{}
	for _, e := range p.log.Entries() {
		fields := e.Payload.(*loggingpb.LogEntry_JsonPayload).JsonPayload.AsMap()
		id, _ := fields["request_id"].(string)
		outcomes[id], _ = fields["outcome"].(string)
	}
	for line := range strings.Lines(p.stdout.String()) {
		if strings.Contains(line, `"audit":true`) {
			outcomes[field(line, "request_id")] = field(line, "outcome")
		}
	}
	return outcomes
}

// field is the value of a field of text in a line of JSON.
func field(line, name string) string {
	match := regexp.MustCompile(`"` + name + `":"([^"]*)"`).FindStringSubmatch(line)
	if match == nil {
		return ""
	}
	return match[1]
}

// TestSIGTERM sends SIGTERM to programs with turns in flight, with everything in order
// and with each dependency hung.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	hangs := []struct {
		name string
		hang func(p *parting)
	}{
		{"all in order", func(*parting) {}},
		{"the Logging API hangs", func(p *parting) { p.log.Hold() }},
		{"the collector hangs", func(p *parting) { p.collector.SetMode(telemetrytest.Hang) }},
		{"Firestore hangs", func(p *parting) { p.store.hold() }},
	}
	for _, program := range partings {
		for _, hung := range hangs {
			t.Run(program.name+", "+hung.name, func(t *testing.T) {
				t.Parallel()
				p := program.start(t)
				p.part(t, func() { hung.hang(p) }, hung.name == "Firestore hangs", hung.name == "the collector hangs")
			})
		}
	}
}

// part starts turns of every kind, makes a dependency hang, and sends SIGTERM.
func (p *parting) part(t *testing.T, hang func(), storeHangs, collectorHangs bool) {
	ctx := bounded(t)
	soon, late := make(chan struct{}), make(chan struct{}) // in which turns are let go on
	calls := []struct {
		name          string
		reply         geminitest.Reply
		stream, keyed bool
		finishes      bool
	}{
		{"soon done", geminitest.Text("one ", "two").WithGate(0, soon), false, false, true},
		{"soon done, in a stream", geminitest.Text("one ", "two").WithGate(1, soon), true, false, true},
		{"late", geminitest.Text("one ", "two").WithGate(0, late), false, false, true},
		{"late, in a stream", geminitest.Text("one ", "two").WithGate(1, late), true, false, true},
		{"never done", geminitest.Silence(), false, false, false},
		{"never done, with a key", geminitest.Silence(), false, true, false},
		{"never done, in a stream", geminitest.Text("one ", "two").SilentAfter(1), true, false, false},
		{"never done, in a stream with a key", geminitest.Text("one ", "two").SilentAfter(1), true, true, false},
		{"never a first word of a stream", geminitest.Silence(), true, false, false},
	}
	p.gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		for _, call := range calls {
			if r.Prompt() == call.name {
				return call.reply
			}
		}
		return geminitest.Text("Ready.")
	})
	p.invoke(t, map[string]any{"query": "Ready?"}, p.headers...)
	p.gemini.Forget()

	answers, spent := make([]answer, len(calls)), make([]time.Time, len(calls))
	id := func(i int) string { return fmt.Sprint("in-flight-", i) }
	var inFlight sync.WaitGroup
	for i, call := range calls {
		headers := append(slices.Clone(p.headers), "X-Request-ID", id(i))
		if call.keyed {
			headers = append(headers, "Idempotency-Key", call.name)
		}
		inFlight.Go(func() {
			var err error
			answers[i], err = p.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": call.name, "stream": call.stream}, headers...)
			spent[i] = time.Now()
			if err != nil {
				t.Errorf("%s: no answer: %v", call.name, err)
			}
		})
	}
	if _, err := p.gemini.Await(ctx, len(calls)); err != nil {
		t.Fatal(err)
	}
	hang()
	told := time.Now()
	signal := func() {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	signal()
	for { // what comes before the signal has come through is answered
		if a := p.do(t, http.MethodGet, "/", nil, "Accept", "application/json"); a.Status != http.StatusOK {
			wantError(t, a, http.StatusServiceUnavailable, "shutting_down")
			break
		}
	}
	signal() // changes nothing
	begin := time.Now()
	for _, headers := range [][]string{{}, {"Accept", "text/event-stream"}, {"Idempotency-Key", "new"}} {
		wantError(t, p.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Too late?"}, append(headers, p.headers...)...), http.StatusServiceUnavailable, "shutting_down")
	}
	t.Logf("a new request is refused in %v", (time.Since(begin) / 3).Round(10*time.Microsecond))
	if err := rest(ctx, time.Until(told.Add(time.Second))); err != nil {
		t.Fatal(err)
	}
	close(soon)
	signal()
	if err := rest(ctx, time.Until(told.Add(6*time.Second))); err != nil {
		t.Fatal(err)
	}
	close(late)
	inFlight.Wait()
	code := p.wait(t)
	took := time.Since(told)
	if code != 0 || took >= 10*time.Second {
		t.Errorf("exit code %d after %v, want 0 before 10 s", code, took)
	}
	t.Logf("ended in %v", took.Round(time.Millisecond))

	for i, call := range calls {
		if answers[i].Status == 0 {
			continue // said already
		}
		o, err := outcomeOf(answers[i])
		switch {
		case err != nil:
			t.Errorf("%s: %v", call.name, err)
		case call.finishes && o.turn == nil:
			t.Errorf("%s: %s after %v", call.name, o.code, spent[i].Sub(told))
		case call.finishes:
			if saved := !slices.Contains(o.turn.Warnings, "session_not_saved"); saved == storeHangs || o.turn.Response != "one two" {
				t.Errorf("%s: %+v", call.name, o.turn)
			}
		case o.code != "shutting_down":
			t.Errorf("%s: %+v after %v", call.name, o, spent[i].Sub(told))
		case spent[i].Sub(told) < 7900*time.Millisecond:
			t.Errorf("%s: cut short after %v", call.name, spent[i].Sub(told))
		case strings.HasSuffix(call.name, "in a stream"):
			streamOf(t, answers[i]).wantFailure(t, []string{"shutting_down"})
		case !call.stream:
			wantError(t, answers[i], http.StatusServiceUnavailable, "shutting_down")
		}
	}
	outcomes := p.audited()
	for i, call := range calls {
		want := "shutting_down"
		if call.finishes {
			want = "ok"
		}
		if got := outcomes[id(i)]; got != want {
			t.Errorf("%s: outcome in the audit: %q, want %q", call.name, got, want)
		}
	}
	if collectorHangs {
		return
	}
	ended := 0
	for _, span := range p.collector.Spans() {
		if span.Kind == tracepb.Span_SPAN_KIND_SERVER && strings.HasSuffix(span.Name, "/invoke") {
			ended++
		}
	}
	if want := 1 + len(calls) + 3; ended < want {
		t.Errorf("%d spans of requests were exported, want %d", ended, want)
	}
	if len(p.collector.Metrics()) == 0 {
		t.Error("no metrics were exported")
	}
}

// TestSIGTERMWithNothingToDo ends at once, also before the first request.
func TestSIGTERMWithNothingToDo(t *testing.T) {
	t.Parallel()
	for _, program := range partings {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, used before: %v", program.name, used), func(t *testing.T) {
				t.Parallel()
				p := program.start(t)
				if used {
					p.invoke(t, map[string]any{"query": "hello"}, p.headers...)
				}
				told := time.Now()
				if code := p.end(t, syscall.SIGTERM); code != 0 {
					t.Errorf("exit code %d", code)
				}
				if took := time.Since(told); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}
