package e2e_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// A crowd is what many clients at once saw.
type crowd struct {
	answered, refused []time.Duration // how long each took, sorted
}

// at returns a quantile of sorted times.
func at(times []time.Duration, share float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[min(int(share*float64(len(times))), len(times)-1)].Round(100 * time.Microsecond)
}

func (c *crowd) add(other crowd) {
	c.answered = append(c.answered, other.answered...)
	c.refused = append(c.refused, other.refused...)
	slices.Sort(c.answered)
	slices.Sort(c.refused)
}

// press lets so many clients call for a while, each as soon as it has its
// answer. One that is refused comes again after a tenth of a second. begun is
// called while they do.
func (s *service) press(ctx context.Context, t *testing.T, clients int, length time.Duration, begun func()) crowd {
	t.Helper()
	var mu sync.Mutex
	var seen crowd
	var wait sync.WaitGroup
	end := time.Now().Add(length)
	for range clients {
		wait.Go(func() {
			for time.Now().Before(end) {
				begin := time.Now()
				var a answer
				response, err := s.open(ctx, http.MethodPost, "/invoke", map[string]any{"query": "hello"})
				if err == nil {
					a, err = whole(response)
				}
				took := time.Since(begin)
				o, readErr := outcomeOf(a)
				switch {
				case err != nil || readErr != nil:
					t.Errorf("no answer: %v, %v", err, readErr)
					return
				case o.turn != nil:
					mu.Lock()
					seen.answered = append(seen.answered, took)
					mu.Unlock()
				case o.code == "overloaded" && a.Status == http.StatusServiceUnavailable && o.wait >= time.Second:
					mu.Lock()
					seen.refused = append(seen.refused, took)
					mu.Unlock()
					if rest(ctx, 100*time.Millisecond) != nil {
						return
					}
				default:
					t.Errorf("status %d: %s", a.Status, a.Body)
					return
				}
			}
		})
	}
	if rest(ctx, length/2) == nil {
		begun()
	}
	wait.Wait()
	return seen
}

// whole reads the rest of an answer, and nothing into it.
func whole(response *http.Response) (answer, error) {
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, body}, err
}

// manyConnections lets the client keep as many idle connections as it makes calls;
// otherwise it would open new ones all the time.
func (s *service) manyConnections(t *testing.T, most int) {
	transport := &http.Transport{MaxIdleConnsPerHost: most}
	t.Cleanup(transport.CloseIdleConnections)
	s.client.Transport = transport
}

// TestFourTimesTheLoad compares the service at its bound with four times as many
// clients, by turns in one run: those let in must not feel the others.
func TestFourTimesTheLoad(t *testing.T) {
	slowtest.Skip(t, "four times the load")
	const bound = 12 // of one caller: three quarters of all
	s, gemini := startGemini(t, "MAX_CONCURRENT="+strconv.Itoa(bound/3*4), "LOG_LEVEL=error", "AUDIT_LOG=off")
	gemini.Handle(func(geminitest.Request) geminitest.Reply {
		return geminitest.Text("Here.").WithDelay(100 * time.Millisecond)
	})
	s.manyConnections(t, 4*bound)
	ctx := bounded(t)
	s.press(ctx, t, bound, 500*time.Millisecond, func() {}) // connections, pools
	before, during := s.memory(), 0
	var alone, among crowd
	for range 3 {
		alone.add(s.press(ctx, t, bound, time.Second, func() {}))
		among.add(s.press(ctx, t, 4*bound, time.Second, func() { during = max(during, s.memory()) }))
	}
	// The very next calls find their places again.
	after := s.press(ctx, t, bound, time.Second, func() {})
	slices.Sort(after.answered)
	left := s.memory()
	t.Logf("answered in p50 %v, p99 %v at the bound (%d); %v, %v at four times (%d), %d refused in p50 %v, p99 %v; afterwards %v, %v; memory before, during, after: %d, %d, %d MiB",
		at(alone.answered, .5), at(alone.answered, .99), len(alone.answered), at(among.answered, .5), at(among.answered, .99), len(among.answered),
		len(among.refused), at(among.refused, .5), at(among.refused, .99), at(after.answered, .5), at(after.answered, .99), before, during, left)
	if len(alone.refused)+len(after.refused) != 0 {
		t.Errorf("%d refused at the bound, %d right after the load", len(alone.refused), len(after.refused))
	}
	if len(among.refused) == 0 {
		t.Fatal("nobody was refused at four times the load")
	}
	// Generous, for clients and stand-ins share the machine: a queue would make
	// them wait four times as long.
	if got, most := at(among.answered, .5), at(alone.answered, .5)*3/2; got > most {
		t.Errorf("half of those let in waited over %v, at most %v wanted", got, most)
	}
	if got, most := at(among.answered, .99), at(alone.answered, .99)*2+100*time.Millisecond; got > most {
		t.Errorf("p99 of those let in is %v, at most %v wanted", got, most)
	}
	if got, most := at(among.refused, .5), at(alone.answered, .5)/2; got > most {
		t.Errorf("half of those refused waited over %v, at most %v wanted", got, most)
	}
	// The race detector's own memory grows with each goroutine that has been, and is in
	// the figures: .ci/run has this test without it too.
	if most := before + 64; !raceDetector && (during > most || left > most) {
		t.Errorf("memory went from %d to %d, and then %d MiB", before, during, left)
	}
}

// TestManyStreams has a thousand streams open at once, and then ends them all.
func TestManyStreams(t *testing.T) {
	slowtest.Skip(t, "a thousand streams")
	const streams = 1000 // of one caller: three quarters of all
	s, gemini := startGemini(t, "MAX_CONCURRENT="+strconv.Itoa(streams*4/3), "REQUEST_TIMEOUT=60s", "LOG_LEVEL=error", "AUDIT_LOG=off")
	gate := make(chan struct{})
	gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("one ", "two").WithGate(1, gate) })
	s.manyConnections(t, streams)
	before := s.memory()
	ctx := bounded(t)
	opened, bodies := make([]*http.Response, streams), make([]answer, streams)
	var wait sync.WaitGroup
	begin := time.Now()
	for i := range streams {
		wait.Go(func() {
			var err error
			// Its header comes with the first event.
			if opened[i], err = s.open(ctx, http.MethodPost, "/invoke", map[string]any{"query": "hello"}, events...); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	wait.Wait()
	during := s.memory()
	t.Logf("%d streams open after %v", streams, time.Since(begin).Round(time.Millisecond))
	wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "One more?"}), http.StatusServiceUnavailable, "overloaded")
	close(gate)
	for i, response := range opened {
		if response == nil {
			continue
		}
		wait.Go(func() {
			var err error
			if bodies[i], err = whole(response); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	wait.Wait()
	for i, a := range bodies {
		o, err := outcomeOf(a)
		if err != nil || o.turn == nil || o.turn.Response != "one two" {
			t.Fatalf("stream %d: %v, %+v: %.300s", i, err, o, a.Body)
		}
	}
	t.Logf("all ended after %v; memory before, during, after: %d, %d, %d MiB", time.Since(begin).Round(time.Millisecond), before, during, s.memory())
	// About as much as bufio, HTTP and the stacks of both sides of each take.
	if most := before + 256; !raceDetector && during > most {
		t.Errorf("memory went from %d to %d MiB", before, during)
	}
}
