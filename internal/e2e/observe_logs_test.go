package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/version"
)

// wantFields checks some of a line's fields.
func (l line) wantFields(t *testing.T, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if got := l.at(strings.Split(name, "/")...); got != value {
			t.Errorf("%s is %v, want %v: %v", name, got, value, l)
		}
	}
}

// Every request has one line that sums it up, refused ones too, and its severity
// follows the status.
func TestOneLineARequest(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, keys(), "AUTH=api_key", "MAX_BODY_BYTES=2048", "GOOGLE_CLOUD_PROJECT=project-1")
	one := func(more ...string) []string { return as("one", more...) }
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		switch prompt := r.Prompt(); {
		case strings.Contains(prompt, "blocked"):
			return geminitest.Blocked("SAFETY")
		case strings.Contains(prompt, "fails"):
			return geminitest.Error(http.StatusBadRequest, "the upstream's own words")
		}
		return geminitest.Text("Well.")
	})
	ask := func(query string) map[string]any { return map[string]any{"query": query} }
	tests := []struct {
		name, method, path string
		body               any
		headers            []string
		route              string
		status             int
		code               any
		severity           string
	}{
		{"a turn", "POST", "/invoke", ask("hello"), one(), "POST /invoke", 200, nil, "INFO"},
		{"a stream", "POST", "/invoke", ask("hello"), one("Accept", "text/event-stream"), "POST /invoke", 200, nil, "INFO"},
		{"the list", "GET", "/sessions", nil, one(), "GET /sessions", 200, nil, "INFO"},
		{"no credential", "POST", "/invoke", ask("hello"), nil, "POST /invoke", 401, "unauthenticated", "WARNING"},
		{"a wrong key", "POST", "/invoke", ask("hello"), []string{"X-API-Key", "guessed"}, "POST /invoke", 401, "unauthenticated", "WARNING"},
		{"no right", "POST", "/invoke", ask("hello"), as("person", "X-End-User", "x"), "POST /invoke", 403, "permission_denied", "WARNING"},
		{"another origin", "POST", "/invoke", ask("hello"), one("Origin", "https://evil.example.com"), "", 403, "origin_not_allowed", "WARNING"},
		{"nothing there", "GET", "/nothing", nil, one(), "", 404, "not_found", "WARNING"},
		{"another method", "PUT", "/invoke", nil, one(), "", 405, "method_not_allowed", "WARNING"},
		{"no JSON", "POST", "/invoke", "nonsense", one(), "POST /invoke", 400, "malformed_request", "WARNING"},
		{"a form", "POST", "/invoke", "a=b", one("Content-Type", "application/x-www-form-urlencoded"), "POST /invoke", 415, "unsupported_media_type", "WARNING"},
		{"not acceptable", "POST", "/invoke", ask("hello"), one("Accept", "image/png"), "POST /invoke", 406, "not_acceptable", "WARNING"},
		{"too much", "POST", "/invoke", ask(strings.Repeat("x", 3000)), one(), "POST /invoke", 413, "request_too_large", "WARNING"},
		{"an empty query", "POST", "/invoke", ask(""), one(), "POST /invoke", 422, "validation_failed", "WARNING"},
		{"another's session", "GET", "/sessions/" + unknownSession, nil, one(), "GET /sessions/{id}", 404, "session_not_found", "WARNING"},
		{"a blocked prompt", "POST", "/invoke", ask("blocked"), one(), "POST /invoke", 422, "content_blocked", "WARNING"},
		{"a failing model", "POST", "/invoke", ask("fails"), one(), "POST /invoke", 502, "model_failed", "ERROR"},
		{"large headers", "GET", "/sessions", nil, one("X-Padding", strings.Repeat("x", 40<<10)), "", 431, nil, "WARNING"},
	}
	for i, test := range tests {
		id := fmt.Sprintf("line-%d", i)
		a := s.do(t, test.method, test.path, test.body, append(test.headers, "X-Request-ID", id)...)
		if a.Status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.name, a.Status, test.status, a.Body)
		}
		l := s.summary(t, id)
		l.wantFields(t, map[string]any{"httpRequest/status": float64(test.status), "httpRequest/requestMethod": test.method, "severity": test.severity, "code": test.code})
		if test.route != "" {
			l.wantFields(t, map[string]any{"route": test.route})
		}
		if latency := fmt.Sprint(l.at("httpRequest", "latency")); !regexp.MustCompile(`^\d+\.\d+s$`).MatchString(latency) {
			t.Errorf("%s: latency %q", test.name, latency)
		}
		wantContext := map[string]any{"serviceContext/service": nil, "stack_trace": nil}
		if test.status >= 500 {
			wantContext = map[string]any{"serviceContext/service": "gatehouse", "serviceContext/version": version.Version}
			if stack := fmt.Sprint(l["stack_trace"]); !strings.HasPrefix(stack, "model_failed\n\ngoroutine ") || !strings.Contains(stack, ".go:") {
				t.Errorf("%s: not a stack that Error Reporting reads: %q", test.name, stack)
			}
			if strings.Contains(fmt.Sprint(l["stack_trace"]), "/tmp/") || strings.Contains(string(a.Body), "upstream") {
				t.Errorf("%s: paths or words that are not to be shown: %v, %s", test.name, l["stack_trace"], a.Body)
			}
		}
		l.wantFields(t, wantContext)
		if test.name == "a turn" || test.name == "a stream" {
			for _, name := range []string{"principal", "session_id", "turn", "model", "attempts", "tokens", "model_ms", "store_ms"} {
				if l[name] == nil {
					t.Errorf("%s: no %s: %v", test.name, name, l)
				}
			}
		}
	}
	// Clients that go away.
	for _, stream := range []bool{false, true} {
		gemini.Forget()
		gemini.Enqueue(geminitest.Text("one", "two").SilentAfter(1))
		id := fmt.Sprint("gone-", stream)
		ctx, leave := context.WithCancel(bounded(t))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = s.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": "hello", "stream": stream}, one("X-Request-ID", id)...)
		}()
		if _, err := gemini.Await(ctx, 1); err != nil {
			t.Error(err)
		}
		leave()
		<-ended
		s.summary(t, id).wantFields(t, map[string]any{"httpRequest/status": 499.0, "severity": "WARNING", "code": "client_closed_request"})
	}
	s.end(t, syscall.SIGTERM)
	count := map[any]int{}
	for _, l := range linesOf(t, s.process) {
		if l["httpRequest"] != nil && l["request_id"] != nil {
			count[l["request_id"]]++
		}
	}
	for id, n := range count {
		if n != 1 {
			t.Errorf("request %v has %d lines", id, n)
		}
	}
}

// Content is logged only with LOG_CONTENT; credentials never are.
func TestContentInLogs(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprint("LOG_CONTENT=", on), func(t *testing.T) {
			t.Parallel()
			env := []string{keys(), "AUTH=api_key", "LOG_LEVEL=debug"}
			if on {
				env = append(env, "LOG_CONTENT=true")
			}
			s, gemini := startGemini(t, env...)
			gemini.Enqueue(geminitest.Text(response))
			id := s.invoke(t, map[string]any{"query": prompt}, as("one")...).SessionID
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "no_such_tool", Args: map[string]any{"text": response}}), geminitest.Text(response))
			s.stream(t, map[string]any{"query": prompt, "session_id": id, "stream": true}, as("one")...).wantDone(t)
			refusal := geminitest.Error(400, `Invalid value at 'contents[0]', "`+prompt+`"`) // as Google does
			gemini.Enqueue(refusal, refusal, refusal, refusal)                               // in each form of the history
			s.do(t, http.MethodPost, "/invoke", map[string]any{"query": prompt, "session_id": id}, as("one")...)
			s.do(t, http.MethodPost, "/invoke", `{"query": "`+prompt+`", "`+prompt+`": 1}`, as("one")...)
			s.do(t, http.MethodPost, "/invoke", `{"query": "`+prompt+`", `, as("one")...)
			s.do(t, http.MethodPut, "/sessions/"+id+"/turns/1/feedback", map[string]any{"score": 1, "comment": opinion}, as("one")...)
			s.do(t, http.MethodGet, "/sessions/"+id, nil, as("one")...)
			s.do(t, http.MethodPost, "/invoke", map[string]any{"query": prompt}, "Authorization", "Bearer eyJhbGciOiJub25lIn0.the-token.x")
			s.do(t, http.MethodPost, "/invoke", map[string]any{"query": prompt}, "X-API-Key", "the-guess")
			s.end(t, syscall.SIGTERM)
			text := s.stdout.String() + s.stderr.String()
			secrets := []string{"key of", "the-token", "eyJhbGci", "the-guess", apiKey, id, opinion[:20]}
			if !on {
				secrets = append(secrets, "my number", "your number", "4711-0815")
			}
			for _, secret := range secrets {
				if i := strings.Index(text, secret); i >= 0 {
					t.Errorf("a line holds %q: %s", secret, text[max(0, i-300):min(len(text), i+100)])
				}
			}
			var content []line
			for _, l := range linesOf(t, s.process) {
				if l["query"] != nil {
					content = append(content, l)
				}
			}
			switch {
			case !on && len(content) > 0:
				t.Errorf("content: %v", content)
			case on && len(content) != 2:
				t.Errorf("%d lines of content, want 2", len(content))
			case on:
				content[0].wantFields(t, map[string]any{"query": prompt, "response": response})
			}
		})
	}
}

// Nothing that a caller sends can create a separate line or field, or a line of 2 KiB.
func TestForgedLines(t *testing.T) {
	t.Parallel()
	s, _ := startGemini(t, "OTEL_TRACES_EXPORTER=none", "GOOGLE_CLOUD_PROJECT=project-1")
	const forged = `","severity":"EMERGENCY","forged":true,"x":"`
	values := map[string]string{
		"a quote":      forged,
		"a brace":      `"}` + "\t" + `{"severity":"EMERGENCY","forged":true}`,
		"64 KB":        strings.Repeat("A", 64<<10),
		"30 KB":        strings.Repeat(`"`, 30<<10),
		"backslashes":  strings.Repeat(`\`, 20<<10),
		"control":      "a\tb",
		"beyond ASCII": strings.Repeat("\u00e9\u2028\U0001F980", 900),
		"not UTF-8":    strings.Repeat("\xff\xfe", 900),
		"HTML":         strings.Repeat("<&>", 900),
	}
	for name, value := range values {
		for _, header := range []string{"User-Agent", "X-Request-ID", "traceparent", "tracestate", "X-Cloud-Trace-Context", "X-Forwarded-For", "X-Forwarded-Proto", "Referer", "X-API-Key", "Authorization", "Origin", "Accept", "Content-Type", "Idempotency-Key", "X-End-User"} {
			text := fmt.Sprintf("POST /invoke HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n%s: %s\r\nConnection: close\r\n\r\n", strings.TrimPrefix(s.URL, "http://"), header, value)
			if a := s.rawRequest(t, text); a.Status < 400 || a.Status > 499 {
				t.Errorf("%s in %s: status %d", name, header, a.Status)
			}
		}
	}
	// Broken lines within a header, which the server must refuse or unfold.
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\n" + `{"severity":"EMERGENCY","forged":true}` + "\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\r\n {\"severity\":\"EMERGENCY\",\"forged\":true}\r\nConnection: close\r\n\r\n",
		"GET /%0A%7B%22severity%22:%22EMERGENCY%22,%22forged%22:true%7D%0A HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"GET /%22,%22severity%22:%22EMERGENCY%22,%22forged%22:%22 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"GET /" + strings.Repeat("%00%22%5C", 5000) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		strings.Repeat("EVIL", 5000) + " / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
	} {
		s.rawRequest(t, text)
	}
	s.end(t, syscall.SIGTERM)
	known := map[string]bool{}
	for _, name := range []string{"time", "severity", "message", "httpRequest", "request_id", "route", "code", "error", "details", "principal", "session_id",
		"turn", "logging.googleapis.com/labels", "logging.googleapis.com/trace", "logging.googleapis.com/spanId", "logging.googleapis.com/trace_sampled",
		"logging.googleapis.com/sourceLocation", "serviceContext", "stack_trace", "level", "msg"} {
		known[name] = true
	}
	n := 0
	for text := range strings.Lines(s.stdout.String()) {
		if greeting.MatchString(strings.TrimSuffix(text, "\n")) || strings.Contains(text, `"audit":true`) {
			continue
		}
		n++
		if len(text) >= 2<<10 {
			t.Errorf("a line of %d bytes: %s", len(text), text)
		}
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Errorf("no JSON: %v: %s", err, text)
		}
		if l["severity"] == "EMERGENCY" {
			t.Errorf("forged: %s", text)
		}
		for name := range l {
			if !known[name] {
				t.Errorf("the field %q: %s", name, text)
			}
		}
		if agent := fmt.Sprint(l.at("httpRequest", "remoteIp")); agent != "127.0.0.1" && l["httpRequest"] != nil {
			t.Errorf("the client's address is %q: %s", agent, text)
		}
	}
	if n < len(values)*15 {
		t.Errorf("%d lines for more than %d requests", n, len(values)*15)
	}
}

// The client's address is the one that Cloud Run's front end adds at the end of
// X-Forwarded-For, not what the client wrote before it.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	env, _ := deployment(t)
	s := startDeployed(t, "invoke", env...)
	for i, test := range []struct {
		headers []string
		want    string
	}{
		{nil, "127.0.0.1"},
		{[]string{"203.0.113.7"}, "203.0.113.7"},
		{[]string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{[]string{"198.51.100.1", "198.51.100.2, 203.0.113.7"}, "203.0.113.7"},
		{[]string{"203.0.113.7, 2001:db8::7"}, "2001:db8::7"},
		{[]string{`203.0.113.7, ","severity":"EMERGENCY`}, "127.0.0.1"},
		{[]string{strings.Repeat("203.0.113.7, ", 1000) + "evil"}, "127.0.0.1"},
	} {
		id := fmt.Sprintf("from-%d", i)
		headers := []string{"X-Request-ID", id}
		for _, value := range test.headers {
			headers = append(headers, "X-Forwarded-For", value)
		}
		s.do(t, http.MethodGet, "/", nil, headers...)
		s.summary(t, id).wantFields(t, map[string]any{"httpRequest/remoteIp": test.want})
	}
}

// What ends after the status was sent is logged as what it was: a stream that
// breaks off is no success, and neither is one that takes too long.
func TestLinesOfBrokenStreams(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "REQUEST_TIMEOUT=1s")
	for id, test := range map[string]struct {
		reply  geminitest.Reply
		stream bool
		status float64
		code   string
	}{
		"a stream cut":      {geminitest.Text("one", "two").CutAfter(1), true, 503, "model_unavailable"},
		"a stream, silent":  {geminitest.Text("one", "two").SilentAfter(1), true, 504, "timeout"},
		"an answer, silent": {geminitest.Silence(), false, 504, "timeout"},
	} {
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return test.reply }) // to each attempt
		id = strings.NewReplacer(" ", "-", ",", "").Replace(id)
		a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello", "stream": test.stream}, "X-Request-ID", id)
		if sent := a.Status == http.StatusOK; sent != test.stream {
			t.Errorf("%s: status %d", id, a.Status)
		}
		l := s.summary(t, id)
		l.wantFields(t, map[string]any{"httpRequest/status": test.status, "code": test.code, "severity": "ERROR", "serviceContext/service": "gatehouse"})
		if l["stack_trace"] == nil {
			t.Errorf("%s: no stack: %v", id, l)
		}
	}
}
