package invoke_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
)

// Whoever watches on another instance sees what the run shows while it goes on. When the last
// one has left, nothing reads its record any more.
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
	close(gate)
	if got := elsewhere.until(t, "delta"); got[0].data != `{"text":"two "}` {
		t.Errorf("it shows %v", got)
	}
	elsewhere.leave()
	elsewhere.until(t, "")
	left := reads.Load()
	time.Sleep(2500 * time.Millisecond) // it was read once a second
	if n := reads.Load(); n > left+1 {
		t.Errorf("the record was read %d times after the last watcher had left", n-left)
	}
}
