package invoke_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
)

// storeTraffic counts what an instance asks Firestore for.
type storeTraffic struct{ reads, queries, writes, connections atomic.Int64 }

func (c *storeTraffic) options() []option.ClientOption {
	note := func(_ string, message any) {
		switch r := message.(type) {
		case *firestorepb.BatchGetDocumentsRequest:
			c.reads.Add(int64(len(r.Documents)))
		case *firestorepb.RunQueryRequest:
			c.queries.Add(1)
		case *firestorepb.CommitRequest:
			c.writes.Add(int64(len(r.Writes)))
		}
	}
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		c.connections.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return append(emulator.Tap(note), option.WithGRPCDialOption(grpc.WithContextDialer(dial)))
}

// onFirestore returns two instances with clients of their own, and their traffic.
func onFirestore(t *testing.T, gemini *geminitest.Server) (a, b *instance, ofA, ofB *storeTraffic) {
	t.Helper()
	host, project := emulator.Host(t), emulator.Project()
	start := func() (*instance, *storeTraffic) {
		traffic := &storeTraffic{}
		i := &instance{Store: firestore.NewSessions(emulator.Connect(t, host, project, traffic.options()...), time.Hour, time.Now)}
		i.Server, _ = serve(t, i, gemini)
		return i, traffic
	}
	a, ofA = start()
	b, ofB = start()
	return a, b, ofA, ofB
}

// However many watch a run that another instance works on, its record is read once a
// second, over one connection, and each watcher sees each character once.
func TestAThousandWatchers(t *testing.T) {
	t.Parallel()
	const watchers = 1000
	gemini := geminitest.Start(t)
	a, b, _, traffic := onFirestore(t, gemini)
	var pieces []string
	for i := range 40 {
		pieces = append(pieces, fmt.Sprintf("piece %d 🦀 ", i))
	}
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text(pieces...).WithDelay(60*time.Millisecond).WithGate(20, gate))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	before := own.until(t, "delta")
	run := runID(t, before[0])
	begun := time.Now()
	texts := make([]string, watchers)
	var joined, all sync.WaitGroup
	for n := range watchers {
		joined.Add(1)
		all.Go(func() {
			w := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
			joined.Done()
			var events []sent
			for e := range w.events {
				events = append(events, e)
			}
			if len(events) == 0 || events[len(events)-1].name != "done" {
				t.Errorf("watcher %d: %d, %d events", n, w.status, len(events))
				return
			}
			texts[n] = shows(t, events...)
		})
	}
	joined.Wait()
	close(gate)
	all.Wait()
	took := time.Since(begun)
	want := strings.Join(pieces, "")
	for n, text := range texts {
		if text != want {
			t.Fatalf("watcher %d has %q", n, text)
		}
	}
	if got := shows(t, append(before, own.until(t, "done")...)...); got != want {
		t.Errorf("its own client has %q", got)
	}
	// Beside one read a second and the first, the session: in two looks at most before
	// there is a record, and for the turn.
	reads, most := traffic.reads.Load(), int64(took/time.Second)+1+3
	t.Logf("%d watchers in %v: %d reads, %d queries, %d writes, %d connections", watchers, took.Round(time.Millisecond), reads, traffic.queries.Load(), traffic.writes.Load(), traffic.connections.Load())
	if reads > most || traffic.queries.Load() > 0 || traffic.writes.Load() > 0 {
		t.Errorf("%d reads, want at most %d", reads, most)
	}
	if n := traffic.connections.Load(); n > 2 {
		t.Errorf("%d connections", n)
	}
}
