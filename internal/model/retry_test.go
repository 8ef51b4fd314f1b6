package model_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// A script answers the first request by its first handler, and so on; the last
// one answers all that come after.
type script struct {
	mu       sync.Mutex
	handlers []http.HandlerFunc
	at       []time.Time // of the requests
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.handlers[min(len(s.at), len(s.handlers)-1)]
	s.at = append(s.at, time.Now())
	s.mu.Unlock()
	h(w, r)
}

// waits are the times between the requests.
func (s *script) waits() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var waits []time.Duration
	for i := 1; i < len(s.at); i++ {
		waits = append(waits, s.at[i].Sub(s.at[i-1]))
	}
	return waits
}

func (s *script) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

// answer returns a body as it is; a stream's needs event.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// inBubble runs f with a fake clock and a client whose requests s answers.
func inBubble(t *testing.T, s *script, f func(t *testing.T, c *model.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: transport{s}})
		f(t, c)
	})
}

func TestWhichStatusesAreTriedAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status   int
		kind     model.Kind
		attempts int
	}{
		{http.StatusRequestTimeout, model.Unavailable, 3},
		{http.StatusTooManyRequests, model.Unavailable, 3},
		{http.StatusInternalServerError, model.Unavailable, 3},
		{http.StatusBadGateway, model.Unavailable, 3},
		{http.StatusServiceUnavailable, model.Unavailable, 3},
		{http.StatusGatewayTimeout, model.Unavailable, 3},
		{http.StatusBadRequest, model.Failed, 1},
		{http.StatusUnauthorized, model.Failed, 1},
		{http.StatusForbidden, model.Failed, 1},
		{http.StatusNotFound, model.Failed, 1},
		{http.StatusConflict, model.Failed, 1},
		{http.StatusRequestEntityTooLarge, model.Failed, 1},
		{http.StatusUnprocessableEntity, model.Failed, 1},
	}
	bodies := map[string]func(int) string{
		"the API's error":       func(status int) string { return failure(status, "no") },
		"no body":               func(int) string { return "" },
		"a proxy's page":        func(int) string { return "<html><body>Sorry</body></html>" },
		"an error without code": func(int) string { return `{"error":{"message":"no"}}` },
		"other JSON":            func(int) string { return `{"message":"no"}` },
		"an error in a list":    func(status int) string { return "[" + failure(status, "no") + "]" },
	}
	for _, tt := range tests {
		for name, body := range bodies {
			for _, form := range forms {
				t.Run(http.StatusText(tt.status)+"/"+name+"/"+form.name, func(t *testing.T) {
					t.Parallel()
					s := &script{handlers: []http.HandlerFunc{answer(tt.status, body(tt.status))}}
					inBubble(t, s, func(t *testing.T, c *model.Client) {
						a, err := generate(t.Context(), c, form.stream)
						checkFailure(t, err, tt.kind)
						if a.Attempts != tt.attempts || s.requests() != tt.attempts {
							t.Errorf("%d attempts said, %d requests made, want %d", a.Attempts, s.requests(), tt.attempts)
						}
					})
				})
			}
		}
	}
}

func TestARetryThatIsAnswered(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, failure(503, "busy")), answer(429, ""), answer(200, good("Hello."))}}
	inBubble(t, s, func(t *testing.T, c *model.Client) {
		got, err := c.Generate(t.Context(), question(), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := model.Answer{
			Asked: "gemini-2.5-flash", Model: "gemini-2.5-flash", Content: &genai.Content{Role: "model", Parts: []*genai.Part{{Text: "Hello."}}}, Finish: "STOP",
			Usage:    priced(session.Usage{PromptTokens: 7, CompletionTokens: 5, TotalTokens: 12, Source: session.Counted}),
			Attempts: 3,
		}
		want.Spent = []model.Spent{{Model: want.Model, Usage: want.Usage}} // the others never began
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
	})
}

func TestHowLongIsWaited(t *testing.T) {
	t.Parallel()
	retryInfo := func(delay string) string {
		return failure(429, "busy", `{"@type":"type.googleapis.com/google.rpc.Help"}`, `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"`+delay+`"}`)
	}
	// The bubble's clock starts at 2000-01-01 00:00:00 UTC.
	tests := []struct {
		name   string
		header string
		body   string
		asked  time.Duration
	}{
		{"nothing asked", "", "", 0},
		{"seconds", "2", "", 2 * time.Second},
		{"no seconds", "0", "", 0},
		{"seconds below zero", "-5", "", 0},
		{"a date", "Sat, 01 Jan 2000 00:00:30 GMT", "", 30 * time.Second},
		{"a date that has passed", "Fri, 31 Dec 1999 23:59:30 GMT", "", 0},
		{"the old form of a date", "Saturday, 01-Jan-00 00:00:30 GMT", "", 30 * time.Second},
		{"neither", "soon", "", 0},
		{"part of a number", "2s", "", 0},
		{"more seconds than a number holds", "99999999999999999999", "", 24 * time.Hour},
		{"more seconds than a duration holds", "9223372036854775807", "", 24 * time.Hour},
		{"RetryInfo", "", retryInfo("1.5s"), 1500 * time.Millisecond},
		{"a date without end", "Fri, 31 Dec 9999 23:59:59 GMT", "", 24 * time.Hour},
		{"a date two days away", "Mon, 03 Jan 2000 00:00:00 GMT", "", 24 * time.Hour},
		{"RetryInfo below zero", "", retryInfo("-1.5s"), 0},
		{"RetryInfo without end", "", retryInfo("2562047h47m16s"), 0},
		{"RetryInfo of more seconds than a duration holds", "", retryInfo("99999999999999s"), 24 * time.Hour},
		{"RetryInfo that is no duration", "", retryInfo("a while"), 0},
		{"RetryInfo as an object", "", failure(429, "busy", `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{"seconds":2,"nanos":500000000}}`), 2500 * time.Millisecond},
		{"RetryInfo as an object with text", "", failure(429, "busy", `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{"seconds":"2"}}`), 2 * time.Second},
		{"RetryInfo as an object below zero", "", failure(429, "busy", `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{"seconds":-2,"nanos":-1}}`), 0},
		{"RetryInfo as a list", "", failure(429, "busy", `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":[]}`), 0},
		{"the longer of both, by the header", "4", retryInfo("3s"), 4 * time.Second},
		{"the longer of both, by RetryInfo", "3", retryInfo("4s"), 4 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var header []string
			if tt.header != "" {
				header = []string{"Retry-After", tt.header}
			}
			s := &script{handlers: []http.HandlerFunc{answer(429, tt.body, header...), answer(200, good("Hello."))}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				if _, err := c.Generate(t.Context(), question(), nil); err != nil {
					t.Fatal(err)
				}
				wait := s.waits()[0]
				if wait < tt.asked || wait > tt.asked+200*time.Millisecond {
					t.Errorf("waited %v, want %v and up to 200ms of jitter", wait, tt.asked)
				}
			})
		})
	}
}

func TestMillisecondsAreWaited(t *testing.T) {
	t.Parallel()
	for value, asked := range map[string]time.Duration{"1500": 1500 * time.Millisecond, "-3": 4 * time.Second, "soon": 4 * time.Second, "": 4 * time.Second} {
		s := &script{handlers: []http.HandlerFunc{answer(429, "", "Retry-After-Ms", value, "Retry-After", "4"), answer(200, good("Hello."))}}
		inBubble(t, s, func(t *testing.T, c *model.Client) {
			if _, err := c.Generate(t.Context(), question(), nil); err != nil {
				t.Fatal(err)
			}
			if wait := s.waits()[0]; wait < asked || wait > asked+200*time.Millisecond {
				t.Errorf("%s: waited %v, want %v", value, wait, asked)
			}
		})
	}
}

func TestTheErrorSaysHowLongTheServerAskedToWait(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, failure(503, "busy"), "Retry-After", "3")}}
	inBubble(t, s, func(t *testing.T, c *model.Client) {
		_, err := c.Generate(t.Context(), question(), nil)
		if failed := checkFailure(t, err, model.Unavailable); failed.RetryAfter != 3*time.Second {
			t.Errorf("RetryAfter %v, want 3s", failed.RetryAfter)
		}
	})
}

func TestWithoutAnAskedWaitTheRetriesComeSoon(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "")}}
	inBubble(t, s, func(t *testing.T, c *model.Client) {
		begin := time.Now()
		_, err := c.Generate(t.Context(), question(), nil)
		checkFailure(t, err, model.Unavailable)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("three attempts took %v", took)
		}
	})
}

func TestADeadlineThatIsTooNearEndsTheAttempts(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "", "Retry-After", "5")}}
	inBubble(t, s, func(t *testing.T, c *model.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		begin := time.Now()
		a, err := c.Generate(ctx, question(), nil)
		failed := checkFailure(t, err, model.Unavailable)
		if a.Attempts != 1 || failed.RetryAfter != 5*time.Second || time.Since(begin) != 0 {
			t.Errorf("%d attempts, RetryAfter %v, took %v; want 1, 5s and no time", a.Attempts, failed.RetryAfter, time.Since(begin))
		}
	})
}

func TestCancellationWhileWaiting(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "", "Retry-After", "3600")}}
	inBubble(t, s, func(t *testing.T, c *model.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		a, err := c.Generate(ctx, question(), nil)
		if err == nil || a.Attempts != 1 || time.Since(begin) != time.Second {
			t.Errorf("%v after %v and %d attempts, want an error after 1s and 1", err, time.Since(begin), a.Attempts)
		}
	})
}

func TestAContextThatHasEndedIsPassedOn(t *testing.T) {
	t.Parallel()
	errGone := errors.New("the client went away")
	s := &script{handlers: []http.HandlerFunc{answer(200, good("Hello."))}}
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(errGone)
				if _, err := generate(ctx, c, form.stream); !errors.Is(err, errGone) {
					t.Errorf("error %v, want the cause", err)
				}
				ctx, timeout := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
				defer timeout()
				if _, err := generate(ctx, c, form.stream); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
				}
			})
		})
	}
}

// broken sends the beginning of a body and then breaks the connection.
func broken(status int, beginning string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, beginning)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	const secret = "what-the-model-said"
	thought := event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"` + secret + `","thought":true}]}}]}`)
	empty := event(`{"candidates":[{"content":{"role":"model","parts":[{"text":""}]}}]}`)
	tests := []struct {
		name     string
		first    http.HandlerFunc
		stream   bool
		attempts int // 2: tried again, and answered
	}{
		{"before the headers", hangUp, false, 2},
		{"before a stream's headers", hangUp, true, 2},
		{"in a body", broken(200, `{"candidates":[{"content":{"parts":[{"text":"`+secret), false, 2},
		{"before a stream's first chunk", broken(200, ""), true, 2},
		{"in a stream's first chunk", broken(200, `data: {"candidates":[{"content":{"parts":[{"te`), true, 2},
		{"after a thought", broken(200, thought), true, 2},
		{"after an empty text", broken(200, empty), true, 2},
		{"after text was passed on", broken(200, event(piece(secret))), true, 1},
		{"in the second chunk", broken(200, event(piece(secret))+`data: {"cand`), true, 1},
		{"in an error's body", broken(503, `{"error":{"message":"`+secret), false, 2},
		{"in a stream's error's body", broken(503, `{"error":{"message":"`+secret), true, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			second := good("Hello.")
			if tt.stream {
				second = event(second)
			}
			s := &script{handlers: []http.HandlerFunc{tt.first, answer(200, second)}}
			a, err := generate(t.Context(), client(t, serve(t, s.ServeHTTP), false), tt.stream)
			if s.requests() != tt.attempts || a.Attempts != tt.attempts {
				t.Errorf("%d requests, %d attempts, want %d", s.requests(), a.Attempts, tt.attempts)
			}
			if tt.attempts > 1 {
				if err != nil || a.Text() != "Hello." {
					t.Errorf("%q, %v; want the second answer alone", a.Text(), err)
				}
				return
			}
			checkFailure(t, err, model.Unavailable, secret)
		})
		t.Run(tt.name+", for good", func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{tt.first}}
			_, err := generate(t.Context(), client(t, serve(t, s.ServeHTTP), false), tt.stream)
			checkFailure(t, err, model.Unavailable, secret)
			if want := 1 + 2*(tt.attempts-1); s.requests() != want {
				t.Errorf("%d requests, want %d", s.requests(), want)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close() // the port was free, and is again
	a, err := client(t, "http://"+listener.Addr().String(), false).Generate(t.Context(), question(), nil)
	checkFailure(t, err, model.Unavailable)
	if a.Attempts != 3 {
		t.Errorf("%d attempts, want 3", a.Attempts)
	}
}

func TestErrorsInsideAStream(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		body     string
		kind     model.Kind
		attempts int
	}{
		{"unavailable, before text", event(failure(503, "busy")), model.Unavailable, 3},
		{"unavailable, after text", event(piece("Once")) + event(failure(503, "busy")), model.Unavailable, 1},
		{"refused, before text", event(failure(400, "no")), model.Failed, 1},
		{"refused, after text", event(piece("Once")) + event(failure(400, "no")), model.Failed, 1},
		{"an error without the stream's form", failure(503, "busy") + "\n\n", model.Unavailable, 3},
		{"no finish reason, before text", event(`{"usageMetadata":{"promptTokenCount":1}}`), model.Failed, 3},
		{"no finish reason, after text", event(piece("Once")), model.Failed, 1},
		{"nothing at all", "", model.Failed, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{answer(200, tt.body)}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				var texts []string
				a, err := c.Generate(t.Context(), question(), func(_, text string) error { texts = append(texts, text); return nil })
				checkFailure(t, err, tt.kind, "Once")
				if a.Attempts != tt.attempts || s.requests() != tt.attempts {
					t.Errorf("%d attempts, %d requests, want %d", a.Attempts, s.requests(), tt.attempts)
				}
				if len(texts) > 1 {
					t.Errorf("text was passed on more than once: %q", texts)
				}
			})
		})
	}
}

// The usage of a call adds up what each of its attempts has spent.
func TestTokensOfAttemptsThatFailedAreCounted(t *testing.T) {
	t.Parallel()
	spent := event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true}]}}],"usageMetadata":{"promptTokenCount":7,"thoughtsTokenCount":100,"totalTokenCount":107}}`)
	t.Run("before a retry", func(t *testing.T) {
		t.Parallel()
		s := &script{handlers: []http.HandlerFunc{answer(200, spent+event(failure(503, "busy"))), answer(200, event(good("Hello.")))}}
		inBubble(t, s, func(t *testing.T, c *model.Client) {
			a, err := c.Generate(t.Context(), question(), dropText)
			if err != nil {
				t.Fatal(err)
			}
			want := session.Usage{PromptTokens: 14, ThoughtTokens: 100, CompletionTokens: 5, TotalTokens: 119, Source: session.Estimated}
			if diff := cmp.Diff(a.Usage, priced(want)); diff != "" {
				t.Errorf("the failed attempt's tokens are missing (-got +want):\n%s", diff)
			}
		})
	})
	t.Run("beside an error", func(t *testing.T) {
		t.Parallel()
		s := &script{handlers: []http.HandlerFunc{answer(200, spent+event(failure(400, "no")))}}
		inBubble(t, s, func(t *testing.T, c *model.Client) {
			a, err := c.Generate(t.Context(), question(), dropText)
			checkFailure(t, err, model.Failed)
			want := session.Usage{PromptTokens: 7, ThoughtTokens: 100, TotalTokens: 107, Source: session.Estimated}
			if diff := cmp.Diff(a.Usage, priced(want)); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	})
}

func TestWhoTakesTheTextMayEndTheCall(t *testing.T) {
	t.Parallel()
	errFull := errors.New("the reader is gone")
	body := event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"a"},{"text":"b"}]}}],"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}}`)
	s := &script{handlers: []http.HandlerFunc{answer(200, body+event(good("c")))}}
	inBubble(t, s, func(t *testing.T, c *model.Client) {
		var texts []string
		a, err := c.Generate(t.Context(), question(), func(_, text string) error { texts = append(texts, text); return errFull })
		if !errors.Is(err, errFull) || !slices.Equal(texts, []string{"a"}) || a.Attempts != 1 || a.Usage.PromptTokens != 7 {
			t.Errorf("error %v, texts %q, %d attempts, usage %+v", err, texts, a.Attempts, a.Usage)
		}
	})
}

func TestCancellationInTheMiddleReturnsAtOnce(t *testing.T) {
	t.Parallel()
	for _, backend := range backends {
		for _, form := range forms {
			t.Run(backend.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				arrived, left := make(chan struct{}), make(chan struct{})
				url := serve(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					if form.stream {
						_, _ = io.WriteString(w, event(piece("Once upon")))
					}
					_ = http.NewResponseController(w).Flush()
					close(arrived)
					<-r.Context().Done() // the server is told, too
					close(left)
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c := client(t, url, backend.vertex)
				done := make(chan error, 1)
				go func() {
					_, err := generate(ctx, c, form.stream)
					done <- err
				}()
				<-arrived
				cancel()
				select {
				case <-left:
				case <-time.After(5 * time.Second):
					t.Fatal("the server was not told")
				}
				select {
				case err := <-done:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("error %v, want %v", err, context.Canceled)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("Generate goes on after its context has ended")
				}
			})
		}
	}
}

// The SDK asks again by itself for an answer that carries a continuation token
// and does not end: neither counted, nor waited for, nor bounded by this package,
// which is to be the one place that tries again.
func TestTheSDKDoesNotAskAgainByItself(t *testing.T) {
	t.Parallel()
	part := func(p, finish string) string {
		return `{"candidates":[{"content":{"role":"model","parts":[` + p + `]},"continuationToken":"dG9rZW4="` + finish + `}]}`
	}
	tests := []struct {
		name   string
		body   string
		stream bool
		most   int // requests
	}{
		{"a stream that goes on after text", event(part(`{"text":"Once"}`, "")), true, 1},
		{"a stream that breaks before text", event(part(`{"text":"Hm.","thought":true}`, "")), true, 3},
		{"a body", part(`{"text":"Once"}`, `,"finishReason":"CONTINUATION"`), false, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: slices.Repeat([]http.HandlerFunc{answer(200, tt.body)}, 100)}
			s.handlers = append(s.handlers, answer(500, "")) // or it would never end
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				a, err := generate(t.Context(), c, tt.stream)
				if s.requests() > tt.most || s.requests() != a.Attempts {
					t.Errorf("%d requests, %d attempts said, want at most %d (%v)", s.requests(), a.Attempts, tt.most, err)
				}
			})
		})
	}
}

// What an attempt has passed on is taken back before the next one, where it can be.
func TestAnAttemptAfterText(t *testing.T) {
	t.Parallel()
	unfinished := func(parts ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, part := range parts {
				_, _ = io.WriteString(w, event(`{"candidates":[{"content":{"role":"model","parts":[`+part+`]}}]}`))
			}
		}
	}
	const text, thought = `{"text":"one "}`, `{"text":"Hm.","thought":true}`
	for _, tt := range []struct {
		name    string
		broken  http.HandlerFunc
		restart bool // the text can be taken back
		stays   bool // but this door cannot
		want    []string
	}{
		{"that can be taken back", unfinished(text), true, false, []string{"one ", "restart", "Hello."}},
		{"that cannot", unfinished(text), false, false, []string{"one "}},
		{"that cannot at this door", unfinished(text), true, true, []string{"one "}},
		{"of thoughts alone", unfinished(thought), true, true, []string{"Hm.", "restart", "Hello."}},
		{"of thoughts, and text", unfinished(thought, text), true, true, []string{"Hm.", "one "}},
		{"of nothing", unfinished(), true, false, []string{"Hello."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{tt.broken, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, event(good("Hello."))) }}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				var got []string
				r := question()
				r.TextStays = tt.stays
				r.OnPart = func(_ string, p *genai.Part) error { got = append(got, p.Text); return nil }
				if tt.restart {
					r.Restart = func() { got = append(got, "restart") }
				}
				_, err := c.Generate(t.Context(), r, func(_, text string) error { got = append(got, text); return nil })
				if !slices.Equal(got, tt.want) || (err == nil) != (got[len(got)-1] == "Hello.") {
					t.Errorf("%q, want %q; %v", got, tt.want, err)
				}
			})
		})
	}
}
