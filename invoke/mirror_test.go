package invoke_test

import (
	"bufio"
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
)

// Whoever watches on another instance sees what the run shows while it goes on, whoever else
// leaves. When the last one has left, nothing reads its record any more.
func TestARunIsReadElsewhereWhileItIsWatched(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	var reads atomic.Int64
	count := func() error { reads.Add(1); return nil }
	b.hook().loadRun.Store(&count)
	gate, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	gemini.Enqueue(geminitest.Text("one ", "two ", "three").WithGate(1, gate).WithGate(2, end))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	run := runID(t, own.until(t, "delta")[0])
	a.journaled(t, run, "one ")
	elsewhere := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	if got := shows(t, elsewhere.until(t, "delta")...); got != "one " {
		t.Errorf("it shows %q", got)
	}
	leaves := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	leaves.until(t, "delta")
	leaves.leave()
	leaves.until(t, "")
	close(gate)
	if got := elsewhere.until(t, "delta"); got[0].data != `{"text":"two "}` || !isRecorded(get(t, a.Server, "/runs/"+run)) {
		t.Errorf("it shows %v, or only once the run has ended", got)
	}
	elsewhere.leave()
	elsewhere.until(t, "")
	left := reads.Load()
	time.Sleep(2500 * time.Millisecond) // it was read once a second
	if n := reads.Load(); n > left+1 {
		t.Errorf("the record was read %d times after the last watcher had left", n-left)
	}
}

// A stream from the start on waits for its first event, since what fails before it is an ordinary
// answer. One that resumes may have to wait for long, so that it begins at once.
func TestHowAStreamBegins(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, _, _ := instances(t, gemini)
	gate := make(chan struct{})
	defer close(gate)
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	events := own.until(t, "delta")
	run := runID(t, events[0])
	for id, want := range map[string]string{"": "event: start\n", events[len(events)-1].id: ": resumed\n"} {
		ctx, leave := context.WithTimeout(t.Context(), 10*time.Second)
		defer leave()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+"/runs/"+run+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Last-Event-ID", id)
		if id == "" {
			r.Header.Del("Last-Event-ID")
		}
		response, err := a.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		if _ = response.Body.Close(); line != want {
			t.Errorf("after %q it begins with %q, %v", id, line, err)
		}
	}
}
