package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// A runEvent is an event of a run, with its id.
type runEvent struct {
	name, id, text string
	run, finish    string
}

// runEvents reads an event stream until do returns false or the stream ends.
func runEvents(ctx context.Context, s *service, method, path string, body any, do func(runEvent) bool, headers ...string) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	// Not the service's client, which holds answers to the document: a stream that is
	// resumed begins in the middle.
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: status %d", method, path, response.StatusCode)
	}
	var e runEvent
	lines := bufio.NewScanner(response.Body)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			var data struct {
				Text  string
				RunID string `json:"run_id"`
				Data  struct {
					FinishReason string `json:"finish_reason"`
				}
			}
			if err := json.Unmarshal([]byte(value), &data); err != nil {
				return err
			}
			e.text, e.run, e.finish = data.Text, data.RunID, data.Data.FinishReason
		case "":
			if e.name != "" && !do(e) {
				return nil
			}
			e = runEvent{}
		}
	}
	return lines.Err()
}

// percentiles returns the median and the 99th percentile.
func percentiles(all []time.Duration) (median, p99 time.Duration) {
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// latencyRuns is the environment variable with the number of runs that
// TestStopLatencyAndResumeGap makes. The figures in docs/performance.md are of 500.
const latencyRuns = "LATENCY_RUNS"

// How long it takes until the model call of a run that was stopped from another process
// ends, and until a client that was cut off sees more text from another process: on two
// processes and Firestore's emulator, a few runs at a time.
func TestStopLatencyAndResumeGap(t *testing.T) {
	slowtest.Skip(t, "latencies of runs on two processes")
	const atOnce = 12
	runs := 48
	if asked := os.Getenv(latencyRuns); asked != "" {
		var err error
		if runs, err = strconv.Atoi(asked); err != nil || runs < 2 {
			t.Fatalf("%s must be the number of runs, is %q", latencyRuns, asked)
		}
	}
	gemini := geminitest.Start(t)
	var pieces []string
	for i := range 60 {
		pieces = append(pieces, fmt.Sprintf("piece %d ", i))
	}
	gemini.Handle(func(geminitest.Request) geminitest.Reply {
		return geminitest.Text(pieces...).WithDelay(100 * time.Millisecond)
	})
	env := append([]string{"GEMINI_API_KEY=" + apiKey, "GOOGLE_GEMINI_BASE_URL=" + gemini.URL, "MODEL_FALLBACKS=none",
		"RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000"}, firestore(emulatorHost(t))...)
	a, b := startLocal(t, env...), startLocal(t, env...)
	whole := strings.Join(pieces, "")
	var mu sync.Mutex
	var stops, ends, resumes []time.Duration
	asks := map[string]time.Time{} // when a stop was asked for, by query
	var work sync.WaitGroup
	numbers := make(chan int)
	for range atOnce {
		work.Go(func() {
			for n := range numbers {
				query := fmt.Sprintf("question %d", n)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				err := func() error {
					defer cancel()
					begun, after := time.Now(), 1100*time.Millisecond+rand.N(1500*time.Millisecond)
					var run, last, text, finish string
					var asked time.Time
					stop := n%2 == 0
					stopped := make(chan error, 1)
					err := runEvents(ctx, a, http.MethodPost, "/invoke", map[string]any{"query": query, "stream": true, "on_disconnect": "continue"}, func(e runEvent) bool {
						run, last, text, finish = cmp.Or(e.run, run), e.id, text+e.text, e.finish
						if time.Since(begun) < after || !asked.IsZero() {
							return true
						}
						asked = time.Now()
						if stop {
							go func() {
								response, err := b.open(ctx, http.MethodPost, "/runs/"+run+"/stop", nil)
								if err == nil {
									_ = response.Body.Close()
									if response.StatusCode != http.StatusAccepted {
										err = fmt.Errorf("a stop: status %d", response.StatusCode)
									}
								}
								stopped <- err
							}()
						}
						return stop
					})
					if err != nil {
						return err
					}
					if stop {
						took := time.Since(asked)
						if err := <-stopped; err != nil {
							return err
						}
						if finish != "STOPPED" || !strings.HasPrefix(whole, text) {
							return fmt.Errorf("stopped: %s, %q", finish, text)
						}
						mu.Lock()
						defer mu.Unlock()
						asks[query], ends = asked, append(ends, took)
						return nil
					}
					var more time.Duration
					err = runEvents(ctx, b, http.MethodGet, "/runs/"+run+"/events", nil, func(e runEvent) bool {
						if e.name == "delta" && more == 0 {
							more = time.Since(asked)
						}
						text += e.text
						return true
					}, "Last-Event-ID", last)
					if err != nil {
						return err
					}
					if text != whole {
						return fmt.Errorf("resumed: %q", text)
					}
					mu.Lock()
					defer mu.Unlock()
					resumes = append(resumes, more)
					return nil
				}()
				if err != nil {
					t.Errorf("run %d: %v", n, err)
				}
			}
		})
	}
	for n := range runs {
		numbers <- n
	}
	close(numbers)
	work.Wait()
	for _, r := range gemini.Requests() {
		asked, ok := asks[geminitest.TextOf(r.Contents()[0])]
		if !ok {
			continue
		}
		if r.Cancelled.IsZero() {
			t.Errorf("a model call was heard to its end although its run was stopped")
			continue
		}
		stops = append(stops, r.Cancelled.Sub(asked))
	}
	if len(stops) == 0 || len(stops) != len(ends) || len(resumes) == 0 {
		t.Fatalf("measured %d of %d stops and %d resumes", len(stops), len(ends), len(resumes))
	}
	for _, of := range []struct {
		what  string
		took  []time.Duration
		limit time.Duration
	}{
		{"a stop ends the model call", stops, 1500 * time.Millisecond},
		{"a stop ends the stream, with the turn stored", ends, 2 * time.Second},
		{"a resume shows more", resumes, 2500 * time.Millisecond}, // a write, and a read, each once a second
	} {
		median, p99 := percentiles(of.took)
		t.Logf("%s (%d): median %v, p99 %v, at most %v", of.what, len(of.took), median, p99, of.took[len(of.took)-1])
		if p99 > of.limit {
			t.Errorf("%s after %v, want at most %v", of.what, p99, of.limit)
		}
	}
}
