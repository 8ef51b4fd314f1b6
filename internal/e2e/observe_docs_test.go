package e2e_test

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testagent"
)

// The project that the page's queries name.
const projectID = "PROJECT_ID"

// stored is what Cloud Logging makes of a line on a Cloud Run service's stdout
// (https://cloud.google.com/logging/docs/structured-logging).
func stored(l line) line {
	payload, e := line{}, line{
		"logName":  "projects/" + projectID + "/logs/run.googleapis.com%2Fstdout",
		"resource": map[string]any{"type": "cloud_run_revision", "labels": map[string]any{"service_name": "invoke", "project_id": projectID}},
	}
	maps.Copy(payload, l)
	for from, to := range map[string]string{
		"severity": "severity", "time": "timestamp", "httpRequest": "httpRequest",
		"logging.googleapis.com/trace": "trace", "logging.googleapis.com/spanId": "spanId", "logging.googleapis.com/trace_sampled": "traceSampled",
		"logging.googleapis.com/labels": "labels", "logging.googleapis.com/sourceLocation": "sourceLocation", "logging.googleapis.com/insertId": "insertId",
	} {
		if value, ok := payload[from]; ok {
			e[to] = value
			delete(payload, from)
		}
	}
	e["jsonPayload"] = map[string]any(payload)
	return e
}

// An evidence is what is left of the three stories of the page.
type evidence struct {
	entries []line
	spans   []span
	metrics string            // of /metrics
	values  map[string]string // what stands in the page for what differs each time
}

// tell runs the page's three stories against real processes.
func tell(t *testing.T) evidence {
	t.Helper()
	api, c := loggingtest.Start(t), telemetrytest.New(t)
	env := append(audited(api), traced(c, "GOOGLE_CLOUD_PROJECT="+projectID, "OPERATORS=key:one", "OTEL_METRICS_EXPORTER=prometheus", "BREAKER_FAILURES=3", "MAX_CONCURRENT=4")...)
	s, gemini := startGemini(t, env...)
	ann := func(id string, n int) []string {
		return as("one", append(parent(n), "X-End-User", "ann", "X-Request-ID", id)...)
	}
	ask := map[string]any{"query": "How is the deployment doing?"}
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}).WithUsage(geminitest.Usage{Prompt: 1394, Output: 12}),
		geminitest.Text("All is well.").WithUsage(geminitest.Usage{Prompt: 1530, Output: 96}).WithDelay(2100*time.Millisecond))
	s.invoke(t, ask, ann("slow-1", 1)...)
	s.invoke(t, ask, ann("quick-1", 2)...)

	wantError(t, s.do(t, http.MethodPost, "/invoke", ask, append(parent(3), "X-API-Key", "an old key", "X-Request-ID", "refused-1")...), 401, "unauthenticated")
	for a := (answer{}); a.Status != http.StatusTooManyRequests; {
		a = s.do(t, http.MethodPost, "/invoke", ask, as("slow", "X-Request-ID", "limited-1")...)
	}

	gemini.Handle(func(geminitest.Request) geminitest.Reply {
		return geminitest.Error(http.StatusServiceUnavailable, "The model is overloaded. Please try again later.")
	})
	wantError(t, s.do(t, http.MethodPost, "/invoke", ask, ann("failed-1", 4)...), 503, "model_unavailable")
	wantError(t, s.do(t, http.MethodPost, "/invoke", ask, ann("failed-2", 5)...), 503, "model_unavailable")
	e := evidence{metrics: string(s.do(t, http.MethodGet, "/metrics", nil, as("one")...).Body)}
	s.end(t, syscall.SIGTERM)

	for _, l := range linesOf(t, s.process) {
		e.entries = append(e.entries, stored(l))
	}
	for _, entry := range api.Entries() {
		text, err := protojson.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatal(err)
		}
		e.entries = append(e.entries, l)
	}
	e.spans = spansOf(c)
	principal, _ := s.summary(t, "slow-1")["principal"].(string)
	session, _ := s.summary(t, "slow-1")["session_id"].(string)
	e.values = map[string]string{"TRACE_ID": traceID(1), "REQUEST_ID": "slow-1", "PRINCIPAL": principal, "SESSION": session}
	return e
}

// A block is a fenced one of a page: its language, its text, and the heading that
// it stands under.
type block struct{ heading, language, text string }

func blocks(page string) (all []block) {
	var heading string
	var open *block
	for text := range strings.Lines(page) {
		switch {
		case open != nil && strings.TrimSpace(text) == "```":
			all, open = append(all, *open), nil
		case open != nil:
			open.text += text
		case strings.HasPrefix(text, "```"):
			open = &block{heading: heading, language: strings.TrimSpace(strings.TrimPrefix(text, "```"))}
		case strings.HasPrefix(text, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(text, "#"))
		}
	}
	return all
}

// The queries of docs/observability.md find the lines that the page shows, in what
// real processes wrote.
func TestObservabilityPage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(moduleRoot, "docs", "observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	e := tell(t)
	queries := 0
	var found []line
	for _, b := range blocks(page) {
		text := b.text
		for name, value := range e.values {
			text = strings.ReplaceAll(text, name, value)
		}
		switch b.language {
		case "logging":
			queries++
			q, err := parseQuery(text)
			if err != nil {
				t.Errorf("%s: %v:\n%s", b.heading, err, text)
				continue
			}
			found = slices.DeleteFunc(slices.Clone(e.entries), func(l line) bool { return !q(l) })
			if len(found) == 0 || len(found) == len(e.entries) {
				t.Errorf("%s: finds %d of %d entries:\n%s", b.heading, len(found), len(e.entries), text)
			}
			for _, l := range found {
				shown, _ := json.Marshal(l)
				t.Logf("%s:\n%s%s", b.heading, text, shown)
			}
		case "json":
			for shown := range strings.Lines(text) {
				var want line
				if err := json.Unmarshal([]byte(shown), &want); err != nil {
					t.Errorf("%s: %v: %s", b.heading, err, shown)
				} else if !slices.ContainsFunc(found, func(l line) bool { return alike(want, l) == nil }) {
					var why []error
					for _, l := range found {
						why = append(why, alike(want, l))
					}
					t.Errorf("%s: nothing found is like %s: %v", b.heading, shown, errors.Join(why...))
				}
			}
		case "trace":
			var names []string
			for span := range strings.Lines(text) {
				name, _, _ := strings.Cut(strings.TrimRight(span, "\n"), "  ·")
				names = append(names, strings.TrimRight(name, " "))
			}
			// The page shows an agent that exchanges currencies.
			want := strings.NewReplacer("invoke_agent rates", "invoke_agent fruit-stand", "get_exchange_rate", testagent.Status).
				Replace(strings.Join(names, "\n") + "\n")
			if !slices.ContainsFunc([]int{1, 3, 4, 5}, func(n int) bool { return tree(traceOf(e.spans, traceID(n))) == want }) {
				for n := range 5 {
					t.Logf("trace %d:\n%s", n+1, tree(traceOf(e.spans, traceID(n+1))))
				}
				t.Errorf("%s: no trace is\n%s", b.heading, want)
			}
		case "promql": // internal/promqltest checks them
		}
	}
	if queries < 6 {
		t.Errorf("the page has %d queries of the log", queries)
	}
	checkMessages(t, page)
	for _, s := range e.spans {
		t.Logf("%s %q took %v", hex.EncodeToString(s.TraceId), s.Name, time.Duration(s.EndTimeUnixNano-s.StartTimeUnixNano))
	}
	// The tables are complete.
	fields := map[string]bool{}
	for _, l := range e.entries {
		for name := range l {
			if name != "jsonPayload" && name != "logName" && name != "resource" && name != "receiveTimestamp" {
				fields[name] = true
			}
		}
		payload, _ := l["jsonPayload"].(map[string]any)
		for name := range payload {
			fields[name] = true
		}
	}
	for name := range fields {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page does not name the field %s", name)
		}
	}
	for _, s := range e.spans {
		kind, _, _ := strings.Cut(s.Name, " ")
		if !strings.Contains(page, "`"+s.Name+"`") && !strings.Contains(page, "`"+kind+" ") {
			t.Errorf("the page does not name the span %q", s.Name)
		}
	}
	for _, match := range regexp.MustCompile(`(?m)^# TYPE ((?:http|gen_ai|agent)_\w+)`).FindAllStringSubmatch(e.metrics, -1) {
		if !strings.Contains(page, "`"+match[1]+"`") {
			t.Errorf("the page does not name the metric %s", match[1])
		}
	}
}

// checkMessages checks that the lines which the page explains are written
// somewhere in the source.
func checkMessages(t *testing.T, page string) {
	t.Helper()
	source := &strings.Builder{}
	for _, dir := range []string{"internal", "invoke", "session", "health", "tool", "gate"} {
		err := filepath.WalkDir(filepath.Join(moduleRoot, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				var text []byte
				text, err = os.ReadFile(path)
				source.Write(text)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, match := range regexp.MustCompile("`([A-Z][^`]+\\.)`").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(source.String(), strconv.Quote(match[1])) {
			t.Errorf("nothing logs %q", match[1])
		}
	}
}

// volatile are values that differ each time: those shown need only be there.
var volatile = []string{"timestamp", "receiveTimestamp", "insertId", "latency", "model_ms", "store_ms", "spanId", "line", "principal", "end_user", "session_id", "request_id", "stack_trace", "trace", "cost_usd"}

// alike returns how an entry differs from a page's: that shows a part, shortened at
// "…".
func alike(shown, real any) error {
	switch shown := shown.(type) {
	case line:
		return alike(map[string]any(shown), real)
	case map[string]any:
		object, ok := real.(map[string]any)
		if l, isLine := real.(line); isLine {
			object, ok = l, true
		}
		if !ok {
			return fmt.Errorf("%v is not an object", real)
		}
		for name, value := range shown {
			is, there := object[name]
			if !there {
				return fmt.Errorf("there is no %s", name)
			}
			if slices.Contains(volatile, name) {
				continue
			}
			if err := alike(value, is); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	case string:
		text, ok := real.(string)
		if before, _, short := strings.Cut(shown, "…"); ok && short && strings.HasPrefix(text, before) {
			return nil
		}
	}
	if shown != real {
		return fmt.Errorf("%v, not %v", real, shown)
	}
	return nil
}

// A query reports whether it finds an entry.
type query func(line) bool

// parseQuery reads the part of the Logging query language that the page uses:
// comparisons by = != > >= < <= : =~ !~ of one value or (a OR b), NOT, AND, OR,
// parentheses, log_id, and lines that all must hold
// (https://cloud.google.com/logging/docs/view/logging-query-language).
func parseQuery(text string) (q query, err error) {
	p := &queryParser{}
	token := regexp.MustCompile(`\s*(--[^\n]*|"(?:[^"\\]|\\.)*"|[()]|!=|>=|<=|=~|!~|[=<>:]|[^\s()"=!<>:~]+)`)
	rest := strings.TrimRight(text, " \n")
	for rest != "" {
		match := token.FindStringSubmatchIndex(rest)
		if match == nil || match[0] != 0 {
			return nil, fmt.Errorf("cannot read %q", rest)
		}
		if word := rest[match[2]:match[3]]; !strings.HasPrefix(word, "--") {
			p.tokens = append(p.tokens, word)
		}
		rest = rest[match[1]:]
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	q = p.or()
	if p.next() != "" {
		return nil, fmt.Errorf("left over: %v", p.tokens)
	}
	return q, nil
}

type queryParser struct{ tokens []string }

func (p *queryParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *queryParser) take() string {
	word := p.next()
	if word == "" {
		panic("the query ends early")
	}
	p.tokens = p.tokens[1:]
	return word
}

func (p *queryParser) want(word string) {
	if got := p.take(); got != word {
		panic(fmt.Sprintf("%q instead of %q", got, word))
	}
}

// and has OR inside: OR binds closer than AND in this language.
func (p *queryParser) or() query {
	all := []query{}
	for p.next() != "" && p.next() != ")" {
		if len(all) > 0 && p.next() == "AND" {
			p.take()
		}
		any := []query{p.not()}
		for p.next() == "OR" {
			p.take()
			any = append(any, p.not())
		}
		all = append(all, func(l line) bool { return slices.ContainsFunc(any, func(q query) bool { return q(l) }) })
	}
	return func(l line) bool { return !slices.ContainsFunc(all, func(q query) bool { return !q(l) }) }
}

func (p *queryParser) not() query {
	switch word := p.take(); word {
	case "NOT":
		inner := p.not()
		return func(l line) bool { return !inner(l) }
	case "(":
		inner := p.or()
		p.want(")")
		return inner
	case "log_id":
		p.want("(")
		id := unquote(p.take())
		p.want(")")
		return func(l line) bool {
			_, name, _ := strings.Cut(fmt.Sprint(l["logName"]), "/logs/")
			return strings.ReplaceAll(name, "%2F", "/") == id
		}
	default:
		return p.comparison(strings.Split(word, "."))
	}
}

func (p *queryParser) comparison(path []string) query {
	operator := p.take()
	var values []string
	if p.next() == "(" {
		p.take()
		values = append(values, unquote(p.take()))
		for p.next() == "OR" {
			p.take()
			values = append(values, unquote(p.take()))
		}
		p.want(")")
	} else {
		values = []string{unquote(p.take())}
	}
	return func(l line) bool {
		is := l.at(path...)
		return slices.ContainsFunc(values, func(value string) bool { return compare(path, is, operator, value) })
	}
}

func unquote(word string) string {
	if text, err := strconv.Unquote(word); err == nil {
		return text
	}
	return word
}

var severities = []string{"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"}

// compare judges one comparison; what is not there meets none but != and !~.
func compare(path []string, is any, operator, value string) bool {
	text := fmt.Sprint(is)
	switch {
	case is == nil:
		return operator == "!=" || operator == "!~"
	case operator == ":":
		return value == "*" || strings.Contains(strings.ToLower(text), strings.ToLower(value))
	case operator == "=~" || operator == "!~":
		return regexp.MustCompile(value).MatchString(text) == (operator == "=~")
	}
	order := cmp.Compare(strings.ToLower(text), strings.ToLower(value))
	if number, ok := is.(float64); ok {
		want, err := strconv.ParseFloat(value, 64)
		if err != nil {
			panic(fmt.Sprintf("%v is a number, %q is none", path, value))
		}
		order = cmp.Compare(number, want)
	}
	if path[0] == "severity" {
		if !slices.Contains(severities, value) {
			panic("no severity: " + value)
		}
		order = cmp.Compare(slices.Index(severities, text), slices.Index(severities, value))
	}
	if duration, err := time.ParseDuration(text); err == nil && path[len(path)-1] == "latency" {
		want, err := time.ParseDuration(value)
		if err != nil {
			panic("no duration: " + value)
		}
		order = cmp.Compare(duration, want)
	}
	switch operator {
	case "=":
		return order == 0
	case "!=":
		return order != 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	}
	panic("no operator: " + operator)
}

func TestQueries(t *testing.T) {
	t.Parallel()
	entry := line{"severity": "ERROR", "logName": "projects/p/logs/run.googleapis.com%2Fstdout", "httpRequest": map[string]any{"status": 503.0, "latency": "2.5s"},
		"jsonPayload": map[string]any{"code": "model_unavailable", "turn": 3.0}}
	for text, want := range map[string]bool{
		`severity>=WARNING`: true,
		`severity>ERROR`:    false,
		`httpRequest.status>=500 httpRequest.status<600`:               true,
		"httpRequest.status=503\nhttpRequest.latency>\"3s\"":           false,
		`httpRequest.latency>"0.9s"`:                                   true,
		`jsonPayload.code=("x" OR "model_unavailable")`:                true,
		`jsonPayload.code="x" OR jsonPayload.turn=3`:                   true,
		`jsonPayload.code="x" OR jsonPayload.turn=3 AND severity=INFO`: false,
		`NOT jsonPayload.code="model_unavailable"`:                     false,
		`jsonPayload.code:*`:                                           true,
		`jsonPayload.error:*`:                                          false,
		`jsonPayload.code=~"^model_"`:                                  true,
		`jsonPayload.code!~"^model_"`:                                  false,
		`log_id("run.googleapis.com/stdout")`:                          true,
		`log_id("agent-audit")`:                                        false,
		`(severity=INFO OR severity=ERROR) jsonPayload.turn!=4`:        true,
		"-- a comment\nseverity=ERROR":                                 true,
	} {
		q, err := parseQuery(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := q(entry); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, text := range []string{`severity`, `severity=`, `(severity=ERROR`, `severity=ERROR)`, `=`, `jsonPayload.code=("x"`} {
		if _, err := parseQuery(text); err == nil {
			t.Errorf("%s is read", text)
		}
	}
}
