package explore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A process is an instance of the service.
type process struct {
	*service
	world   *world
	name    string
	alive   bool
	frozen  bool
	history uint64 // of what it has seen
	gate    drain.Gate
}

// A service is what of a process can be used again in another world, once nothing works
// there any more: to make one takes as long as a short world.
type service struct {
	*invoke.Service
	erase   api.Handler // DELETE /sessions/{id}
	clear   api.Handler // DELETE /sessions
	process *process    // whose it is now
}

var limits = limit.Limits{PerMinute: 1000, CallerPerMinute: 1000, PerDay: 1_000_000, CallerPerDay: 1_000_000}

const (
	modelName   = "model"
	turnTimeout = 30 * time.Second
	maxTokens   = 100
)

var (
	idleMu sync.Mutex
	idle   []*service
)

// newService returns a service that no world uses.
func newService() *service {
	idleMu.Lock()
	defer idleMu.Unlock()
	if n := len(idle); n > 0 {
		s := idle[n-1]
		idle = idle[:n-1]
		return s
	}
	s := &service{}
	s.Service = invoke.New(invoke.Config{
		Agent: agent.Agent{Name: "agent", MaxTokens: maxTokens, Tools: []tool.Tool{
			// What a tool's end is when nobody knows it, with and without a person asked before.
			tool.New(pay, "Pays.", s.effect(pay), tool.Effect(s.reconcile)),
			tool.New(fire, "Pays.", s.effect(fire), tool.Effect[struct{}, string](nil)),
			tool.New(send, "Pays.", s.effect(send), tool.Effect[struct{}, string](nil), tool.Confirm(func(struct{}) string { return "Pay?" })),
		}},
		ModelName: modelName, Limits: limits, Timeout: turnTimeout, MaxBodyBytes: 1 << 17, MaxOutputTokens: 4096,
		HistoryTokens: 32_000, MaxToolRounds: 4, Log: telemetry.Discard(), Now: time.Now, RunTimeout: turnTimeout, MaxBackground: 10,
	})
	for _, route := range s.Routes() {
		switch route.Pattern() {
		case "DELETE /sessions/{id}":
			s.erase = route.Handler
		case "DELETE /sessions":
			s.clear = route.Handler
		}
	}
	return s
}

// start starts a process in w.
func (w *world) start(name string) *process {
	p := &process{service: newService(), world: w, name: name, alive: true}
	p.service.process = p
	client, err := model.New(context.Background(), model.Config{
		APIKey: "key", BaseURL: "http://127.0.0.1", Loopback: true, Transport: p, Models: []string{modelName}, BreakerFailures: 1000, BreakerCooldown: time.Second,
	})
	if err != nil {
		panic(err) // the configuration above is wrong
	}
	p.Model, p.Store = client, &stepping{world: w, process: p}
	if p.ApprovalTTL = 0; w.expires {
		p.ApprovalTTL = 5477 * time.Millisecond // less than silence
	}
	if p.Queue, p.Webhooks = nil, nil; w.queued {
		p.Queue, p.Webhooks = p, p.newSender()
	}
	p.Limiter = limit.New(limit.Config{Counters: w.limits, MaxInstances: 3, Now: time.Now, Log: telemetry.Discard()})
	w.processes = append(w.processes, p)
	return p
}

// release makes what can be used again of w's processes available. Nothing may work in w
// any more.
func (w *world) release() {
	idleMu.Lock()
	defer idleMu.Unlock()
	for _, p := range w.processes {
		idle = append(idle, p.service)
	}
}

type actorKey struct{}

// actorOf returns who ctx works for.
func actorOf(ctx context.Context) string {
	name, _ := ctx.Value(actorKey{}).(string)
	if name == "" {
		name = "mirror"
	}
	return name
}

var owner = caller.New(caller.Principal{Issuer: "issuer", Subject: "ann", Method: "none"}, "")

// context returns the context of a request of an actor, with what the middleware enters
// in it.
func (p *process) context(ctx context.Context, actor string) (context.Context, context.CancelFunc) {
	ctx = context.WithValue(ctx, actorKey{}, actor)
	ctx = telemetry.WithRecord(api.WithRequestID(ctx, actor), &telemetry.Record{})
	return p.gate.Bind(caller.NewContext(ctx, owner))
}

// The remote is what models and tools reach: it sees what no store has.
type remote struct {
	starts map[string]int // of effects, by id
	acts   map[string]int // of them that took effect
	void   map[string]int // number of the last start that takes no effect any more
	asked  int            // calls of the model that began
	heard  int            // and were heard to their end
}

// The tools, and the question that is about none.
const (
	pay  = "pay"  // has reconcile
	fire = "fire" // has not
	send = "send" // asks a person
	talk = "talk"
)

// effect returns a tool's function.
func (s *service) effect(name string) func(context.Context, struct{}) (string, error) {
	return func(ctx context.Context, _ struct{}) (string, error) {
		p := s.process
		w, id := p.world, tool.From(ctx).EffectID
		begun := 0
		w.mu.Lock()
		if p.alive {
			w.starts[id]++
			begun = w.starts[id]
			w.starting(id, name)
			w.worksOn(p, name, "has an effect")
		}
		w.mu.Unlock()
		err := w.wait(ctx, &step{
			actor: actorOf(ctx), process: p, name: name, touches: []string{id}, write: true, broken: tool.ErrUnknown,
			do: func() error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if begun > w.void[id] {
					w.acts[id]++
				}
				return nil
			},
		})
		return "paid", err
	}
}

// reconcile is how the remote answers whether an effect has come to pass: if it has not,
// it never will.
func (s *service) reconcile(ctx context.Context, _ struct{}) (string, bool, error) {
	p := s.process
	w, id := p.world, tool.From(ctx).EffectID
	done := false
	err := w.wait(ctx, &step{
		actor: actorOf(ctx), process: p, name: "asks how it ended", touches: []string{id}, write: true, broken: errors.New("no answer"),
		do: func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if done = w.acts[id] > 0; !done {
				w.void[id] = w.starts[id]
			}
			return nil
		},
	})
	return "paid", done, err
}

var asked = regexp.MustCompile(`"q\d (\w+)"`)

// RoundTrip answers calls of the model: the last question decides.
func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	found := asked.FindAllSubmatchIndex(body, -1)
	last := found[len(found)-1]
	about, answered := string(body[last[2]:last[3]]), bytes.Contains(body[last[1]:], []byte("functionResponse"))
	p.world.mu.Lock()
	p.world.asked++
	n := p.world.asked
	p.world.worksOn(p, string(body[last[0]+1:last[1]-1]), "asks the model")
	p.world.mu.Unlock()
	var pieces []string // of texts that differ, so that none is taken for another
	switch {
	case about == talk:
		pieces = []string{text(strings.Repeat("One", n) + ". "), text("Two " + strconv.Itoa(n) + ".")}
	case answered:
		pieces = []string{text(strconv.Itoa(n) + " that was it.")}
	default:
		pieces = []string{fmt.Sprintf(`{"functionCall":{"name":%q,"args":{}}}`, about)}
	}
	stream := r.URL.Query().Get("alt") == "sse"
	if !stream && len(pieces) > 1 {
		pieces = []string{pieces[0] + "," + pieces[1]}
	}
	reply := &reply{ctx: ctx, process: p, pieces: pieces, stream: stream}
	response := &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: reply, ContentLength: -1,
		Header: http.Header{"Content-Type": {"application/json"}},
	}
	if stream {
		response.Header.Set("Content-Type", "text/event-stream")
	}
	return response, nil
}

func text(s string) string { return fmt.Sprintf(`{"text":%q}`, s) }

// tokens is what each call of the model costs, by its own count.
const tokens = 110

// A reply is the body of a model's answer. Each piece is a step.
type reply struct {
	ctx     context.Context
	process *process
	pieces  []string
	stream  bool
	next    int
	left    []byte // of the piece
}

func (r *reply) Close() error { return nil }

func (r *reply) Read(b []byte) (int, error) {
	if len(r.left) == 0 {
		if r.next == len(r.pieces) {
			return 0, io.EOF
		}
		w := r.process.world
		err := w.wait(r.ctx, &step{actor: actorOf(r.ctx), process: r.process, name: "hears the model", broken: io.ErrUnexpectedEOF})
		if err != nil {
			return 0, err
		}
		end := ""
		if r.next == len(r.pieces)-1 {
			end = fmt.Sprintf(`,"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":%d,"totalTokenCount":%d}`, tokens-100, tokens)
			w.mu.Lock()
			w.heard++
			w.mu.Unlock()
		} else {
			end = "}]"
		}
		event := fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[%s]}%s}`, r.pieces[r.next], end)
		if r.stream {
			event = "data: " + event + "\n\n"
		}
		r.next++
		r.left = []byte(event)
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

var _ session.Store = (*stepping)(nil)
