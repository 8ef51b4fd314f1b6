package model_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/model"
)

// A wire answers by a handler without a network, piece by piece, as a
// connection does, and ends with the request's context.
type wire struct{ http.Handler }

func (h wire) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	w := &wireWriter{header: http.Header{}, body: writer, begun: make(chan int, 1)}
	stop := context.AfterFunc(ctx, func() { _ = reader.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		defer func() {
			if recover() != nil {
				_ = writer.CloseWithError(io.ErrUnexpectedEOF)
			}
			_ = writer.Close()
			w.WriteHeader(http.StatusOK)
		}()
		h.ServeHTTP(w, r)
	}()
	select {
	case status := <-w.begun:
		return &http.Response{StatusCode: status, Header: w.header, Body: reader, Request: r}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type wireWriter struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan int
}

func (w *wireWriter) Header() http.Header    { return w.header }
func (w *wireWriter) WriteHeader(status int) { w.once.Do(func() { w.begun <- status }) }
func (w *wireWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// first is the model of question, and the others stand in for it.
const first, second, third = "gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash"

const cooldown = time.Minute

// guarded runs f in a bubble with a client that has breakers, and h as its models.
func guarded(t *testing.T, h http.Handler, f func(t *testing.T, c *model.Client), models ...string) {
	t.Helper()
	if models == nil {
		models = []string{first}
	}
	synctest.Test(t, func(t *testing.T) {
		f(t, newClient(t, model.Config{
			APIKey: apiKey, BaseURL: "http://gemini.test", Transport: wire{h},
			Models: models, BreakerFailures: 5, BreakerCooldown: cooldown,
		}))
	})
}

// state of the first model's breaker.
func checkState(t *testing.T, c *model.Client, want breaker.State) {
	t.Helper()
	if got := c.States()[first]; got != want {
		t.Errorf("the breaker is %s, want %s", got, want)
	}
}

// once asks so that a failure is one attempt.
func once(ctx context.Context, c *model.Client) (model.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Nanosecond) // no time for another
	defer cancel()
	return c.Generate(ctx, question(), nil)
}

// open makes the breaker open: the script's model must fail now.
func open(t *testing.T, c *model.Client) {
	t.Helper()
	for range 5 {
		_, err := once(t.Context(), c)
		checkFailure(t, err, model.Unavailable)
	}
	checkState(t, c, breaker.Open)
}

func TestFiveFailuresOpenTheBreaker(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "")}}
	guarded(t, s, func(t *testing.T, c *model.Client) {
		for range 4 {
			_, _ = once(t.Context(), c)
		}
		checkState(t, c, breaker.Closed)
		_, _ = once(t.Context(), c)
		checkState(t, c, breaker.Open)
		for _, passed := range []time.Duration{0, time.Second, 58 * time.Second} {
			time.Sleep(passed)
			begin := time.Now()
			a, err := c.Generate(t.Context(), question(), nil)
			failed := checkFailure(t, err, model.Unavailable)
			if a.Attempts != 0 || time.Since(begin) != 0 || s.requests() != 5 || a.Model != first {
				t.Errorf("%d attempts by %s took %v, %d requests; want none", a.Attempts, a.Model, time.Since(begin), s.requests())
			}
			if failed.RetryAfter <= 0 || failed.RetryAfter > cooldown {
				t.Errorf("RetryAfter %v, want what is left of a minute", failed.RetryAfter)
			}
		}
		_, err := c.Generate(t.Context(), question(), nil)
		if failed := checkFailure(t, err, model.Unavailable); failed.RetryAfter != time.Second {
			t.Errorf("RetryAfter %v, want the second that is left", failed.RetryAfter)
		}
	})
}

func TestRetriesCountAsFailures(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "")}}
	guarded(t, s, func(t *testing.T, c *model.Client) {
		a, _ := c.Generate(t.Context(), question(), nil)
		b, err := c.Generate(t.Context(), question(), nil)
		checkFailure(t, err, model.Unavailable)
		if a.Attempts != 3 || b.Attempts != 2 || s.requests() != 5 {
			t.Errorf("%d and %d attempts, %d requests; want 3, 2 and 5", a.Attempts, b.Attempts, s.requests())
		}
		checkState(t, c, breaker.Open)
	})
}

func TestASuccessBetweenFailuresKeepsTheBreakerClosed(t *testing.T) {
	t.Parallel()
	s := &script{}
	for range 10 {
		s.handlers = append(s.handlers, answer(503, ""), answer(503, ""), answer(503, ""), answer(503, ""), answer(200, good("Hello.")))
	}
	guarded(t, s, func(t *testing.T, c *model.Client) {
		for range 50 {
			_, _ = once(t.Context(), c)
		}
		if s.requests() != 50 {
			t.Errorf("%d requests, want 50", s.requests())
		}
	})
}

func TestOneTrialAfterTheCooldown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		trial http.HandlerFunc
		after breaker.State
	}{
		{"that is answered", answer(200, good("Hello.")), breaker.Closed},
		{"that fails", answer(503, ""), breaker.Open},
		{"that is blocked", answer(200, `{"promptFeedback":{"blockReason":"SAFETY"}}`), breaker.Closed},
		{"that is refused", answer(400, ""), breaker.HalfOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			held := make(chan struct{})
			s := &script{handlers: slices.Repeat([]http.HandlerFunc{answer(503, "")}, 5)}
			s.handlers = append(s.handlers, func(w http.ResponseWriter, r *http.Request) { <-held; tt.trial(w, r) }, answer(200, good("Hello.")))
			synctest.Test(t, func(t *testing.T) {
				held = make(chan struct{}) // of the bubble
				c := newClient(t, model.Config{
					APIKey: apiKey, BaseURL: "http://gemini.test", Transport: wire{s},
					Models: []string{first}, BreakerFailures: 5, BreakerCooldown: cooldown,
				})
				open(t, c)
				time.Sleep(cooldown + time.Millisecond)
				checkState(t, c, breaker.HalfOpen)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					_, _ = c.Generate(ctx, question(), nil)
				}()
				synctest.Wait()
				begin := time.Now()
				for range 100 {
					_, err := c.Generate(t.Context(), question(), nil)
					checkFailure(t, err, model.Unavailable)
				}
				if s.requests() != 6 || time.Since(begin) != 0 {
					t.Errorf("%d requests, want one beside the five; it took %v", s.requests(), time.Since(begin))
				}
				close(held)
				<-ended
				checkState(t, c, tt.after)
				if tt.after == breaker.Open {
					return
				}
				if _, err := c.Generate(t.Context(), question(), nil); err != nil {
					t.Errorf("after the trial: %v", err)
				}
				checkState(t, c, breaker.Closed)
			})
		})
	}
}

func TestATrialThatFailsKeepsTheBreakerOpenForAnotherCooldown(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "")}}
	guarded(t, s, func(t *testing.T, c *model.Client) {
		open(t, c)
		for n := 6; n < 10; n++ {
			time.Sleep(cooldown + time.Millisecond)
			_, err := c.Generate(t.Context(), question(), nil)
			failed := checkFailure(t, err, model.Unavailable)
			checkState(t, c, breaker.Open)
			if s.requests() != n || failed.RetryAfter > cooldown {
				t.Errorf("%d requests, RetryAfter %v; want %d: no retry of a trial", s.requests(), failed.RetryAfter, n)
			}
		}
	})
}

// A trial that ends in any way is followed by another one.
func TestNoTrialKeepsTheBreakerHalfOpen(t *testing.T) {
	t.Parallel()
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name  string
		trial http.HandlerFunc
		ask   func(t *testing.T, c *model.Client)
		wait  time.Duration // until the next trial
	}{
		{"cancelled", never, func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, _ = c.Generate(ctx, question(), nil)
		}, 0},
		{"out of time soon", never, func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _ = c.Generate(ctx, question(), nil)
		}, 0},
		{"out of time", never, func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, _ = c.Generate(ctx, question(), nil)
		}, cooldown},
		{"cancelled before it is sent", answer(200, good("Hello.")), func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, _ = c.Generate(ctx, question(), nil)
		}, 0},
		{"whose text panics", answer(200, event(good("Hello."))), func(t *testing.T, c *model.Client) {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = c.Generate(t.Context(), question(), func(string, string) error { panic("a bug") })
		}, 0},
		{"whose answer makes the SDK panic", answer(200, event(`{"candidates":[null]}`)), func(t *testing.T, c *model.Client) {
			_, _ = c.Generate(t.Context(), question(), dropText)
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: slices.Repeat([]http.HandlerFunc{answer(503, "")}, 5)}
			s.handlers = append(s.handlers, tt.trial, answer(200, good("Hello.")))
			guarded(t, s, func(t *testing.T, c *model.Client) {
				open(t, c)
				time.Sleep(cooldown + time.Millisecond)
				tt.ask(t, c)
				time.Sleep(tt.wait + time.Millisecond)
				if _, err := once(t.Context(), c); err != nil {
					t.Errorf("the next trial: %v", err)
				}
				checkState(t, c, breaker.Closed)
			})
		})
	}
}

// A call that neither ends nor has a deadline is a trial for a minute, and then
// a failed one.
func TestATrialThatNeverEnds(t *testing.T) {
	t.Parallel()
	s := &script{handlers: slices.Repeat([]http.HandlerFunc{answer(503, "")}, 5)}
	s.handlers = append(s.handlers, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, answer(200, good("Hello.")))
	guarded(t, s, func(t *testing.T, c *model.Client) {
		open(t, c)
		time.Sleep(cooldown + time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _, _ = c.Generate(ctx, question(), nil) }()
		synctest.Wait()
		time.Sleep(59 * time.Second)
		_, err := once(t.Context(), c)
		checkFailure(t, err, model.Unavailable)
		checkState(t, c, breaker.HalfOpen)
		time.Sleep(time.Second)
		_, err = once(t.Context(), c)
		if failed := checkFailure(t, err, model.Unavailable); failed.RetryAfter != cooldown {
			t.Errorf("RetryAfter %v, want another %v", failed.RetryAfter, cooldown)
		}
		checkState(t, c, breaker.Open)
		time.Sleep(cooldown + time.Millisecond)
		if _, err := once(t.Context(), c); err != nil {
			t.Error(err)
		}
		checkState(t, c, breaker.Closed)
		cancel()
		synctest.Wait() // the end of the lost trial no longer counts
		checkState(t, c, breaker.Closed)
	})
}

// A long answer lets the others in as soon as it has begun.
func TestATrialIsOverWhenItsStreamBegins(t *testing.T) {
	t.Parallel()
	s := &script{handlers: slices.Repeat([]http.HandlerFunc{answer(503, "")}, 5)}
	s.handlers = append(s.handlers, func(w http.ResponseWriter, r *http.Request) {
		for range 10 {
			_, _ = io.WriteString(w, event(piece("Once")))
			time.Sleep(10 * time.Second)
		}
		panic(http.ErrAbortHandler)
	}, answer(200, good("Hello.")))
	guarded(t, s, func(t *testing.T, c *model.Client) {
		open(t, c)
		time.Sleep(cooldown + time.Millisecond)
		go func() { _, _ = c.Generate(t.Context(), question(), dropText) }()
		synctest.Wait()
		checkState(t, c, breaker.Closed)
		time.Sleep(2 * time.Minute)
		checkState(t, c, breaker.Closed)
	})
}

func TestWhatCounts(t *testing.T) {
	t.Parallel()
	generate := func(stream bool, timeout time.Duration) func(*testing.T, *model.Client) {
		return func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, _ = generate(ctx, c, stream)
		}
	}
	unary, stream := generate(false, time.Nanosecond), generate(true, time.Nanosecond)
	silence := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	begun := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, event(piece("Once")))
		<-r.Context().Done()
	}
	flowing := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, event(piece("Once")))
			select {
			case <-time.After(9 * time.Second):
			case <-r.Context().Done():
			}
		}
	}
	tests := []struct {
		name   string
		model  http.HandlerFunc
		ask    func(t *testing.T, c *model.Client)
		counts bool
	}{
		{"503", answer(503, ""), unary, true},
		{"429", answer(429, ""), unary, true},
		{"408", answer(408, ""), unary, true},
		{"a connection that breaks", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, stream, true},
		{"an error in a stream", answer(200, event(failure(503, "busy"))), stream, true},
		{"silence before a stream", silence, generate(true, 21*time.Second), true},
		{"silence in a stream", begun, generate(true, 30*time.Second), true},
		{"silence until the deadline", silence, generate(false, 10*time.Second), true},
		{"silence in a stream until the deadline", begun, generate(true, 15*time.Second), true},

		{"a deadline that leaves little time", silence, generate(false, 9*time.Second), false},
		{"a stream that outlasts its time", flowing, generate(true, 30*time.Second), false},
		{"400", answer(400, ""), unary, false},
		{"401", answer(401, ""), unary, false},
		{"403", answer(403, ""), unary, false},
		{"404", answer(404, ""), unary, false},
		{"an answer that cannot be read", answer(200, "<html>"), unary, false},
		{"a blocked prompt", answer(200, `{"promptFeedback":{"blockReason":"SAFETY"}}`), unary, false},
		{"a caller that goes away", silence, func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(15*time.Second, cancel)
			_, _ = c.Generate(ctx, question(), nil)
		}, false},
		{"a caller that does not read", begun, func(t *testing.T, c *model.Client) {
			_, _ = c.Generate(t.Context(), question(), func(string, string) error { time.Sleep(time.Minute); return errors.New("gone") })
		}, false},
		{"a caller that reads until the deadline", begun, func(t *testing.T, c *model.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, _ = c.Generate(ctx, question(), func(string, string) error { time.Sleep(time.Minute); return nil })
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			guarded(t, tt.model, func(t *testing.T, c *model.Client) {
				for range 5 {
					tt.ask(t, c)
				}
				want := breaker.Closed
				if tt.counts {
					want = breaker.Open
				}
				checkState(t, c, want)
			})
		})
	}
}

func TestChangesAreReported(t *testing.T) {
	t.Parallel()
	s := &script{handlers: slices.Repeat([]http.HandlerFunc{answer(503, "")}, 6)}
	s.handlers = append(s.handlers, answer(200, good("Hello.")))
	synctest.Test(t, func(t *testing.T) {
		var reported []string
		var c *model.Client
		c = newClient(t, model.Config{
			APIKey: apiKey, BaseURL: "http://gemini.test", Transport: wire{s},
			Models: []string{first, second}, BreakerFailures: 5, BreakerCooldown: cooldown,
			OnBreaker: func(name string, state breaker.State) {
				reported = append(reported, name+" "+state.String())
				if got := c.States()[name]; got != state { // would hang if a lock were held
					t.Errorf("reported %s, is %s", state, got)
				}
			},
		})
		r := question()
		r.Alone = true
		ask := func() { _, _ = c.Generate(t.Context(), r, nil) }
		ask()
		ask()
		time.Sleep(cooldown + time.Millisecond)
		ask()
		time.Sleep(cooldown + time.Millisecond)
		ask()
		want := []string{first + " open", first + " half_open", first + " open", first + " half_open", first + " closed"}
		if !slices.Equal(reported, want) {
			t.Errorf("reported %q, want %q", reported, want)
		}
		if got := fmt.Sprint(c.States()); got != "map["+first+":closed "+second+":closed]" {
			t.Errorf("states %s", got)
		}
	})
}

func TestAnObserverThatPanicsLeavesTheBreakerWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reported := 0
		c := newClient(t, model.Config{
			APIKey: apiKey, BaseURL: "http://gemini.test", Transport: wire{answer(503, "")},
			Models: []string{first}, BreakerFailures: 1, BreakerCooldown: cooldown,
			OnBreaker: func(string, breaker.State) { reported++; panic("a bug") },
		})
		ask := func() {
			defer func() { _ = recover() }()
			_, _ = once(t.Context(), c)
		}
		ask()
		_, err := once(t.Context(), c)
		checkFailure(t, err, model.Unavailable)
		time.Sleep(cooldown + time.Millisecond)
		ask()
		if reported != 2 {
			t.Errorf("reported %d times, want of open and half open", reported)
		}
	})
}

// Health has to see how the model is, also while the breaker is open.
func TestAProbeAndTheBreakerDoNotMeet(t *testing.T) {
	t.Parallel()
	up := false
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if up && r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"name":"models/gemini-2.5-flash"}`)
			return
		}
		w.WriteHeader(503)
	})
	guarded(t, h, func(t *testing.T, c *model.Client) {
		for range 20 {
			if c.Probe(t.Context(), first) == nil {
				t.Error("a probe went well")
			}
		}
		checkState(t, c, breaker.Closed)
		open(t, c)
		up = true
		if err := c.Probe(t.Context(), first); err != nil {
			t.Errorf("a probe while the breaker is open: %v", err)
		}
		checkState(t, c, breaker.Open)
		time.Sleep(cooldown + time.Millisecond)
		_ = c.Probe(t.Context(), first)
		checkState(t, c, breaker.HalfOpen)
	})
}

// A storm of failures adds a fifth to the load, and a few for a fresh process.
func TestAStormOfFailures(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{answer(503, "")}}
	inBubble(t, s, func(t *testing.T, c *model.Client) { // without a breaker, which would end it sooner
		const calls = 1000
		var group sync.WaitGroup
		for range calls {
			group.Go(func() {
				_, err := c.Generate(t.Context(), question(), nil)
				checkFailure(t, err, model.Unavailable)
			})
		}
		group.Wait()
		if n := s.requests(); n <= calls || n > calls+calls/5+10 {
			t.Errorf("%d requests for %d calls, want some more and at most a fifth and 10", n, calls)
		}
	})
}

// Under calls at once, a mix of all that may happen, and time that passes, the
// model is asked again and again, until it answers.
func TestTheBreakerRecoversFromAnything(t *testing.T) {
	t.Parallel()
	s := &script{handlers: []http.HandlerFunc{}}
	for i := range 400 {
		s.handlers = append(s.handlers, []http.HandlerFunc{
			answer(503, ""), answer(503, ""), answer(503, ""), answer(400, ""), answer(200, "{"),
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		}[i*i%7])
	}
	s.handlers = append(s.handlers, answer(200, good("Hello.")))
	guarded(t, s, func(t *testing.T, c *model.Client) {
		for s.requests() < len(s.handlers) {
			ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() { _, _ = c.Generate(ctx, question(), nil) })
			}
			group.Wait()
			cancel()
			if state := c.States()[first]; !slices.Contains([]breaker.State{breaker.Closed, breaker.HalfOpen, breaker.Open}, state) {
				t.Fatalf("state %q", state)
			}
			time.Sleep(7 * time.Second)
		}
		if _, err := c.Generate(t.Context(), question(), nil); err != nil {
			t.Errorf("%v after %d requests", err, s.requests())
		}
		checkState(t, c, breaker.Closed)
	})
}

func TestTheErrorOfManyModelsIsShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("語", 10_000)
	names := []string{first, second, third, "a", "b", "c"}
	guarded(t, answer(503, failure(503, long)), func(t *testing.T, c *model.Client) {
		_, err := c.Generate(t.Context(), question(), nil)
		failed, ok := errors.AsType[*model.Error](err)
		if !ok || failed.Kind != model.Unavailable || len(err.Error()) > 3000 {
			t.Errorf("%d bytes: %.300v", len(err.Error()), err)
		}
	}, names...)
}
