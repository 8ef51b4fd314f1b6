// Command growth measures how what a turn costs grows with what there is: the
// turns of a session, the sessions of an owner, callers, instances, the size of
// an answer and of files, runs that wait, watchers. It writes the figures and a plot of each:
//
//	cd bench
//	go run ./growth        some minutes; gcloud and Java for Firestore's emulator
//	go run ./growth -draw  draws what is kept
//
// Everything runs in this process, with the real SDK and a model that answers at
// once, so that only the project is measured. Allocations are the same
// on every machine; times are of this one.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/bench/internal/plot"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

func main() {
	out := flag.String("out", "results/growth.json", "`file` for the figures")
	images := flag.String("plots", "../docs/img", "`folder` for the plots")
	scale := flag.Float64("scale", 1, "how far to go, of the whole way")
	only := flag.String("only", "", "measure only these `plots`, with commas between, by the end of their files' names")
	onlyDraw := flag.Bool("draw", false, "measure nothing: draw the figures of -out")
	flag.Parse()
	if *onlyDraw {
		plots, err := read(*out)
		if err == nil {
			err = draw(plots, *images)
		}
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	host, stop, err := emulator.Start()
	if err == nil {
		err = run(context.Background(), host, *out, *images, *only, *scale)
		stop()
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run measures with Firestore's emulator at host: everything, or only what is named. What is
// not measured stays as it was.
func run(ctx context.Context, host, out, images, only string, scale float64) error {
	upTo := func(all ...int) []int {
		most := float64(all[len(all)-1]) * scale
		for len(all) > 1 && float64(all[len(all)-1]) > most {
			all = all[:len(all)-1]
		}
		return all
	}
	plots, err := read(out)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		name    string
		measure func() (plot.Plot, error)
	}{
		{"session-length", func() (plot.Plot, error) { return sessionLength(ctx, upTo(1, 10, 50, 100, 200, 500, 1000, 2000)) }},
		{"sessions", func() (plot.Plot, error) { return sessions(ctx, host, upTo(1, 10, 100, 1000, 10_000, 100_000)) }},
		{"callers", func() (plot.Plot, error) { return callers(ctx, upTo(1, 10, 100, 1000, 10_000)) }},
		{"instances", func() (plot.Plot, error) { return instances(ctx, upTo(1, 2, 3, 4, 5, 6, 7, 8)) }},
		{"answer", func() (plot.Plot, error) { return answers(ctx, upTo(1, 4, 16, 64, 128, 256)) }},
		{"files", func() (plot.Plot, error) { return attachments(ctx, upTo(64, 256, 1024, 2048, 4096, 7168)) }},
		{"stored-length", func() (plot.Plot, error) { return storedLength(ctx, host, upTo(1, 10, 100, 200, 500, 1000, 2000)) }},
		{"waiting", func() (plot.Plot, error) { return waitingRuns(ctx, host, upTo(1, 10, 100, 1000, 10_000)) }},
		{"watchers", func() (plot.Plot, error) { return watchers(ctx, host, upTo(1, 10, 100, 1000)) }},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), m.name) {
			continue
		}
		log.Printf("measuring %s", m.name)
		p, err := m.measure()
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		p.File = "growth-" + m.name + ".svg"
		plots = append(slices.DeleteFunc(plots, func(old plot.Plot) bool { return old.File == p.File }), p)
		raw, err := json.MarshalIndent(plots, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	return draw(plots, images)
}

// read returns the figures that are kept in file, none if it is not there.
func read(file string) (plots []plot.Plot, err error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(raw, &plots)
	return plots, err
}

func draw(plots []plot.Plot, images string) error {
	for _, p := range plots {
		if err := os.WriteFile(filepath.Join(images, p.File), []byte(p.SVG()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cost is what f takes once, the median of some times, and what it allocates.
func cost(times int, f func() error) (took time.Duration, bytes float64, err error) {
	all := make([]time.Duration, times)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range all {
		begin := time.Now()
		if err := f(); err != nil {
			return 0, 0, err
		}
		all[i] = time.Since(begin)
	}
	runtime.ReadMemStats(&after)
	return middle(all), float64(after.TotalAlloc-before.TotalAlloc) / float64(times), nil
}

func middle(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// add appends a point to each series.
func add(x int, series []plot.Series, ys ...float64) {
	for i, y := range ys {
		series[i].Points = append(series[i].Points, plot.Point{X: float64(x), Y: y})
	}
}

var owner = session.OwnerOf("growth", "")

// sessionLength asks a session that has ever more turns.
func sessionLength(ctx context.Context, lengths []int) (plot.Plot, error) {
	store := session.NewMemory(time.Hour, 1<<30, time.Now, telemetry.Discard())
	ask := service(ctx, store, 200)
	const x = "turns of the session"
	series := []plot.Series{{Name: "a turn, µs", X: x, Y: "µs"}, {Name: "a turn, KiB allocated", X: x, Y: "KiB"}}
	id, turns := "", 0
	next := func() (err error) {
		id, err = ask(id)
		turns++
		return err
	}
	for _, length := range lengths {
		for turns < length {
			if err := next(); err != nil {
				return plot.Plot{}, err
			}
		}
		took, bytes, err := cost(10, next)
		if err != nil {
			return plot.Plot{}, err
		}
		add(length, series, micros(took), bytes/1024)
	}
	return plot.Plot{Title: "A turn, by the length of its session (memory store)", Series: series}, nil
}

// sessions lists ever more of an owner's.
func sessions(ctx context.Context, host string, counts []int) (plot.Plot, error) {
	const x = "sessions of the owner"
	series := []plot.Series{{Name: "first page, memory store, µs", X: x, Y: "µs"}, {Name: "second page, memory store, µs", X: x, Y: "µs"}}
	memory := session.NewMemory(time.Hour, 1<<30, time.Now, telemetry.Discard())
	if err := list(ctx, memory, counts, series, nil); err != nil {
		return plot.Plot{}, err
	}
	var asked atomic.Int64 // documents, by the last query
	client, err := emulator.Dial(ctx, host, emulator.Project(), emulator.Tap(func(_ string, message any) {
		if r, ok := message.(*firestorepb.RunQueryRequest); ok {
			asked.Store(int64(r.GetStructuredQuery().GetLimit().GetValue()))
		}
	})...)
	if err != nil {
		return plot.Plot{}, err
	}
	defer func() { _ = client.Close() }()
	theirs := []plot.Series{{Name: "first page, Firestore's emulator, µs", X: x, Y: "µs"}, {Name: "second page, Firestore's emulator, µs", X: x, Y: "µs"},
		{Name: "documents asked of it, second page", X: x, Y: "documents"}}
	if err := list(ctx, firestore.NewSessions(client, time.Hour, time.Now), counts, theirs, func() float64 { return float64(asked.Load()) }); err != nil {
		return plot.Plot{}, err
	}
	series = append(series, theirs...)
	return plot.Plot{Title: "Listing 20 sessions, by how many there are", Series: series}, nil
}

// list lists growing numbers of sessions. asked, if not nil, returns the third
// of the series after a second page.
func list(ctx context.Context, store session.Store, counts []int, series []plot.Series, asked func() float64) error {
	turn := session.Turn{ID: "id", Model: modelName, Contents: json.RawMessage(`[{"parts":[{"text":"Hello."}],"role":"user"}]`), CreatedAt: time.Now()}
	there := 0
	for _, count := range counts {
		group, writing := errgroup.WithContext(ctx)
		group.SetLimit(16)
		for ; there < count; there++ {
			group.Go(func() error {
				_, err := session.Commit(writing, store, session.New(session.Key{Owner: owner, ID: session.NewID()}), turn, session.Conditions{})
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		cursor := ""
		first, _, err := cost(5, func() (err error) {
			_, cursor, err = store.List(ctx, owner, 20, "")
			return err
		})
		if err != nil {
			return err
		}
		second, _, err := cost(5, func() error {
			_, _, err := store.List(ctx, owner, 20, cursor)
			return err
		})
		if err != nil {
			return err
		}
		add(count, series[:2], micros(first), micros(second))
		if asked != nil {
			add(count, series[2:], asked())
		}
	}
	return nil
}

// callers takes permits for ever more callers.
func callers(ctx context.Context, counts []int) (plot.Plot, error) {
	const x = "callers in a minute"
	series := []plot.Series{{Name: "a permit, µs", X: x, Y: "µs"}, {Name: "memory held for a caller, bytes", X: x, Y: "bytes"}}
	for _, count := range counts {
		limiter := limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
		names := make([]string, count)
		for i := range names {
			names[i] = string(session.OwnerOf(fmt.Sprint(i), ""))
		}
		held := heap()
		i := 0
		take := func() error {
			_, err := limiter.Take(ctx, []limit.Rule{{Name: "end_user", Who: names[i%count], PerMinute: 1_000_000}}, limit.Turn)
			i++
			return err
		}
		for range count {
			if err := take(); err != nil {
				return plot.Plot{}, err
			}
		}
		grown := heap() - held
		took, _, err := cost(5000, take)
		if err != nil {
			return plot.Plot{}, err
		}
		if count < 100 { // a caller's part is lost in the rest
			add(count, series[:1], micros(took))
		} else {
			add(count, series, micros(took), max(0, grown)/float64(count))
		}
		runtime.KeepAlive(limiter)
	}
	return plot.Plot{Title: "A permit, by the number of callers", Series: series}, nil
}

func heap() float64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// counting counts the leases of the counters that instances share, each of which
// is a write of a document.
type counting struct {
	limit.Counters
	leases int
}

func (c *counting) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	c.leases++
	return c.Counters.Update(ctx, name, u)
}

// instances share a caller's 600 calls a minute evenly, at 5 a second.
func instances(ctx context.Context, counts []int) (plot.Plot, error) {
	series := []plot.Series{{Name: "leases a turn: a document's write each", X: "instances", Y: "writes"}}
	for _, count := range counts {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		shared := &counting{Counters: limit.NewMemory(clock)}
		all := make([]*limit.Limiter, count)
		for i := range all {
			all[i] = limit.New(limit.Config{Counters: shared, MaxInstances: count, Now: clock, Log: telemetry.Discard()})
		}
		const a = 5 * 60 // turns a minute
		for minute := range 5 {
			if minute == 1 {
				shared.leases = 0 // the first is no steady one
			}
			for i := range a {
				if _, err := all[i%count].Take(ctx, []limit.Rule{{Name: "caller", Who: "c", PerMinute: 600}}, limit.Turn); err != nil {
					return plot.Plot{}, err
				}
				now = now.Add(time.Minute / a)
			}
		}
		add(count, series, float64(shared.leases)/(4*a))
	}
	return plot.Plot{Title: "Writes for a limit, by the number of instances: one caller, 5 turns a second in all", Series: series}, nil
}

// answers are ever larger.
func answers(ctx context.Context, kib []int) (plot.Plot, error) {
	const x = "KiB of the answer"
	series := []plot.Series{{Name: "a turn, µs", X: x, Y: "µs"}, {Name: "a turn, KiB allocated", X: x, Y: "KiB"}}
	for _, size := range kib {
		store := session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())
		ask := service(ctx, store, size<<10)
		took, bytes, err := cost(30, func() error {
			_, err := ask("")
			return err
		})
		if err != nil {
			return plot.Plot{}, err
		}
		add(size, series, micros(took), bytes/1024)
	}
	return plot.Plot{Title: "A turn, by the size of its answer", Series: series}, nil
}

// attachments are files of a turn, ever larger.
func attachments(ctx context.Context, kib []int) (plot.Plot, error) {
	const x = "KiB of the file"
	series := []plot.Series{
		{Name: "a turn, ms", X: x, Y: "ms"}, {Name: "CPU, ms", X: x, Y: "ms"}, {Name: "KiB allocated", X: x, Y: "KiB"}, {Name: "KiB sent to the model", X: x, Y: "KiB"},
	}
	for _, size := range kib {
		sent := &sending{RoundTripper: cannedAnswer(200)}
		h := handler(ctx, session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard()), sent)
		image := make([]byte, size<<10)
		copy(image, "\x89PNG\r\n\x1a\n")
		body := fmt.Sprintf(`{"query": "What is in it?", "files": [{"type": "image/png", "data": %q}]}`, base64.StdEncoding.EncodeToString(image))
		const times = 5
		before := cpuTime()
		took, bytes, err := cost(times, func() error {
			_, err := post(ctx, h, body)
			return err
		})
		if err != nil {
			return plot.Plot{}, err
		}
		used := float64(cpuTime()-before) / float64(time.Millisecond) / times
		add(size, series, micros(took)/1000, used, bytes/1024, float64(sent.bytes.Load())/1024/times)
	}
	return plot.Plot{Title: "A turn, by the size of its file", Series: series}, nil
}

// sending counts the bytes of requests.
type sending struct {
	http.RoundTripper
	bytes atomic.Int64
}

func (s *sending) RoundTrip(r *http.Request) (*http.Response, error) {
	n, err := io.Copy(io.Discard, r.Body)
	s.bytes.Add(n)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = http.NoBody
	return s.RoundTripper.RoundTrip(r)
}

// canned is a model that answers at once, always alike.
type canned string

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(c))), Request: r}, err
}

const modelName = "gemini-2.5-flash"

// cannedAnswer is a model that answers with so many bytes of text.
func cannedAnswer(bytes int) http.RoundTripper {
	text := strings.Repeat("All work and no play. ", bytes/22+1)[:bytes]
	return canned(fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[{"text":%q}]},"finishReason":"STOP"}],`+
		`"usageMetadata":{"promptTokenCount":186,"candidatesTokenCount":64,"totalTokenCount":250}}`, text))
}

// handler is the whole service without a network.
func handler(ctx context.Context, store session.Store, gemini http.RoundTripper) http.Handler {
	client, err := model.New(ctx, model.Config{
		APIKey: "x", BaseURL: "http://gemini.test", Models: []string{modelName}, BreakerFailures: 5, BreakerCooldown: time.Minute, Transport: gemini,
	})
	if err != nil {
		log.Fatal(err) // of constants
	}
	types, err := files.ParseTypes(files.Default)
	if err != nil {
		log.Fatal(err) // of constants
	}
	s := invoke.New(invoke.Config{
		Agent: agent.Agent{Name: "growth", MaxTokens: 2048},
		Model: client, ModelName: modelName, Store: store, Timeout: time.Minute, MaxBodyBytes: 1 << 20, MaxOutputTokens: 1 << 20,
		HistoryTokens: 32000, MaxToolRounds: 8, Log: telemetry.Discard(), Now: time.Now,
		Files: invoke.Files{Types: types, MaxBytes: 7 << 20, TTL: time.Hour},
	})
	return middleware.New(middleware.Config{Log: telemetry.Discard(), Gate: &drain.Gate{}, Now: time.Now, Authenticator: auth.New(&auth.None{})}, s.Routes())
}

// service returns a func that asks a session ("": a new one) and returns its id.
func service(ctx context.Context, store session.Store, answer int) func(id string) (string, error) {
	h := handler(ctx, store, cannedAnswer(answer))
	return func(id string) (string, error) {
		body := `{"query": "Which deployment option suits a small service, and why?"`
		if id != "" {
			body += fmt.Sprintf(`, "session_id": %q`, id)
		}
		return post(ctx, h, body+"}")
	}
}

// post makes a turn and returns its session.
func post(ctx context.Context, h http.Handler, body string) (session string, err error) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/invoke", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var a struct {
		Data struct {
			SessionID string `json:"session_id"`
		} `json:"data"`
	}
	if w.Code != http.StatusOK {
		return "", fmt.Errorf("answered %d: %.200s", w.Code, w.Body)
	}
	err = json.Unmarshal(w.Body.Bytes(), &a)
	return a.Data.SessionID, err
}
