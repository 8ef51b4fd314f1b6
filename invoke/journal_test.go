package invoke_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A long stream writes its record once a second at most, and not in its first second, however
// often its model speaks.
func TestALongStreamWritesOnceASecond(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	var mu sync.Mutex
	var commits []time.Time
	tap := emulator.Tap(func(_ string, message any) {
		if _, ok := message.(*firestorepb.CommitRequest); ok {
			mu.Lock()
			defer mu.Unlock()
			commits = append(commits, time.Now())
		}
	})
	i := &instance{Store: firestore.NewSessions(emulator.Client(t, tap...), time.Hour, time.Now)}
	i.Server, _ = serve(t, i, gemini)
	var pieces []string
	for n := range 90 {
		pieces = append(pieces, fmt.Sprintf("piece %d ", n))
	}
	gemini.Enqueue(geminitest.Text(pieces...).WithDelay(50 * time.Millisecond))
	begun := time.Now()
	i.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done")
	took := time.Since(begun)
	mu.Lock()
	defer mu.Unlock()
	// The last one has the turn. A write may be late on a busy machine, and none is early.
	if most, least := int(took/time.Second)+1, 3; len(commits) > most || len(commits) < least {
		t.Errorf("%d writes in %v, want %d to %d", len(commits), took, least, most)
	}
	if first := commits[0].Sub(begun); first < time.Second {
		t.Errorf("the first write came after %v", first)
	}
	t.Logf("%d writes in %v, the first after %v", len(commits), took, commits[0].Sub(begun))
}

// A meddled store has the record of a run changed right before its holder's next writes.
type meddled struct {
	session.Store
	changes chan func(*session.Run)
}

func (m *meddled) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if r.Revision != nil { // there is a record
		select {
		case change := <-m.changes:
			stored, err := m.Store.LoadRun(ctx, r.Key, r.ID)
			if err != nil {
				return nil, err
			}
			change(stored)
			if _, err := m.Store.SaveRun(ctx, stored); err != nil {
				return nil, err
			}
		default:
		}
	}
	return m.Store.SaveRun(ctx, r)
}

// A run goes on when webhooks are set between the tries of a write, and a stop that comes there
// is met as any other.
func TestChangesBetweenTheTriesOfAWrite(t *testing.T) {
	t.Parallel()
	set := func(r *session.Run) { r.Deliveries = json.RawMessage(`{"webhook":"https://hooks.example.com/first"}`) }
	for _, test := range []struct {
		name         string
		last         func(*session.Run)
		webhook      string
		text, finish string
	}{
		{"webhooks", func(r *session.Run) { r.Deliveries = json.RawMessage(`{"webhook":"https://hooks.example.com/last"}`) }, "/last", "one two", "STOP"},
		{"a webhook, and then a stop", func(r *session.Run) { r.Stop = true }, "/first", "one ", "STOPPED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			store := &meddled{newMemory(), make(chan func(*session.Run), 3)}
			i := &instance{Store: store}
			i.Server, _ = serve(t, i, gemini)
			gate := make(chan struct{})
			open := sync.OnceFunc(func() { close(gate) })
			defer open()
			gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
			store.changes <- set
			store.changes <- set
			store.changes <- func(r *session.Run) {
				if test.last(r); !r.Stop {
					open()
				}
			}
			run := runID(t, i.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done")[0])
			if text, finish := stored(t, i, run); text != test.text || finish != test.finish {
				t.Errorf("stored: %q, %s", text, finish)
			}
			_, turn, _ := session.SplitRunID(run)
			i.mu.Lock()
			defer i.mu.Unlock()
			if got := string(i.records[turn].Deliveries); !strings.Contains(got, test.webhook) {
				t.Errorf("delivered to %s, want %s", got, test.webhook)
			}
		})
	}
}

// An effect whose write meets a webhook is in the ledger before it begins.
func TestAnEffectThatMeetsAWebhook(t *testing.T) {
	t.Parallel()
	memory := newMemory()
	store := &meddled{memory, make(chan func(*session.Run), 1)}
	b, ctx := &bank{}, ofCaller(t, "ada")
	b.pay = func(_ context.Context, id string) error {
		runs, _, err := memory.ListRuns(t.Context(), session.OwnerOf("ada", ""), session.RunFilter{}, 1, "")
		if err != nil || len(runs) != 1 {
			t.Fatal(runs, err)
		}
		if record, err := memory.LoadRun(t.Context(), runs[0].Key, runs[0].ID); err != nil || record.Effects[id].Name != "pay" || record.Deliveries == nil {
			t.Errorf("the ledger has %+v, %v", record, err)
		}
		return nil
	}
	s := asked(t, store, geminitest.Start(t), b.agent(tool.Effect(b.reconcile)))
	store.changes <- func(r *session.Run) { r.Deliveries = json.RawMessage(`{"webhook":"https://hooks.example.com/first"}`) }
	if _, err := s.CallTool(ctx, callOf(t, "pay", paysAnn), invoke.Options{Key: "k"}); err != nil || b.sum() != 7 {
		t.Errorf("paid %d, %v", b.sum(), err)
	}
}

// slowly is a model whose answer comes in two pieces.
type slowly struct{}

func (slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, r.Body)
	piece := func(end string) string {
		return `data: {"candidates":[{"content":{"role":"model","parts":[{"text":"Cloud Run suits most services."}]}` + end + "}\n\n"
	}
	body := piece("}]") + piece(`,"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":186,"candidatesTokenCount":64,"totalTokenCount":250}`)
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, err
}

// BenchmarkFirstText measures the time until a stream shows its first text: of a run with a
// journal, and of one that has none because it belongs to no session. The journal writes
// nothing in its first second, so what it costs is to make it.
func BenchmarkFirstText(b *testing.B) {
	client, err := model.New(b.Context(), model.Config{
		APIKey: "x", BaseURL: "http://gemini.test", Transport: slowly{}, Models: []string{"gemini-2.5-flash"}, BreakerFailures: 5, BreakerCooldown: time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	s := invoke.New(invoke.Config{
		Agent: agent.Agent{Name: "agent", MaxTokens: 100}, Model: client, ModelName: "gemini-2.5-flash",
		Store:   session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard()),
		Timeout: 30 * time.Second, MaxBodyBytes: 128 << 10, MaxOutputTokens: 4096, HistoryTokens: 32000, MaxToolRounds: 8,
		Limiter: limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()}),
		Log:     telemetry.Discard(), Now: time.Now,
	})
	for _, off := range []bool{false, true} {
		b.Run(map[bool]string{false: "with a journal", true: "without"}[off], func(b *testing.B) {
			var firsts []time.Duration
			for b.Loop() {
				begun, first := time.Now(), time.Duration(0)
				_, err := s.Ask(ofCaller(b, "caller"), invoke.Request{Query: "hello", Options: invoke.Options{Sessionless: off}}, func(e invoke.Event) error {
					if e.Kind == session.KindText && first == 0 {
						first = time.Since(begun)
					}
					return nil
				})
				if err != nil || first == 0 {
					b.Fatal(first, err)
				}
				firsts = append(firsts, first)
			}
			slices.Sort(firsts)
			b.ReportMetric(float64(firsts[len(firsts)/2].Nanoseconds()), "first-p50-ns")
			b.ReportMetric(float64(firsts[len(firsts)*99/100].Nanoseconds()), "first-p99-ns")
		})
	}
}
