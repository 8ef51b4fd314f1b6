package figures_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/figures/figurestest"
	"example.com/gatehouse/internal/testclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	t.Parallel()
	figurestest.TestStore(t, func(testing.TB) figures.Store { return figures.NewMemory() })
}

func TestWhatCounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status         int
		code           string
		judged, errors int64
	}{
		{200, "", 1, 0},
		{204, "", 1, 0},
		{304, "", 1, 0},
		{500, "internal", 1, 1},
		{502, "model_failed", 1, 1},
		{503, "model_unavailable", 1, 1},
		{503, "session_store_unavailable", 1, 1},
		{504, "timeout", 1, 1},
		{500, "", 1, 1},
		// What callers do.
		{400, "malformed_request", 0, 0},
		{401, "unauthenticated", 0, 0},
		{403, "permission_denied", 0, 0},
		{404, "not_found", 0, 0},
		{408, "request_timeout", 0, 0},
		{409, "session_conflict", 0, 0},
		{422, "content_blocked", 0, 0},
		{429, "rate_limited", 0, 0},
		{429, "quota_exceeded", 0, 0},
		{431, "", 0, 0},
		{499, "client_closed_request", 0, 0},
		// What is turned away on purpose.
		{503, "overloaded", 0, 0},
		{503, "shutting_down", 0, 0},
		{503, "not_ready", 0, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, " ", tt.code), func(t *testing.T) {
			t.Parallel()
			c := figurestest.New(figures.NewMemory(), testclock.New(figurestest.Start), nil)
			c.Count(tt.status, tt.code)
			if got, want := sum(t, c), (figures.Figures{Requests: 1, Judged: tt.judged, Errors: tt.errors}); got.Figures != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestErrorRate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		figures.Figures
		want float64
	}{
		{"nothing", figures.Figures{}, 0},
		{"only refused", figures.Figures{Requests: 100}, 0},
		{"a quarter", figures.Figures{Requests: 100, Judged: 8, Errors: 2}, 0.25},
		{"all", figures.Figures{Requests: 100, Judged: 8, Errors: 8}, 1},
		{"sums of two moments", figures.Figures{Requests: 8, Judged: 8, Errors: 9}, 1},
	}
	for _, tt := range tests {
		if got := tt.ErrorRate(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func sum(t testing.TB, c *figures.Counter) figures.Sum {
	t.Helper()
	s, err := c.Sum(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A journal notes what is written to a store, and fails as long as err says so.
type journal struct {
	figures.Store
	mu      sync.Mutex
	minutes []figures.Minute
	err     error
}

func (j *journal) Write(ctx context.Context, m figures.Minute) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	m.Instance = ""
	j.minutes = append(j.minutes, m)
	if j.err != nil {
		return j.err
	}
	return j.Store.Write(ctx, m)
}

func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
}

// take returns what was written since it was called last, as "minute:requests".
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []string
	for _, m := range j.minutes {
		all = append(all, fmt.Sprintf("%s:%d", m.Start.Format("15:04:05"), m.Requests))
	}
	j.minutes = nil
	return strings.Join(all, " ")
}

func TestWhenItIsWritten(t *testing.T) {
	t.Parallel()
	clock := testclock.New(figurestest.Start.Add(30 * time.Second))
	j := &journal{Store: figures.NewMemory()}
	c := figurestest.New(j, clock, nil)
	away := errors.New("away")
	steps := []struct {
		name  string
		wait  time.Duration
		fail  error
		count int
		want  string
		sum   int64
	}{
		{"nothing counted", 0, nil, 0, "", 0},
		{"the first", 0, nil, 1, "12:00:00:1", 1},
		{"soon after", 9999 * time.Millisecond, nil, 2, "", 3},
		{"10 s after", time.Millisecond, nil, 0, "12:00:00:3", 3},
		{"nothing new", time.Minute - 5*time.Second, nil, 0, "", 3},
		{"the next minute", 0, nil, 1, "12:01:00:1", 4},
		{"soon after that", time.Second, nil, 1, "", 5},
		{"the rest, with the first flush after the minute", time.Minute, nil, 1, "12:01:00:2 12:02:00:1", 6},
		{"two were written, so 10 s are not enough", 10 * time.Second, nil, 1, "", 7},
		{"but 20 s are", 10 * time.Second, nil, 0, "12:02:00:2", 7},
		{"the store is away", 10 * time.Second, away, 1, "12:03:00:1", 8},
		{"it is not tried again at once", 0, away, 1, "", 9},
		{"it stays away", time.Minute, away, 1, "12:03:00:2", 10},
		{"it is back", time.Minute, nil, 1, "12:03:00:2 12:04:00:1 12:05:00:1", 8},
		{"minutes that no sum covers are dropped", 10 * time.Minute, nil, 1, "12:15:00:1", 1},
	}
	for _, step := range steps {
		clock.Advance(step.wait)
		j.fail(step.fail)
		for range step.count {
			c.Count(200, "")
		}
		c.Flush(t.Context())
		if got := j.take(); got != step.want {
			t.Errorf("%s: wrote %q, want %q", step.name, got, step.want)
		}
		if got := sum(t, c); got.Requests != step.sum {
			t.Errorf("%s: the sum is %d, want %d", step.name, got.Requests, step.sum)
		}
	}
	c.Count(200, "")
	if err := c.Close(t.Context()); err != nil || j.take() != "12:15:00:2" {
		t.Errorf("closing: %v", err)
	}
	if err := c.Close(t.Context()); err != nil || j.take() != "" {
		t.Errorf("closing again: %v", err)
	}
}

// At a steady load an instance writes once in 10 s, at any rate of requests.
func TestASteadyLoad(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{7 * time.Millisecond, 100 * time.Millisecond, 3 * time.Second, 13 * time.Second} {
		t.Run(every.String(), func(t *testing.T) {
			t.Parallel()
			clock := testclock.New(figurestest.Start)
			j := &journal{Store: figures.NewMemory()}
			c := figurestest.New(j, clock, nil)
			const whole = 10 * time.Minute
			for passed := time.Duration(0); passed < whole; passed += every {
				c.Count(200, "")
				c.Flush(t.Context())
				clock.Advance(every)
			}
			// The one more is the first, at the very begin.
			if n := len(strings.Fields(j.take())); n > int(whole/figures.Interval)+1 || n < int(whole/max(every, 3*figures.Interval)) {
				t.Errorf("%d writes in %v", n, whole)
			}
		})
	}
}

func TestTheMinutesAreWritten(t *testing.T) {
	t.Parallel()
	clock := testclock.New(figurestest.Start.Add(59 * time.Second))
	j := &journal{Store: figures.NewMemory()}
	state := "closed"
	c := figurestest.New(j, clock, func() map[string]string { return map[string]string{"m": state} })
	c.Count(200, "")
	c.Count(404, "not_found")
	clock.Advance(2 * time.Second)
	state = "open"
	c.Count(500, "internal")
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open := map[string]string{"m": "open"}
	want := []figures.Minute{
		{Start: figurestest.Start, Figures: figures.Figures{Requests: 2, Judged: 1}, Breakers: open},
		{Start: figurestest.Start.Add(time.Minute), Figures: figures.Figures{Requests: 1, Judged: 1, Errors: 1}, Breakers: open},
	}
	if diff := cmp.Diff(j.minutes, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	clock := testclock.New(figurestest.Start)
	c := figurestest.New(figures.NewMemory(), clock, nil)
	for range 3 {
		c.Count(500, "internal")
		clock.Advance(-10 * time.Second)
	}
	clock.Advance(time.Minute)
	if got := sum(t, c); got.Errors != 3 {
		t.Errorf("%+v", got)
	}
}

// An instance's own breakers are known better than what it wrote of them.
func TestOwnBreakers(t *testing.T) {
	t.Parallel()
	clock := testclock.New(figurestest.Start)
	store := figures.NewMemory()
	own := "open"
	a := figurestest.New(store, clock, func() map[string]string { return map[string]string{"m": own} })
	b := figurestest.New(store, clock, nil)
	a.Count(200, "")
	a.Flush(t.Context())
	own = "half_open"
	for name, tt := range map[string]struct {
		counter *figures.Counter
		want    string
	}{"the instance itself": {a, "half_open"}, "another": {b, "open"}} {
		if got := sum(t, tt.counter).Breakers["m"]; got != tt.want {
			t.Errorf("%s sees %s, want %s", name, got, tt.want)
		}
	}
}

func TestANilCounterCountsNothing(t *testing.T) {
	t.Parallel()
	var c *figures.Counter
	c.Count(500, "internal")
	c.Flush(t.Context())
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// hang waits as a store does that does not answer.
func hang(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }

func TestAStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := figures.New(figures.Config{
			Store: &figurestest.Faulty{Store: figures.NewMemory(), Before: hang},
			Log:   slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now,
		})
		c.Count(200, "")
		var one, others time.Duration
		var group sync.WaitGroup
		begin := time.Now()
		// The request is over, and its context with it.
		over, cancel := context.WithCancel(t.Context())
		cancel()
		group.Go(func() { c.Flush(over); one = time.Since(begin) })
		synctest.Wait()
		for range 100 {
			c.Count(200, "")
			c.Flush(t.Context())
		}
		others = time.Since(begin)
		group.Wait()
		if one != 300*time.Millisecond || others != 0 {
			t.Errorf("one request waits %v and the others %v, want 300ms and 0s", one, others)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "deadline exceeded") {
			t.Errorf("the log: %s", &log)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 1300*time.Millisecond {
			t.Errorf("closing: %v after %v", err, time.Since(begin))
		}
		if _, err := c.Sum(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a sum: %v", err)
		}
	})
}

// Who wants to read while another writes waits, but not for ever.
func TestASumWaitsForAWriteWithinItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := time.Now
		c := figures.New(figures.Config{
			Store: &figurestest.Faulty{Store: figures.NewMemory(), Before: hang}, Log: slog.New(slog.DiscardHandler), Now: clock,
		})
		c.Count(200, "")
		var group sync.WaitGroup
		group.Go(func() { c.Flush(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if _, err := c.Sum(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		group.Wait()
	})
}

// However long the store is away, no more than the minutes of a sum are kept.
func TestTheMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := testclock.New(figurestest.Start)
	j := &journal{Store: figures.NewMemory(), err: errors.New("away")}
	c := figurestest.New(j, clock, nil)
	for range 100 {
		c.Count(200, "")
		c.Flush(t.Context())
		clock.Advance(time.Minute)
	}
	j.take()
	j.fail(nil)
	c.Count(200, "")
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := j.take(), "13:36:00:1 13:37:00:1 13:38:00:1 13:39:00:1 13:40:00:1"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func BenchmarkCountAndFlush(b *testing.B) {
	c := figures.New(figures.Config{Store: figures.NewMemory(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c.Count(200, "")
			c.Flush(b.Context())
		}
	})
}
