package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"example.com/gatehouse/bench/internal/plot"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
)

// traffic counts what one client asks of Firestore and what goes over its connections.
type traffic struct {
	reads, writes, trips atomic.Int64 // documents read, counting each that a query may return; documents written; calls
	in, out, connections atomic.Int64 // bytes
}

// store returns a store on the emulator's database, with its traffic.
func store(ctx context.Context, host, project string) (*firestore.Sessions, *traffic, func(), error) {
	t := &traffic{}
	note := func(_ string, message any) {
		t.trips.Add(1)
		switch r := message.(type) {
		case *firestorepb.BatchGetDocumentsRequest:
			t.reads.Add(int64(len(r.Documents)))
		case *firestorepb.RunQueryRequest:
			t.reads.Add(int64(r.GetStructuredQuery().GetLimit().GetValue()))
		case *firestorepb.CommitRequest:
			t.writes.Add(int64(len(r.Writes)))
		}
	}
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		t.connections.Add(1)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return counted{c, t}, err
	}
	client, err := emulator.Dial(ctx, host, project, append(emulator.Tap(note), option.WithGRPCDialOption(grpc.WithContextDialer(dial)))...)
	if err != nil {
		return nil, nil, nil, err
	}
	return firestore.NewSessions(client, time.Hour, time.Now), t, func() { _ = client.Close() }, nil
}

// A counted connection counts its bytes.
type counted struct {
	net.Conn
	t *traffic
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.t.in.Add(int64(n))
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.t.out.Add(int64(n))
	return n, err
}

// sum is what was counted so far.
func (t *traffic) sum() [5]float64 {
	return [5]float64{
		float64(t.reads.Load()), float64(t.writes.Load()), float64(t.trips.Load()), float64(t.in.Load()) / 1024, float64(t.out.Load()) / 1024,
	}
}

// each is what happens to Firestore at each of times calls of f.
func (t *traffic) each(times int, f func() error) ([]float64, error) {
	before := t.sum()
	for range times {
		if err := f(); err != nil {
			return nil, err
		}
	}
	after, out := t.sum(), make([]float64, len(before))
	for i := range out {
		out[i] = (after[i] - before[i]) / float64(times)
	}
	return out, nil
}

func trafficSeries(x string) []plot.Series {
	return []plot.Series{
		{Name: "documents read, at most", X: x, Y: "documents"}, {Name: "documents written", X: x, Y: "documents"}, {Name: "calls", X: x, Y: "calls"},
		{Name: "KiB received", X: x, Y: "KiB"}, {Name: "KiB sent", X: x, Y: "KiB"},
	}
}

// turnKB is a stored turn's size, about what cmd/cost assumes.
const turnKB = 4

// storedLength loads and commits turns of a session in Firestore that has ever more of them.
func storedLength(ctx context.Context, host string, lengths []int) (plot.Plot, error) {
	s, traffic, done, err := store(ctx, host, emulator.Project())
	if err != nil {
		return plot.Plot{}, err
	}
	defer done()
	series := trafficSeries("turns of the session")
	key := session.Key{Owner: owner, ID: session.NewID()}
	text := strings.Repeat("All work and no play. ", turnKB*1000/22)
	turns := 0
	next := func() error {
		turns++
		before, err := s.Load(ctx, key)
		if errors.Is(err, session.ErrNotFound) {
			before, err = session.New(key), nil
		}
		if err != nil {
			return err
		}
		turn := session.Turn{
			ID: fmt.Sprintf("turn-%d", turns), Model: modelName, CreatedAt: time.Now(),
			Contents: json.RawMessage(fmt.Sprintf(`[{"parts":[{"text":"Why?"}],"role":"user"},{"parts":[{"text":%q}],"role":"model"}]`, text)),
		}
		_, err = session.Commit(ctx, s, before, turn, session.Conditions{})
		return err
	}
	for _, length := range lengths {
		for turns < length {
			if err := next(); err != nil {
				return plot.Plot{}, err
			}
		}
		// So many that a part moves to the archive in some.
		y, err := traffic.each(min(100, 10+length/10), next)
		if err != nil {
			return plot.Plot{}, err
		}
		add(length, series, y...)
	}
	return plot.Plot{Title: "A turn of 4 kB in Firestore, by the length of its session", Series: series}, nil
}

// waitingRuns lists an owner's runs that wait for a person, and answers one.
func waitingRuns(ctx context.Context, host string, counts []int) (plot.Plot, error) {
	s, traffic, done, err := store(ctx, host, emulator.Project())
	if err != nil {
		return plot.Plot{}, err
	}
	defer done()
	const x = "runs that wait"
	list, answer := trafficSeries(x), trafficSeries(x)
	there := 0
	for _, count := range counts {
		group, writing := errgroup.WithContext(ctx)
		group.SetLimit(16)
		for ; there < count; there++ {
			group.Go(func() error { return wait(writing, s) })
		}
		if err := group.Wait(); err != nil {
			return plot.Plot{}, err
		}
		var page []*session.Run
		y, err := traffic.each(1, func() (err error) {
			page, _, err = s.ListRuns(ctx, owner, session.RunFilter{State: session.Waiting}, 20, "")
			return err
		})
		if err != nil || len(page) == 0 {
			return plot.Plot{}, errors.Join(err, fmt.Errorf("%d of %d runs that wait are listed", len(page), there))
		}
		add(count, list, y...)
		y, err = traffic.each(1, func() error {
			r, err := s.LoadRun(ctx, page[0].Key, page[0].ID)
			if err != nil {
				return err
			}
			next := *r
			next.State, next.Holder, next.Pending, next.Epoch = session.Working, "growth", nil, r.Epoch+1
			next.Answers = map[string]session.Answer{"1/c": {Approve: true, By: "growth", At: time.Now()}}
			_, err = s.SaveRun(ctx, &next)
			return err
		})
		if err != nil {
			return plot.Plot{}, err
		}
		there--
		add(count, answer, y...)
	}
	for i := range list {
		list[i].Name, answer[i].Name = "a page of 20: "+list[i].Name, "an answer: "+answer[i].Name
	}
	return plot.Plot{Title: "Runs that wait for a person, by how many do", Series: []plot.Series{list[0], list[2], list[3], answer[0], answer[1]}}, nil
}

// wait stores a run that waits for a person, with its turn.
func wait(ctx context.Context, s session.Store) error {
	key := session.Key{Owner: owner, ID: session.NewID()}
	pending := []session.Pending{{CallID: "c", Name: "pay", Args: map[string]any{"euros": 7}, Question: "Pay?", ExpiresAt: time.Now().Add(time.Hour).UTC()}}
	r := &session.Run{
		Key: key, ID: session.NewID(), State: session.Waiting, Turn: 1, Request: json.RawMessage(`{"query":"Pay them."}`),
		Checkpoint: json.RawMessage(`{"step":1}`), Pending: pending,
	}
	turn := session.Turn{
		ID: r.ID, Model: modelName, FinishReason: "WAITING", Pending: pending, CreatedAt: time.Now(),
		Contents: json.RawMessage(`[{"parts":[{"text":"Pay them."}],"role":"user"}]`),
	}
	_, err := session.Commit(ctx, s, session.New(key), turn, session.Conditions{Run: r})
	return err
}

// drip is a model that streams for some seconds.
type drip struct {
	pieces int
	gap    time.Duration
}

func (d drip) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	body, w := io.Pipe()
	go func() {
		for i := range d.pieces {
			finish := ""
			if i == d.pieces-1 {
				finish = `"finishReason":"STOP",`
			}
			if _, err := fmt.Fprintf(w, "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"piece %d \"}]},%s\"index\":0}],"+
				"\"usageMetadata\":{\"promptTokenCount\":186,\"candidatesTokenCount\":64,\"totalTokenCount\":250}}\r\n\r\n", i, finish); err != nil {
				return
			}
			select {
			case <-time.After(d.gap):
			case <-r.Context().Done():
			}
		}
		_ = w.Close()
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r}, nil
}

// watchers are ever more who watch one run, on another instance than the one that works on
// it.
func watchers(ctx context.Context, host string, counts []int) (plot.Plot, error) {
	const x = "watchers of one run"
	series := []plot.Series{
		{Name: "documents read a second", X: x, Y: "documents"}, {Name: "KiB received a second", X: x, Y: "KiB"}, {Name: "connections to Firestore", X: x, Y: "connections"},
		{Name: "CPU, ms a watcher, the clients' with it", X: x, Y: "ms"},
	}
	for _, count := range counts {
		y, err := watch(ctx, host, count)
		if err != nil {
			return plot.Plot{}, fmt.Errorf("%d watchers: %w", count, err)
		}
		add(count, series, y...)
	}
	return plot.Plot{Title: "Watching a run of four seconds on another instance", Series: series}, nil
}

func watch(ctx context.Context, host string, count int) ([]float64, error) {
	project := emulator.Project()
	instance := func() (*httptest.Server, *traffic, func(), error) {
		s, traffic, done, err := store(ctx, host, project)
		if err != nil {
			return nil, nil, nil, err
		}
		server := httptest.NewServer(handler(ctx, s, drip{40, 100 * time.Millisecond}))
		return server, traffic, func() { server.Close(); done() }, nil
	}
	works, _, done, err := instance()
	if err != nil {
		return nil, err
	}
	defer done()
	shows, traffic, done, err := instance()
	if err != nil {
		return nil, err
	}
	defer done()
	own, err := http.Post(works.URL+"/invoke", "application/json", strings.NewReader(`{"query": "Why?", "stream": true}`))
	if err != nil {
		return nil, err
	}
	defer func() { _ = own.Body.Close() }()
	run, err := begun(own.Body)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: count}}
	defer client.CloseIdleConnections()
	var (
		group errgroup.Group
		mu    sync.Mutex
		texts = map[int]int{} // by length
	)
	begin, before := time.Now(), cpuTime()
	for range count {
		group.Go(func() error {
			response, err := client.Get(shows.URL + "/runs/" + run + "/events")
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			mu.Lock()
			defer mu.Unlock()
			if !strings.Contains(string(body), "event: done") {
				err = errors.Join(err, fmt.Errorf("answered %s: %.300s", response.Status, body))
			}
			texts[strings.Count(string(body), "piece 39 ")]++
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	if len(texts) != 1 {
		return nil, fmt.Errorf("the watchers saw different ends: %v", texts)
	}
	sum := traffic.sum()
	return []float64{
		sum[0] / took.Seconds(), sum[3] / took.Seconds(), float64(traffic.connections.Load()),
		float64(cpuTime()-before) / float64(time.Millisecond) / float64(count),
	}, nil
}

// begun reads the id of the run that a stream begins with.
func begun(stream io.Reader) (string, error) {
	buffer := make([]byte, 4096)
	n, err := stream.Read(buffer)
	if err != nil {
		return "", err
	}
	_, rest, found := strings.Cut(string(buffer[:n]), `"run_id":"`)
	run, _, closed := strings.Cut(rest, `"`)
	if !found || !closed {
		return "", fmt.Errorf("no run in %q", buffer[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, stream) }() // until its body is closed
	return run, nil
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
