package e2e_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/gcp/emulator"
	gcpfirestore "example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// keyed are the headers of a call with an idempotency key, and more.
func keyed(key string, more ...string) []string {
	return append([]string{"Idempotency-Key", key}, more...)
}

// events asks for an event stream.
var events = []string{"Accept", "text/event-stream"}

// wantFirst checks a turn that was worked on for this very call.
func wantFirst(t *testing.T, a answer) turn {
	t.Helper()
	if got := a.Header.Values("Idempotency-Replayed"); got != nil {
		t.Errorf("Idempotency-Replayed of a first call: %q", got)
	}
	return wantTurn(t, a)
}

// wantReplay checks an answer that repeats an earlier one.
func wantReplay(t *testing.T, a answer, first turn) {
	t.Helper()
	if got := a.Header.Values("Idempotency-Replayed"); !slices.Equal(got, []string{"true"}) {
		t.Errorf("Idempotency-Replayed of a retry: %q", got)
	}
	if diff := cmp.Diff(wantTurn(t, a), first.stored()); diff != "" {
		t.Errorf("a retry's answer (-got +want): %s", diff)
	}
}

// wantStreamReplay checks a stream that repeats an earlier answer.
func wantStreamReplay(t *testing.T, a answer, first turn) {
	t.Helper()
	if got := a.Header.Values("Idempotency-Replayed"); !slices.Equal(got, []string{"true"}) {
		t.Errorf("Idempotency-Replayed of a stream's retry: %q", got)
	}
	list, got := streamOf(t, a).wantDone(t)
	want := []string{"start"}
	for range first.ToolCalls {
		want = append(want, "tool_call", "tool_result")
	}
	if kinds := compact(list); !slices.Equal(kinds, append(want, "delta", "done")) {
		t.Errorf("events of a replay: %v", kinds)
	}
	if diff := cmp.Diff(got, first.stored()); diff != "" {
		t.Errorf("a stream's retry (-got +want): %s", diff)
	}
}

// retryAfter reads the header in seconds, which must be within 1 and most.
func retryAfter(t *testing.T, a answer, most int) time.Duration {
	t.Helper()
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > most {
		t.Fatalf("Retry-After %q, want 1 to %d", a.Header.Get("Retry-After"), most)
	}
	return time.Duration(seconds) * time.Second
}

// wantInProgress checks the answer to a retry that came too early.
func wantInProgress(t *testing.T, a answer, most int) {
	t.Helper()
	wantError(t, a, http.StatusConflict, "idempotency_in_progress")
	retryAfter(t, a, most)
}

// rest waits as a Retry-After asks for.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eachReadyStore is eachStore with stores that have taken a first turn: an
// emulator that has just started takes its time for that.
func eachReadyStore(t *testing.T, test func(t *testing.T, s *service, gemini *geminitest.Server), env ...string) {
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		makeReady(t, s, gemini)
		test(t, s, gemini)
	}, append([]string{"RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000"}, env...)...)
}

func makeReady(t *testing.T, s *service, gemini *geminitest.Server) {
	t.Helper()
	if _, err := s.insist(bounded(t), map[string]any{"query": "Ready?"}, keyed("ready", "X-End-User", "nobody-else")...); err != nil {
		t.Fatal(err)
	}
	gemini.Forget()
}

// background sends a call whose answer is awaited later.
func (s *service) background(ctx context.Context, t *testing.T, body any, headers ...string) <-chan answer {
	ended := make(chan answer, 1)
	go func() {
		defer close(ended)
		a, err := s.try(ctx, http.MethodPost, "/invoke", body, headers...)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		ended <- a
	}()
	return ended
}

func TestRetriesReplay(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, named := range []bool{false, true} {
			for _, stream := range []bool{false, true} {
				name := fmt.Sprintf("named %v, stream %v", named, stream)
				body := map[string]any{"query": name, "temperature": 0.25}
				if named {
					body["session_id"] = s.invoke(t, map[string]any{"query": "Begin."}).SessionID
				}
				gemini.Forget()
				gemini.Enqueue(
					geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}),
					geminitest.Text("One, ", "two — ", "\U0001f980.\n").WithUsage(geminitest.Usage{Prompt: 31, Cached: 7, Thoughts: 3, Output: 11}),
				)
				key := keyed(name)
				var first turn
				if stream {
					a := s.do(t, http.MethodPost, "/invoke", body, keyed(name, events...)...)
					if got := a.Header.Get("Idempotency-Replayed"); got != "" {
						t.Errorf("%s: Idempotency-Replayed of a first call: %q", name, got)
					}
					_, first = streamOf(t, a).wantDone(t)
				} else {
					first = wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, key...))
				}
				if len(first.ToolCalls) != 1 || first.Response == "" {
					t.Errorf("%s: first turn: %+v", name, first)
				}
				for range 2 {
					wantReplay(t, s.do(t, http.MethodPost, "/invoke", body, key...), first)
					wantStreamReplay(t, s.do(t, http.MethodPost, "/invoke", body, keyed(name, events...)...), first)
				}
				wantReplay(t, s.do(t, http.MethodPost, "/", body, key...), first)
				if n := len(gemini.Requests()); n != 2 {
					t.Errorf("%s: the model was asked %d times, want 2", name, n)
				}
				page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+first.SessionID, nil))
				if page.Session.Turns != first.Turn || len(page.Turns) != first.Turn || page.Turns[first.Turn-1].Response != first.Response {
					t.Errorf("%s: stored %+v, answered %+v", name, page, first)
				}
			}
		}
	})
}

// A replay is the answer as it was, warnings and an ending before its time too.
func TestReplaysKeepWarnings(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		gemini.Enqueue(geminitest.Finish("MAX_TOKENS", "Cut off"), geminitest.Finish("MAX_TOKENS", ""), geminitest.Finish("MAX_TOKENS", "Asked again"))
		for _, query := range []string{"cut", "nothing but thoughts at first"} {
			body := map[string]any{"query": query}
			first := wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, keyed(query)...))
			if first.FinishReason != "MAX_TOKENS" || !slices.Contains(first.Warnings, "response_truncated") {
				t.Errorf("%s: %+v", query, first)
			}
			wantReplay(t, s.do(t, http.MethodPost, "/invoke", body, keyed(query)...), first)
			if first.Response == "" {
				t.Errorf("%s: an empty success", query)
			}
			wantStreamReplay(t, s.do(t, http.MethodPost, "/invoke", body, keyed(query, events...)...), first)
		}
	})
}

func TestKeyInProgress(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, named := range []bool{false, true} {
			for _, stream := range []bool{false, true} {
				name := fmt.Sprintf("named %v, stream %v", named, stream)
				body := map[string]any{"query": "How?", "stream": stream}
				other := map[string]any{"query": "Why?", "stream": stream}
				if named {
					body["session_id"] = s.invoke(t, map[string]any{"query": "Begin."}).SessionID
					other["session_id"] = body["session_id"]
				}
				gemini.Forget()
				gate := make(chan struct{})
				gemini.Enqueue(geminitest.Text("So", ".").WithGate(0, gate))
				ctx := bounded(t)
				ended := s.background(ctx, t, body, keyed(name)...)
				if _, err := gemini.Await(ctx, 1); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					wantInProgress(t, s.do(t, http.MethodPost, "/invoke", body, keyed(name)...), 35)
					wantInProgress(t, s.do(t, http.MethodPost, "/invoke", body, keyed(name, events...)...), 35)
					wantError(t, s.do(t, http.MethodPost, "/invoke", other, keyed(name)...), http.StatusUnprocessableEntity, "idempotency_mismatch")
				}
				close(gate)
				if a := <-ended; a.Status != http.StatusOK || a.Header.Get("Idempotency-Replayed") != "" {
					t.Errorf("%s: the first call: status %d, %v: %s", name, a.Status, a.Header, a.Body)
				}
				a := s.do(t, http.MethodPost, "/invoke", body, keyed(name, "Accept", "application/json")...)
				if stream {
					wantStreamReplay(t, s.do(t, http.MethodPost, "/invoke", body, keyed(name, events...)...), doneOf(t, a))
				} else {
					wantReplay(t, a, wantTurn(t, a))
				}
				for field, value := range map[string]any{"query": "Why?", "temperature": 1, "max_tokens": 100, "after_turn": 0} {
					changed := map[string]any{}
					for name, value := range body {
						changed[name] = value
					}
					changed[field] = value
					wantError(t, s.do(t, http.MethodPost, "/invoke", changed, keyed(name)...), http.StatusUnprocessableEntity, "idempotency_mismatch")
				}
				if n := len(gemini.Requests()); n != 1 {
					t.Errorf("%s: the model was asked %d times, want once", name, n)
				}
			}
		}
	})
}

// doneOf is the turn in the event done of a stream that was read whole.
func doneOf(t *testing.T, a answer) turn {
	t.Helper()
	outcome, err := outcomeOf(a)
	if err != nil || outcome.turn == nil {
		t.Fatalf("not a stream that ended well: %v: %s", err, a.Body)
	}
	return *outcome.turn
}

func TestOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		id := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
		for _, named := range []bool{false, true} {
			gemini.Forget()
			body := map[string]any{"query": "All at once"}
			before := 0
			if named {
				body["session_id"], before = id, 1
			}
			key := keyed(fmt.Sprintf("at once, named %v", named))
			ctx := bounded(t)
			answers := make([]answer, 8)
			var wait sync.WaitGroup
			for i := range answers {
				wait.Go(func() {
					var err error
					if answers[i], err = s.try(ctx, http.MethodPost, "/invoke", body, key...); err != nil {
						t.Error(err)
					}
				})
			}
			wait.Wait()
			last := s.do(t, http.MethodPost, "/invoke", body, key...)
			want := wantTurn(t, last)
			wantReplay(t, last, want)
			first := 0
			for _, a := range answers {
				switch {
				case a.Status == http.StatusConflict:
					wantInProgress(t, a, 35)
				case a.Header.Get("Idempotency-Replayed") != "":
					wantReplay(t, a, want)
				default:
					first++
					if diff := cmp.Diff(wantTurn(t, a).stored(), want); diff != "" {
						t.Errorf("the first answer and its replay: %s", diff)
					}
				}
			}
			if n := len(gemini.Requests()); first != 1 || n != 1 {
				t.Errorf("%d calls were the first, the model was asked %d times", first, n)
			}
			if n := turnsOf(t, s, want.SessionID); n != before+1 {
				t.Errorf("%d turns, want %d", n, before+1)
			}
		}
	})
}

func TestFailedCallsReleaseTheirKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		reply  geminitest.Reply
		stream bool
		status int
		codes  []string
	}{
		{"the model refuses our request", geminitest.Error(http.StatusBadRequest, upstreamText), false, http.StatusBadGateway, []string{"model_failed"}},
		{"the model refuses our request for a stream", geminitest.Error(http.StatusBadRequest, upstreamText), true, http.StatusBadGateway, []string{"model_failed"}},
		{"the prompt is blocked", geminitest.Blocked("SAFETY"), false, http.StatusUnprocessableEntity, []string{"content_blocked"}},
		{"the time is up", geminitest.Silence(), false, http.StatusGatewayTimeout, []string{"timeout"}},
		{"a stream breaks off", geminitest.Text("one", "two").CutAfter(1), true, 0, []string{"model_failed", "model_unavailable"}},
		{"a stream falls silent", geminitest.Text("one", "two").SilentAfter(1), true, 0, []string{"timeout"}},
	}
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, named := range []bool{false, true} {
			for i, test := range tests {
				if slices.Contains(test.codes, "timeout") && named == (i%2 == 0) {
					continue // one of them each way is enough to wait for
				}
				name := fmt.Sprintf("%s, named %v", test.name, named)
				body := map[string]any{"query": name, "stream": test.stream}
				want := 1
				if named {
					body["session_id"], want = s.invoke(t, map[string]any{"query": "Begin."}).SessionID, 2
				}
				gemini.Forget()
				gemini.Handle(func(geminitest.Request) geminitest.Reply { return test.reply }) // to each attempt
				if test.stream {                                                               // admitted, so that it fails with an event
					s.stream(t, body, keyed(name, events...)...).wantFailure(t, test.codes)
				} else {
					wantError(t, s.do(t, http.MethodPost, "/invoke", body, keyed(name)...), test.status, test.codes[0])
				}
				gemini.Handle(nil)
				asked := len(gemini.Requests())
				a := s.do(t, http.MethodPost, "/invoke", body, keyed(name)...)
				if a.Header.Get("Idempotency-Replayed") != "" {
					t.Errorf("%s: a failure was replayed", name)
				}
				outcome, err := outcomeOf(a)
				if err != nil || outcome.turn == nil || outcome.turn.Turn != want {
					t.Errorf("%s: the retry, want turn %d: %v, status %d: %s", name, want, err, a.Status, a.Body)
					continue
				}
				if n := len(gemini.Requests()); n != asked+1 {
					t.Errorf("%s: the retry asked the model %d times, want once", name, n-asked)
				}
				if n := turnsOf(t, s, outcome.turn.SessionID); n != want {
					t.Errorf("%s: %d turns, want %d", name, n, want)
				}
			}
		}
	}, "REQUEST_TIMEOUT=2s")
}

func TestClientGoneReleasesItsKey(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, stream := range []bool{false, true} {
			for _, named := range []bool{false, true} {
				name := fmt.Sprintf("gone, stream %v, named %v", stream, named)
				body := map[string]any{"query": name, "on_disconnect": "cancel"}
				want := 1
				if named {
					body["session_id"], want = s.invoke(t, map[string]any{"query": "Begin."}).SessionID, 2
				}
				gemini.Forget()
				gemini.Enqueue(geminitest.Text("one", "two").SilentAfter(1))
				ctx, leave := context.WithCancel(bounded(t))
				if stream {
					begun := s.stream(t, body, keyed(name, events...)...)
					begun.until(t, "delta")
					_ = begun.body.Close()
				} else {
					ended := s.background(ctx, t, body, keyed(name)...)
					if _, err := gemini.Await(ctx, 1); err != nil {
						t.Fatal(err)
					}
					leave()
					<-ended
				}
				if _, err := gemini.AwaitCancelled(bounded(t), 0); err != nil {
					t.Fatal(err)
				}
				// The key is given back right after; until then the call is in progress.
				poll := time.NewTicker(50 * time.Millisecond)
				begin := time.Now()
				a := s.do(t, http.MethodPost, "/invoke", body, keyed(name)...)
				for a.Status == http.StatusConflict && time.Since(begin) < 10*time.Second {
					wantInProgress(t, a, 35)
					<-poll.C
					a = s.do(t, http.MethodPost, "/invoke", body, keyed(name)...)
				}
				poll.Stop()
				leave()
				if got := wantFirst(t, a); got.Turn != want || turnsOf(t, s, got.SessionID) != want {
					t.Errorf("%s: %+v", name, got)
				}
			}
		}
	})
}

// Retries at the moment when a failed call releases its key find it held or free, and
// nothing else.
func TestRetriesWhileAKeyIsGivenBack(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		id := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
		for round := range 16 {
			body := map[string]any{"query": "hello"}
			if round%4 == 3 {
				body["session_id"] = id
			}
			key := keyed(fmt.Sprintf("key %d", round))
			gemini.Forget()
			gate := make(chan struct{})
			gemini.Enqueue(geminitest.Error(http.StatusBadRequest, upstreamText).WithGate(0, gate))
			ctx := bounded(t)
			ended := s.background(ctx, t, body, key...)
			if _, err := gemini.Await(ctx, 1); err != nil {
				t.Fatal(err)
			}
			outcomes := make([]outcome, 4)
			var wait sync.WaitGroup
			for i := range outcomes {
				wait.Go(func() {
					poll := time.NewTicker(3 * time.Millisecond)
					defer poll.Stop()
					for {
						a, err := s.try(ctx, http.MethodPost, "/invoke", body, key...)
						if err == nil {
							outcomes[i], err = outcomeOf(a)
						}
						if err != nil {
							t.Error(err)
							return
						}
						if outcomes[i].code != "idempotency_in_progress" {
							return
						}
						<-poll.C
					}
				})
			}
			close(gate)
			wait.Wait()
			wantError(t, <-ended, http.StatusBadGateway, "model_failed")
			first := 0
			for _, o := range outcomes {
				switch {
				case o.turn == nil:
					t.Errorf("round %d: a retry was answered %s", round, o.code)
				case !o.replayed:
					first++
				}
			}
			if n := len(gemini.Requests()); first != 1 || n != 2 {
				t.Errorf("round %d: %d retries were the first, the model was asked %d times", round, first, n)
			}
		}
	})
}

func TestRefusedCallsDoNotTakeTheKey(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		id := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
		asked := len(gemini.Requests())
		tests := []struct {
			name    string
			body    any
			headers []string
			status  int
			code    string
		}{
			{"no query", map[string]any{"query": ""}, nil, http.StatusUnprocessableEntity, "validation_failed"},
			{"an unknown field", map[string]any{"query": "hello", "model": "x"}, nil, http.StatusUnprocessableEntity, "validation_failed"},
			{"not JSON", "hello", nil, http.StatusBadRequest, "malformed_request"},
			{"not declared as JSON", map[string]any{"query": "hello"}, []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
			{"no such form", map[string]any{"query": "hello"}, []string{"Accept", "image/png"}, http.StatusNotAcceptable, "not_acceptable"},
			{"too large", strings.Repeat(" ", 131072+1), nil, http.StatusRequestEntityTooLarge, "request_too_large"},
			{"a new session that has turns", map[string]any{"query": "hello", "after_turn": 1}, nil, http.StatusConflict, "session_conflict"},
			{"an unknown session", map[string]any{"query": "hello", "session_id": unknownSession}, nil, http.StatusNotFound, "session_not_found"},
			{"a turn too far", map[string]any{"query": "hello", "session_id": id, "after_turn": 5}, nil, http.StatusConflict, "session_conflict"},
		}
		for _, test := range tests {
			for _, again := range []string{"first", "second"} {
				a := s.do(t, http.MethodPost, "/invoke", test.body, keyed("one key", test.headers...)...)
				if e := wantError(t, a, test.status, test.code); e.Error != nil && *e.Error != test.code {
					t.Errorf("%s, %s time", test.name, again)
				}
			}
		}
		if n := len(gemini.Requests()); n != asked {
			t.Errorf("the model was asked %d times", n-asked)
		}
		if got := ids(list(t, s, "").Sessions); !slices.Equal(got, []string{id}) {
			t.Errorf("sessions: %v", got)
		}
		wantFirst(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Now.", "session_id": id}, keyed("one key")...))
		wantFirst(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Now."}, keyed("one key")...))
	})
}

func TestKeyValues(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		const text = `{"query":"hello"}`
		for name, headers := range map[string][]string{
			"empty":            {"Idempotency-Key", ""},
			"white space":      {"Idempotency-Key", "   "},
			"256 characters":   keyed(strings.Repeat("k", 256)),
			"10 KB":            keyed(strings.Repeat("k", 10<<10)),
			"a letter beyond":  keyed("schlüssel"),
			"invalid UTF-8":    keyed("key\xff"),
			"a tab":            keyed("a\tb"),
			"two":              {"Idempotency-Key", "one", "Idempotency-Key", "two"},
			"the same twice":   {"Idempotency-Key", "one", "Idempotency-Key", "one"},
			"one and an empty": {"Idempotency-Key", "one", "Idempotency-Key", ""},
			"for a stream":     keyed("a\tb", events...),
		} {
			a := s.do(t, http.MethodPost, "/invoke", text, headers...)
			if e := wantError(t, a, http.StatusBadRequest, "malformed_request"); e.Error == nil {
				t.Errorf("key: %s", name)
			}
		}
		// Other control characters the server may refuse in its own words.
		for _, control := range []string{"\x00", "\x01", "\x1b", "\x7f", "\x0b"} {
			a := s.rawRequest(t, "POST /invoke HTTP/1.1\r\nHost: "+strings.TrimPrefix(s.URL, "http://")+"\r\nContent-Type: application/json\r\n"+
				"Idempotency-Key: a"+control+"b\r\nContent-Length: "+strconv.Itoa(len(text))+"\r\n\r\n"+text)
			if a.Status != http.StatusBadRequest {
				t.Errorf("a key with %q: status %d: %s", control, a.Status, a.Body)
			}
		}
		if n := len(gemini.Requests()); n != 0 {
			t.Errorf("the model was asked %d times", n)
		}
		var good []string
		for _, key := range []string{"k", strings.Repeat("k", 255), strings.Repeat("k", 254), "K", `~ !"#$%&'()*+,-./:;<=>?@[\]^_{|}` + "`", "../../x", "a b", "8e03978e-40d5-43dd-bc93-6894a57f9324"} {
			first := wantFirst(t, s.do(t, http.MethodPost, "/invoke", text, keyed(key)...))
			wantReplay(t, s.do(t, http.MethodPost, "/invoke", text, keyed(key)...), first)
			good = append(good, first.SessionID)
		}
		slices.Sort(good)
		if got := slices.Compact(slices.Clone(good)); len(got) != len(good) {
			t.Errorf("keys share sessions: %v", good)
		}
	})
}

func TestKeyScope(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		const key = "the same key"
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			return geminitest.Text(fmt.Sprintf("Answer %d.", len(gemini.Requests())))
		})
		type call struct {
			body    map[string]any
			headers []string
			first   turn
		}
		var calls []*call
		ask := func(body map[string]any, headers ...string) turn {
			c := &call{body, keyed(key, headers...), turn{}}
			c.first = wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, c.headers...))
			calls = append(calls, c)
			return c.first
		}
		own := map[string]string{}
		for _, user := range []string{"ann", "bob", "Ann", absent} {
			headers := []string{"X-End-User", user}
			own[user] = ask(map[string]any{"query": "Who am I?"}, headers...).SessionID
			// The session that the key began, and another: each has its own keys.
			if got := ask(map[string]any{"query": "Another thing.", "session_id": own[user]}, headers...); got.Turn != 2 {
				t.Errorf("%s: the same key within the session it began: %+v", user, got)
			}
			other := s.invoke(t, map[string]any{"query": "Begin."}, headers...).SessionID
			if got := ask(map[string]any{"query": "A third thing.", "session_id": other}, headers...); got.Turn != 2 {
				t.Errorf("%s: the same key in another session: %+v", user, got)
			}
		}
		asked := len(gemini.Requests())
		var answers []string
		for _, c := range calls {
			wantReplay(t, s.do(t, http.MethodPost, "/invoke", c.body, c.headers...), c.first)
			answers = append(answers, c.first.Response)
		}
		for user, headers := range map[string][]string{"ann": {"X-End-User", "bob"}, "bob": nil, absent: {"X-End-User", "ann"}} {
			a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Another thing.", "session_id": own[user]}, keyed(key, headers...)...)
			wantError(t, a, http.StatusNotFound, "session_not_found")
		}
		if n := len(gemini.Requests()); n != asked || asked != 16 {
			t.Errorf("the model was asked %d times, and %d by retries; want 16 and none", asked, n-asked)
		}
		slices.Sort(answers)
		if n := len(slices.Compact(answers)); n != len(calls) {
			t.Errorf("%d calls have %d answers", len(calls), n)
		}
		for user := range own {
			if got := list(t, s, "", "X-End-User", user); len(got.Sessions) != 2 {
				t.Errorf("%q has %d sessions, want 2", user, len(got.Sessions))
			}
		}
	})
}

func TestKeysInASession(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		ask := func(query, key string, afterTurn int) answer {
			body := map[string]any{"query": query}
			if afterTurn >= 0 {
				body["after_turn"] = afterTurn
			}
			if key != "begin" {
				body["session_id"] = wantTurn(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Begin.", "after_turn": 0}, keyed("begin")...)).SessionID
			}
			return s.do(t, http.MethodPost, "/invoke", body, keyed(key)...)
		}
		begin := wantFirst(t, ask("Begin.", "begin", 0))
		two := wantFirst(t, ask("Two.", "two", 1))
		three := wantFirst(t, ask("Three.", "three", -1))
		same := wantFirst(t, ask("Three.", "three again", -1))
		for i, got := range []turn{begin, two, three, same} {
			if got.Turn != i+1 || got.SessionID != begin.SessionID {
				t.Errorf("turn %d: %+v", i+1, got)
			}
		}
		wantReplay(t, ask("Begin.", "begin", 0), begin)
		wantReplay(t, ask("Two.", "two", 1), two) // although the session has more turns now
		wantReplay(t, ask("Three.", "three", -1), three)
		wantError(t, ask("Five.", "five", 1), http.StatusConflict, "session_conflict")
		wantError(t, ask("Two.", "two", 4), http.StatusUnprocessableEntity, "idempotency_mismatch")
		if five := wantFirst(t, ask("Five.", "five", 4)); five.Turn != 5 { // the refused one did not take it
			t.Errorf("fifth turn: %+v", five)
		}
		if six := s.invoke(t, map[string]any{"query": "Six.", "session_id": begin.SessionID, "after_turn": 5}); six.Turn != 6 {
			t.Errorf("a turn without a key: %+v", six)
		}
		wantReplay(t, ask("Two.", "two", 1), two)
		if n := len(gemini.Requests()); n != 6 {
			t.Errorf("the model was asked %d times, want 6", n)
		}
		if n := turnsOf(t, s, begin.SessionID); n != 6 {
			t.Errorf("%d turns, want 6", n)
		}
	})
}

// after_turn is judged again at the commit, with a key too.
func TestKeysAndAfterTurnAtTheCommit(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		id := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
		gemini.Forget()
		gate := make(chan struct{})
		gemini.Enqueue(geminitest.Text("Late.").WithGate(0, gate))
		ctx := bounded(t)
		body := map[string]any{"query": "Late?", "session_id": id, "after_turn": 1}
		ended := s.background(ctx, t, body, keyed("late")...)
		if _, err := gemini.Await(ctx, 1); err != nil {
			t.Fatal(err)
		}
		wantNoContent(t, s.do(t, http.MethodPut, "/sessions/"+id+"/turns/1/feedback", map[string]any{"score": 1}))
		early := wantFirst(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Early.", "session_id": id, "after_turn": 1}, keyed("early")...))
		if early.Turn != 2 {
			t.Errorf("a lease and feedback are no conflict: %+v", early)
		}
		close(gate)
		wantError(t, <-ended, http.StatusConflict, "session_conflict")
		wantError(t, s.do(t, http.MethodPost, "/invoke", body, keyed("late")...), http.StatusConflict, "session_conflict")
		delete(body, "after_turn") // it failed, so its key is free
		if got := wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, keyed("late")...)); got.Turn != 3 {
			t.Errorf("with the key of the call that failed: %+v", got)
		}
	})
}

// A turn that is no longer among the recent ones is replayed too.
func TestOldTurnsReplay(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			return geminitest.Text(r.Prompt() + strings.Repeat(" and so on", 10_000))
		})
		var bodies []map[string]any
		var turns []turn
		for i := range 14 { // 100 KB each: more than one document holds
			body := map[string]any{"query": fmt.Sprintf("Question %d", i)}
			if i > 0 {
				body["session_id"] = turns[0].SessionID
			}
			bodies = append(bodies, body)
			turns = append(turns, wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, keyed(fmt.Sprintf("key %d", i))...)))
		}
		for i := range turns {
			wantReplay(t, s.do(t, http.MethodPost, "/invoke", bodies[i], keyed(fmt.Sprintf("key %d", i))...), turns[i])
		}
		wantStreamReplay(t, s.do(t, http.MethodPost, "/invoke", bodies[0], keyed("key 0", events...)...), turns[0])
		if n := len(gemini.Requests()); n != len(turns) {
			t.Errorf("the model was asked %d times, want %d", n, len(turns))
		}
	})
}

func TestDeletedSessionsOfKeys(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		body := map[string]any{"query": "hello"}
		for _, all := range []bool{false, true} {
			key := keyed(fmt.Sprintf("deleted, all %v", all))
			first := wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, key...))
			within := map[string]any{"query": "hello", "session_id": first.SessionID}
			wantFirst(t, s.do(t, http.MethodPost, "/invoke", within, key...))
			path := "/sessions/" + first.SessionID
			if all {
				wantNoContent(t, s.do(t, http.MethodDelete, "/sessions", nil))
			} else {
				wantNoContent(t, s.do(t, http.MethodDelete, path, nil))
			}
			asked := len(gemini.Requests())
			for range 2 {
				wantError(t, s.do(t, http.MethodPost, "/invoke", body, key...), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodPost, "/invoke", within, key...), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodPost, "/invoke", body, append(key, events...)...), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodGet, path, nil), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodDelete, path, nil), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodPut, path+"/turns/1/feedback", map[string]any{"score": 1}), http.StatusNotFound, "session_not_found")
			}
			if got := list(t, s, ""); len(got.Sessions) != 0 {
				t.Errorf("sessions: %v", ids(got.Sessions))
			}
			if n := len(gemini.Requests()); n != asked {
				t.Errorf("the model was asked %d times", n-asked)
			}
			wantNoContent(t, s.do(t, http.MethodDelete, "/sessions", nil))
			wantError(t, s.do(t, http.MethodPost, "/invoke", body, key...), http.StatusNotFound, "session_not_found")
			// The key of somebody else is not concerned.
			wantFirst(t, s.do(t, http.MethodPost, "/invoke", body, append(key, "X-End-User", "bob")...))
		}
	})
}

// A session that a key is only about to begin is not there yet, and one that
// is deleted while a keyed turn runs stays deleted.
func TestClaimsAreNoSessions(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		other := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
		gemini.Forget()
		gate := make(chan struct{})
		gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
		body := map[string]any{"query": "hello"}
		begun := s.stream(t, body, keyed("claim", events...)...)
		before := begun.until(t, "delta")
		id := strict[startData](t, before[0].Data).SessionID
		if got := ids(list(t, s, "").Sessions); !slices.Equal(got, []string{other}) {
			t.Errorf("sessions while the first turn is worked on: %v", got)
		}
		wantError(t, s.do(t, http.MethodGet, "/sessions/"+id, nil), http.StatusNotFound, "session_not_found")
		wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "go on", "session_id": id}), http.StatusNotFound, "session_not_found")
		wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "go on", "session_id": id}, keyed("claim")...), http.StatusNotFound, "session_not_found")
		wantError(t, s.do(t, http.MethodPut, "/sessions/"+id+"/turns/1/feedback", map[string]any{"score": 1}), http.StatusNotFound, "session_not_found")
		wantInProgress(t, s.do(t, http.MethodPost, "/invoke", body, keyed("claim")...), 35)
		close(gate)
		_, first := begun.wantDone(t, before...)
		if first.Turn != 1 || first.Response != "one two" {
			t.Errorf("first turn: %+v", first)
		}
		if got := ids(list(t, s, "").Sessions); !slices.Equal(got, []string{id, other}) {
			t.Errorf("sessions afterwards: %v", got)
		}

		gate = make(chan struct{})
		gemini.Forget()
		gemini.Enqueue(geminitest.Text("three").WithGate(0, gate))
		ctx := bounded(t)
		next := map[string]any{"query": "go on", "session_id": id}
		ended := s.background(ctx, t, next, keyed("deleted under it")...)
		if _, err := gemini.Await(ctx, 1); err != nil {
			t.Fatal(err)
		}
		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil))
		close(gate)
		wantError(t, <-ended, http.StatusNotFound, "session_not_found")
		wantError(t, s.do(t, http.MethodPost, "/invoke", next, keyed("deleted under it")...), http.StatusNotFound, "session_not_found")
		wantError(t, s.do(t, http.MethodPost, "/invoke", body, keyed("claim")...), http.StatusNotFound, "session_not_found")
	})
}

func TestKilledCallsAreTakenOver(t *testing.T) {
	t.Parallel()
	const lease = 6 * time.Second // REQUEST_TIMEOUT and 5 s more
	env := append(firestore(emulator.Host(t)), "REQUEST_TIMEOUT=1s")
	gemini := geminitest.Start(t)
	env = append(env, "GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
	doomed, next := startDoomed(t, env...), startLocal(t, env...)
	makeReady(t, next, gemini)
	id := next.invoke(t, map[string]any{"query": "Begin."}).SessionID
	tests := []struct {
		name string
		body map[string]any
		turn int
	}{
		{"new", map[string]any{"query": "One?"}, 1},
		{"named", map[string]any{"query": "Two?", "session_id": id}, 2},
		{"stream", map[string]any{"query": "Three?", "stream": true}, 1},
	}
	gemini.Forget()
	gemini.Enqueue(geminitest.Silence(), geminitest.Silence(), geminitest.Silence())
	begin := time.Now()
	ctx, leave := context.WithCancel(bounded(t))
	defer leave()
	var wait sync.WaitGroup
	for _, test := range tests {
		wait.Go(func() {
			if a, err := doomed.try(ctx, http.MethodPost, "/invoke", test.body, keyed(test.name)...); err == nil {
				t.Errorf("%s: the process that was killed answered %d: %s", test.name, a.Status, a.Body)
			}
		})
	}
	if _, err := gemini.Await(ctx, len(tests)); err != nil {
		t.Fatal(err)
	}
	doomed.end(t, os.Kill)
	wait.Wait()
	for _, test := range tests {
		// Whoever comes at once is told to wait, until the lease is over.
		wantInProgress(t, next.do(t, http.MethodPost, "/invoke", test.body, keyed(test.name)...), int(lease/time.Second))
	}
	wantError(t, next.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Another?"}, keyed("new")...), http.StatusUnprocessableEntity, "idempotency_mismatch")
	if got := ids(list(t, next, "").Sessions); !slices.Equal(got, []string{id}) {
		t.Errorf("sessions while the claims stand: %v", got)
	}
	for _, test := range tests {
		wait.Go(func() {
			a, err := next.insist(ctx, test.body, keyed(test.name)...)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				return
			}
			if after := time.Since(begin); after < lease {
				t.Errorf("%s: taken over after %v, before the lease of %v was over", test.name, after, lease)
			} else if after > lease+20*time.Second {
				t.Errorf("%s: taken over after %v only", test.name, after)
			}
			if a.replayed || a.turn.Turn != test.turn {
				t.Errorf("%s: replayed %v, %+v, want turn %d", test.name, a.replayed, a.turn, test.turn)
			}
		})
	}
	wait.Wait()
	for _, test := range tests {
		outcome, err := next.insist(ctx, test.body, keyed(test.name)...)
		if err != nil || !outcome.replayed {
			t.Errorf("%s: the retry after that: %+v, %v", test.name, outcome, err)
			continue
		}
		if n := turnsOf(t, next, outcome.turn.SessionID); n != test.turn {
			t.Errorf("%s: %d turns stored, want %d", test.name, n, test.turn)
		}
	}
	if n := len(gemini.Requests()); n != 2*len(tests) {
		t.Errorf("the model was asked %d times, want %d", n, 2*len(tests))
	}
}

// freeze stops p, and returns once it stands still: on a busy machine a signal
// takes its time to reach every thread.
func freeze(ctx context.Context, t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		if err != nil || len(tasks) == 0 { // no Linux: the signal must do
			return
		}
		still := 0
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if _, rest, ok := strings.Cut(string(stat), ") "); err != nil || ok && strings.HasPrefix(rest, "T") {
				still++
			}
		}
		if still == len(tasks) {
			return
		}
		runtime.Gosched()
	}
	t.Fatal("the process does not stop")
}

// A process that was stopped for longer than its lease neither appends its turn nor
// releases the key of the call that took over.
func TestStoppedCallsAreTakenOver(t *testing.T) {
	t.Parallel()
	env := append(firestore(emulator.Host(t)), "REQUEST_TIMEOUT=1s")
	gemini := geminitest.Start(t)
	env = append(env, "GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
	slow, next := startDoomed(t, env...), startLocal(t, env...)
	makeReady(t, next, gemini)
	id := next.invoke(t, map[string]any{"query": "Begin."}).SessionID
	gemini.Forget()
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("Too late.").WithGate(0, gate))
	ctx := bounded(t)
	body := map[string]any{"query": "Go on.", "session_id": id}
	ended := slow.background(ctx, t, body, keyed("stopped")...)
	if _, err := gemini.Await(ctx, 1); err != nil {
		t.Fatal(err)
	}
	freeze(ctx, t, slow.cmd.Process)
	close(gate) // the answer is there when it wakes
	inTime := make(chan struct{})
	gemini.Enqueue(geminitest.Text("In time.").WithDelay(100*time.Millisecond).WithGate(0, inTime))
	taken := make(chan outcome, 1)
	go func() {
		defer close(taken)
		o, err := next.insist(ctx, body, keyed("stopped")...)
		if err != nil {
			t.Error(err)
			return
		}
		taken <- o
	}()
	if _, err := gemini.Await(ctx, 2); err != nil { // it has been taken over
		t.Fatal(err)
	}
	if err := slow.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	late := <-ended // with any result
	close(inTime)
	first, ok := <-taken
	if !ok {
		return
	}
	switch e := wantEnvelope(t, late); {
	case late.Status == http.StatusOK:
		wantReplay(t, late, *first.turn)
	case e.Error == nil || *e.Error != "idempotency_in_progress" && *e.Error != "timeout":
		t.Errorf("the late call: %s", late.Body)
	}
	again, err := slow.insist(ctx, body, keyed("stopped")...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again.turn, new(first.turn.stored())); diff != "" || !again.replayed {
		t.Errorf("a retry at the late process, replayed %v: %s", again.replayed, diff)
	}
	page := wantData[sessionPage](t, next.do(t, http.MethodGet, "/sessions/"+id, nil))
	if len(page.Turns) != 2 || page.Turns[1].Response != first.turn.Response {
		t.Errorf("stored: %+v", page.Turns)
	}
}

func TestKeyedCallsWithoutAStore(t *testing.T) {
	slowtest.Skip(t, "keyed calls while Firestore is away")
	t.Parallel()
	link := newLink(t, emulator.Host(t))
	s, gemini := startGemini(t, append(firestore(link.Addr), "REQUEST_TIMEOUT=8s")...)
	makeReady(t, s, gemini)
	id := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
	bodies := map[string]map[string]any{
		"new":          {"query": "One?"},
		"named":        {"query": "Two?", "session_id": id},
		"streamed":     {"query": "Three?", "stream": true},
		"goes":         {"query": "Four?"},
		"goes, stream": {"query": "Five?", "stream": true},
	}

	// The client disconnects while the model works.
	gemini.Forget()
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	stream := s.stream(t, bodies["goes, stream"], keyed("goes, stream", events...)...)
	before := stream.until(t, "delta")
	gemini.Enqueue(geminitest.Text("three").WithGate(0, gate))
	ctx := bounded(t)
	ended := s.background(ctx, t, bodies["goes"], keyed("goes")...)
	if _, err := gemini.Await(ctx, 2); err != nil {
		t.Fatal(err)
	}
	link.cut()
	close(gate)
	wantError(t, <-ended, http.StatusServiceUnavailable, "session_store_unavailable")
	stream.wantFailure(t, []string{"session_store_unavailable"}, before...)

	asked := len(gemini.Requests())
	var away sync.WaitGroup
	refuse := func(method, path string, body any, headers ...string) {
		away.Go(func() {
			a, err := s.try(ctx, method, path, body, headers...)
			if err != nil {
				t.Errorf("%s %s with %v: %v", method, path, headers, err)
				return
			}
			if o, err := outcomeOf(a); err != nil || a.Status != http.StatusServiceUnavailable || o.code != "session_store_unavailable" || o.wait < time.Second {
				t.Errorf("%s %s with %v: status %d: %s", method, path, headers, a.Status, a.Body)
			}
		})
	}
	for _, key := range []string{"new", "named", "streamed"} {
		refuse(http.MethodPost, "/invoke", bodies[key], keyed(key)...)
	}
	refuse(http.MethodPut, "/sessions/"+id+"/turns/1/feedback", map[string]any{"score": 1})
	away.Wait()
	if n := len(gemini.Requests()); n != asked {
		t.Errorf("the model was asked %d times without a key", n-asked)
	}
	link.mend()
	var wait sync.WaitGroup
	for key, body := range bodies {
		wait.Go(func() {
			first, err := s.insist(ctx, body, keyed(key)...)
			if err != nil {
				t.Errorf("%s, after it came back: %v", key, err)
				return
			}
			if len(first.turn.Warnings) != 0 {
				t.Errorf("%s: warnings %v", key, first.turn.Warnings)
			}
			again, err := s.insist(ctx, body, keyed(key)...)
			if err != nil || !again.replayed || !cmp.Equal(*again.turn, first.turn.stored()) {
				t.Errorf("%s: first %+v, retry %+v, %v", key, first, again, err)
			}
		})
	}
	wait.Wait()
	for _, got := range list(t, s, "").Sessions {
		want := 1
		if got.SessionID == id {
			want = 2
		}
		if got.Turns != want {
			t.Errorf("a session with %d turns, want %d: %+v", got.Turns, want, got)
		}
	}
	if n := len(list(t, s, "").Sessions); n != len(bodies) { // one is named, one was there
		t.Errorf("%d sessions, want %d", n, len(bodies))
	}
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	eachReadyStore(t, func(t *testing.T, s *service, _ *geminitest.Server) {
		ann := []string{"X-End-User", "ann"}
		id := s.invoke(t, map[string]any{"query": "hello"}, ann...).SessionID
		s.invoke(t, map[string]any{"query": "go on", "session_id": id}, ann...)
		read := func() sessionPage {
			return wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id, nil, ann...))
		}
		before := read()
		put := func(turn string, body any, headers ...string) answer {
			return s.do(t, http.MethodPut, "/sessions/"+id+"/turns/"+turn+"/feedback", body, append(ann, headers...)...)
		}
		for _, body := range []any{
			map[string]any{"score": 1},
			map[string]any{"score": 0, "comment": ""},
			map[string]any{"score": -1, "comment": strings.Repeat("\U0001f980", 2000)},
			map[string]any{"score": -1, "comment": "two\nlines and \"quotes\""},
			`{"comment": "The other way round.", "score": 1}`,
			map[string]any{"score": 1, "comment": "The last one."},
		} {
			wantNoContent(t, put("1", body))
			wantNoContent(t, put("2", body))
		}
		tests := []struct {
			name, body string
			status     int
			code       string
			field      string
		}{
			{"a score above one", `{"score": 2}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score below minus one", `{"score": -2}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score between", `{"score": 0.5}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score in words", `{"score": "1"}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score of null", `{"score": null}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score of true", `{"score": true}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score beyond 64 bits", `{"score": 18446744073709551617}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a score beyond floats", `{"score": 1e999}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"no score", `{"comment": "Well."}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"nothing", `{}`, http.StatusUnprocessableEntity, "validation_failed", "score"},
			{"a comment of 2 001 characters", `{"score": 1, "comment": "` + strings.Repeat("é", 2001) + `"}`, http.StatusUnprocessableEntity, "validation_failed", "comment"},
			{"a comment that is a number", `{"score": 1, "comment": 5}`, http.StatusUnprocessableEntity, "validation_failed", "comment"},
			{"a comment of null", `{"score": 1, "comment": null}`, http.StatusUnprocessableEntity, "validation_failed", "comment"},
			{"a comment with NUL", `{"score": 1, "comment": "a\u0000b"}`, http.StatusUnprocessableEntity, "validation_failed", "comment"},
			{"an unknown field", `{"score": 1, "stars": 5}`, http.StatusUnprocessableEntity, "validation_failed", "stars"},
			{"a key twice", `{"score": 1, "score": 1}`, http.StatusBadRequest, "malformed_request", ""},
			{"not JSON", `thumbs up`, http.StatusBadRequest, "malformed_request", ""},
			{"no body", ``, http.StatusBadRequest, "malformed_request", ""},
			{"a list", `[{"score": 1}]`, http.StatusBadRequest, "malformed_request", ""},
			{"invalid UTF-8", "{\"score\": 1, \"comment\": \"\xff\"}", http.StatusBadRequest, "malformed_request", ""},
		}
		for _, test := range tests {
			e := wantError(t, put("1", test.body), test.status, test.code)
			if test.field != "" && !slices.Contains(e.fields(), test.field) {
				t.Errorf("%s: details name %q", test.name, e.fields())
			}
		}
		good := map[string]any{"score": 1}
		wantError(t, put("1", good, "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "unsupported_media_type")
		for _, turn := range []string{"3", "0", "-1", "+1", "01", "1.0", "x", "%31%00", strconv.Itoa(math.MaxInt), "99999999999999999999"} {
			a := put(turn, good)
			if e := wantEnvelope(t, a); a.Status != http.StatusNotFound || e.Error == nil || *e.Error != "not_found" && *e.Error != "session_not_found" {
				t.Errorf("turn %s: status %d: %s", turn, a.Status, a.Body)
			}
		}
		for _, headers := range [][]string{{"X-End-User", "bob"}, nil} {
			wantError(t, s.do(t, http.MethodPut, "/sessions/"+id+"/turns/1/feedback", good, headers...), http.StatusNotFound, "session_not_found")
		}
		for _, other := range []string{unknownSession, "short", strings.Repeat("a", 65)} {
			a := s.do(t, http.MethodPut, "/sessions/"+other+"/turns/1/feedback", good, ann...)
			wantError(t, a, http.StatusNotFound, "session_not_found")
		}
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			a := s.do(t, method, "/sessions/"+id+"/turns/1/feedback", nil, ann...)
			wantError(t, a, http.StatusMethodNotAllowed, "method_not_allowed")
			if allow := a.Header.Get("Allow"); !strings.Contains(allow, http.MethodPut) {
				t.Errorf("Allow: %q", allow)
			}
		}
		after := read()
		for i := range after.Turns {
			f, _ := after.Turns[i].Feedback.(map[string]any)
			if f["score"] != 1.0 || f["comment"] != "The last one." {
				t.Errorf("feedback on turn %d: %v", i+1, after.Turns[i].Feedback)
			}
			after.Turns[i].Feedback = nil
		}
		if diff := cmp.Diff(after, before); diff != "" {
			t.Errorf("feedback changed the session beyond itself (-got +want): %s", diff)
		}
		// It is no conflict for a caller who counts turns.
		if got := s.invoke(t, map[string]any{"query": "And now?", "session_id": id, "after_turn": 2}, ann...); got.Turn != 3 {
			t.Errorf("the turn after feedback: %+v", got)
		}
		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil, ann...))
		wantError(t, put("1", good), http.StatusNotFound, "session_not_found")
	})
}

// Only the latest feedback on a turn is stored, and it is deleted with its turn.
func TestLastFeedbackCounts(t *testing.T) {
	t.Parallel()
	host := emulator.Host(t)
	env := firestore(host)
	s, gemini := startGemini(t, env...)
	makeReady(t, s, gemini)
	var project string
	for _, variable := range env {
		if name, ok := strings.CutPrefix(variable, "GOOGLE_CLOUD_PROJECT="); ok {
			project = name
		}
	}
	client := emulator.Connect(t, host, project)
	id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
	var scores []int64
	var comments []string
	var visit func(value any)
	visit = func(value any) {
		object, _ := value.(map[string]any)
		if score, ok := object["score"].(int64); ok {
			scores = append(scores, score)
			comment, _ := object["comment"].(string)
			comments = append(comments, comment)
		}
		for _, field := range object {
			visit(field)
		}
	}
	look := func() {
		t.Helper()
		scores, comments = nil, nil
		ctx := bounded(t)
		documents, err := client.Collection(gcpfirestore.SessionsCollection).Documents(ctx).GetAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range documents {
			visit(document.Data())
		}
	}
	for _, want := range []struct {
		score   int64
		comment string
	}{{1, "Good."}, {-1, "Bad."}, {0, ""}, {1, "Good after all."}} {
		body := map[string]any{"score": want.score, "comment": want.comment}
		wantNoContent(t, s.do(t, http.MethodPut, "/sessions/"+id+"/turns/1/feedback", body))
		look()
		if !slices.Equal(scores, []int64{want.score}) || !slices.Equal(comments, []string{want.comment}) {
			t.Errorf("stored: %v %q, want only %d %q", scores, comments, want.score, want.comment)
		}
	}
	wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil))
	if look(); scores != nil {
		t.Errorf("feedback on a deleted session: %v", scores)
	}
}
