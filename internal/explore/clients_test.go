package explore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A scenario is what clients do.
type scenario struct {
	name     string
	question string // what the first question is about: talk or a tool
	keyed    bool   // it has an Idempotency-Key
	streamed bool   // its answer is an event stream
	existing bool   // its session has a turn already
	without  string // a session: ofChat or ofCall; "": the first question has one
	expires  bool   // there is little time to approve
	queued   bool   // there is a queue
	leaves   bool   // the first question is left to the queue
	visits   []visit
	faults   int                                 // at most
	waits    int                                 // times that time passes although something could happen
	fault    func(session.Store) session.Store   // on purpose; nil: none
	counts   func(limit.Counters) limit.Counters // a fault of the counters
	recovers int                                 // how it goes on at the end; any number
}

// A visit is the call of a client to a process.
type visit struct {
	what string
	at   int // which process
}

// What clients do.
const (
	asks     = "asks"     // the first question
	retries  = "retries"  // the first question again, with its key
	stops    = "stops"    // its run
	approves = "approves" // what it waits for
	denies   = "denies"   // what it waits for
	deletes  = "deletes"  // its session
	clears   = "clears"   // all sessions of the owner
	edits    = "edits"    // another question in the place of the session's first
	delivers = "delivers" // a task
	writes   = "writes"   // another question in its session
	watches  = "watches"  // its run, from the start
	resumes  = "resumes"  // its run, where the first client has got to
)

// What has no session: the question of a client that brings the history of its chat, and the
// call of a tool without a model.
const (
	ofChat = "chat"
	ofCall = "call"
)

// first begins the first question. Others begin with the number of their client.
const first = "q1 "

// A client makes one call.
type client struct {
	name    string
	what    string
	process *process
	begun   bool
	working bool // the process works for it
	left    bool
	leave   context.CancelFunc // nil: it does not
	view    *view              // of a stream
	run     *known             // when it began; nil: none

	answered bool // it has an answer: one of these two
	response *invoke.Response
	err      error
}

// A known run is one that clients or the store have seen.
type known struct {
	key      session.Key
	id       string // of its turn
	question string
	calls    []string // that wait
	epoch    int
	holder   *process // of the epoch; nil: not known

	writes int       // of its record
	sent   time.Time // the first of them
	late   bool      // that was sent before a deletion of all and came after it, and is the only one

	runs    bool // as it was stored last
	stopped bool // a stop of it was answered since, and it has not ended
	since   int  // the epoch by then
	deleted bool // its record was, and it has no session
	expires time.Time
	answers map[string]session.Answer
}

func (k *known) runID() string { return session.RunID(k.key.ID, k.id) }

// learn returns the known run of a turn. The caller holds mu.
func (w *world) learn(key session.Key, id, question string) *known {
	k := w.runs[id]
	if k == nil {
		k = &known{key: key, id: id}
		w.runs[id] = k
		w.order = append(w.order, id)
	}
	if question != "" {
		k.question = question
	}
	if k.question == w.query() {
		w.target = k
	}
	return k
}

// query returns the first question. That of a call is the tool's name.
func (w *world) query() string {
	if w.without == ofCall {
		return w.question
	}
	return first + w.question
}

// asksFirst asks the first question.
func (w *world) asksFirst(ctx context.Context, p *process, show func(invoke.Event) error) (*invoke.Response, error) {
	switch {
	case w.leaves:
		return nil, w.begins(ctx, p)
	case w.without == ofCall:
		return p.CallTool(ctx, w.calls(), w.ask().Options)
	}
	return p.Ask(ctx, w.ask(), show)
}

// calls returns the call that is the first question.
func (w *world) calls() *invoke.Call {
	call, err := invoke.NewCall(w.question, nil)
	if err != nil {
		panic(err) // there are no arguments
	}
	return call
}

// ask returns a request with the first question.
func (w *world) ask() invoke.Request {
	req := invoke.Request{Query: w.query()}
	req.Options.Sessionless = w.without == ofChat
	if w.keyed {
		req.Options.Key = "key"
	}
	if w.existing {
		req.SessionID = existing.ID
	}
	return req
}

// session returns the key of the session that clients know.
func (w *world) session() session.Key {
	if w.target != nil {
		return w.target.key
	}
	return existing
}

// turns returns how many turns that session has.
func (w *world) turns() int {
	stored, err := w.memory.Load(background, w.session())
	if err != nil {
		return 0
	}
	return stored.Turns
}

// existing is the key of the session that is there before.
var existing = session.Key{Owner: owner.Owner, ID: "the-session-that-is-there"}

// open lets the clients in. They begin when the guide lets them.
func (w *world) open() {
	for i, v := range w.visits {
		c := &client{name: string(rune('1'+i)) + " " + v.what, what: v.what}
		w.clients = append(w.clients, c)
		go w.visit(c, v)
	}
}

// visit is what a client does.
func (w *world) visit(c *client, v visit) {
	err := w.wait(w.end, &step{actor: c.name, name: "begins", ready: func() bool { return w.ready(v.what) }, do: func() error {
		w.admit(c, v.at)
		return nil
	}})
	if err != nil {
		return // the world has ended before
	}
	p := c.process
	ctx, cancel := context.WithCancel(w.end)
	defer cancel()
	w.mu.Lock()
	if c.view != nil {
		c.leave = cancel
	}
	w.mu.Unlock()
	response, err := w.request(ctx, c)
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.working = false; p.alive && !c.left {
		c.answered, c.response, c.err = true, response, err
		if k := c.run; c.what == stops && err == nil && k.runs {
			k.stopped, k.since = true, k.epoch
		}
	}
}

// ready reports whether a client knows what it needs to know. The caller holds mu.
func (w *world) ready(what string) bool {
	switch what {
	case asks, retries:
		return true
	case delivers:
		return true
	case edits:
		return w.existing || w.target != nil && w.turns() > 0
	case writes, deletes, clears:
		return w.target != nil || w.existing
	case approves, denies:
		return w.target != nil && len(w.target.calls) > 0
	}
	return w.target != nil
}

// admit makes a client begin at a process that lives: the one it meant, another one, or a
// new one.
func (w *world) admit(c *client, at int) {
	c.process = w.processes[at%len(w.processes)]
	for _, p := range w.processes {
		if !c.process.alive {
			c.process = p
		}
	}
	if !c.process.alive {
		c.process = w.start(string(rune('A' + len(w.processes))))
	}
	c.begun, c.working = true, true
	switch c.what {
	case asks:
		if w.streamed && !w.leaves {
			c.view = &view{}
		}
	case approves:
		if w.without != ofCall {
			c.view = &view{}
		}
	case watches:
		c.view = &view{}
	case resumes:
		c.view = &view{}
		for _, o := range w.clients {
			if o.what == asks && o.view != nil {
				c.view = o.view.copy()
			}
		}
	}
	c.process.saw("begins", c.name)
}

// request makes the call of a client, with its permit.
func (w *world) request(ctx context.Context, c *client) (*invoke.Response, error) {
	p := c.process
	ctx, release := p.context(ctx, c.name)
	defer release()
	rules := limits.Rules(owner)
	if c.what == deletes || c.what == clears || c.what == stops {
		p.Limiter.Charge(ctx, rules, limit.Get)
	} else {
		permit, err := p.Limiter.Take(ctx, rules, limit.Turn)
		if err != nil {
			return nil, err
		}
		defer func() {
			cost := limit.Get
			telemetry.SetTurn(ctx, func(t *telemetry.Turn) {
				if t.Asked {
					cost = limit.Turn
				}
			})
			permit.Settle(cost)
		}()
	}
	w.mu.Lock()
	run, call := "", ""
	if c.run = w.target; w.target != nil {
		run = w.target.runID()
		if n := len(w.target.calls); n > 0 {
			call = w.target.calls[0]
		}
	}
	key, turns := w.session(), w.turns()
	var show func(invoke.Event) error
	if c.view != nil {
		show = func(e invoke.Event) error { return w.show(c, e) }
	}
	at := ""
	switch {
	case c.what == resumes && c.view.run == run:
		at = c.view.id()
	case c.what == resumes: // it was another run
		*c.view = view{}
	}
	w.mu.Unlock()
	switch c.what {
	case asks, retries:
		return w.asksFirst(ctx, p, show)
	case edits:
		return p.Ask(ctx, invoke.Request{Query: "q" + c.name[:1] + " " + talk, SessionID: key.ID, Replaces: new(1), AfterTurn: &turns}, show)
	case writes:
		return p.Ask(ctx, invoke.Request{Query: "q" + c.name[:1] + " " + talk, SessionID: key.ID}, show)
	case stops:
		return nil, p.Stop(ctx, run)
	case approves, denies:
		answer := invoke.Approval{CallID: call, Approve: c.what == approves}
		if w.without == ofCall {
			return p.GoOnCall(ctx, run, w.calls(), []invoke.Approval{answer})
		}
		return p.Approve(ctx, run, answer, show)
	case watches, resumes:
		return p.Watch(ctx, run, at, show)
	}
	if c.what == clears {
		r := httptest.NewRequestWithContext(ctx, "DELETE", "/sessions", nil)
		return nil, p.clear(httptest.NewRecorder(), r)
	}
	r := httptest.NewRequestWithContext(ctx, "DELETE", "/sessions/"+key.ID, nil)
	r.SetPathValue("id", key.ID)
	return nil, p.erase(httptest.NewRecorder(), r)
}

// show shows an event to a client.
func (w *world) show(c *client, e invoke.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.left || !c.process.alive {
		return context.Canceled
	}
	if e.Kind == invoke.KindStart {
		id, turn, _ := session.SplitRunID(e.Run)
		question := ""
		if c.what == asks || c.what == retries {
			question = w.query()
		}
		w.learn(session.Key{Owner: owner.Owner, ID: id}, turn, question)
	}
	if w.guide.tells() {
		w.trace = append(w.trace, fmt.Sprintf("           %s is shown %s %q at %v", c.name, e.Kind, e.Part.Text, e.At))
	}
	if problem := c.view.add(e); problem != "" {
		w.wrong = append(w.wrong, c.name+" is shown "+problem)
	}
	return nil
}

// stored looks at what a process has stored.
func (w *world) stored(p *process, key session.Key, turn *session.Turn, run *session.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if run != nil {
		var asked struct{ Request struct{ Query string } }
		_ = json.Unmarshal(run.Request, &asked) // the record of a stop that came first has none
		k := w.learn(key, run.ID, asked.Request.Query)
		if k.calls = nil; run.State == session.Waiting {
			for _, pending := range run.Pending {
				k.calls, k.expires = append(k.calls, pending.CallID), pending.ExpiresAt
			}
			if k.stopped {
				w.wrong = append(w.wrong, "a run waits whose stop was answered")
			}
		}
		w.answersOf(k, run)
		k.runs = !run.Over()
		k.stopped = k.stopped && k.runs
		switch {
		case run.Epoch < k.epoch:
			w.wrong = append(w.wrong, "a fenced holder wrote a record: "+p.name)
		case run.Epoch > k.epoch:
			if k.epoch, k.holder = run.Epoch, nil; run.Holder != "" && run.Holder != session.Queued {
				k.holder = p
			}
		case run.Holder != "" && run.Holder != session.Queued && k.holder == nil:
			k.holder = p
		}
	}
	if turn != nil {
		query, _ := turn.Texts()
		k := w.learn(key, turn.ID, query)
		switch {
		case turn.Epoch < k.epoch:
			w.wrong = append(w.wrong, "a fenced holder stored a turn: "+p.name)
		case k.holder != nil && k.holder != p:
			w.wrong = append(w.wrong, "a turn was stored by another process than the run's holder: "+p.name)
		}
		if turn.FinishReason == "STOP" {
			w.mayGoOn(k, "stores its whole turn")
		}
		if run == nil && turn.FinishReason != "WAITING" {
			k.stopped, k.runs = false, false
		}
	}
}

// answersOf checks that each answer to a question of approval was in time, and stays as it
// was. The caller holds mu.
func (w *world) answersOf(k *known, run *session.Run) {
	for id, a := range run.Answers {
		before, ok := k.answers[id]
		switch {
		case ok && before != a:
			w.wrong = append(w.wrong, "an answer was changed")
		case !ok && a.Approve && a.At.After(k.expires):
			w.wrong = append(w.wrong, "an approval came too late, and was entered")
		}
	}
	if len(run.Answers) < len(k.answers) {
		w.wrong = append(w.wrong, "an answer was lost")
	}
	k.answers = run.Answers
}

// mayGoOn checks that no stop of k was answered before who works on it took it over. The caller
// holds mu.
func (w *world) mayGoOn(k *known, what string) {
	if k.stopped && k.epoch > k.since {
		w.wrong = append(w.wrong, "a run whose stop was answered "+what)
	}
}

// worksOn checks that p may go on with a run of a question. The caller holds mu.
func (w *world) worksOn(p *process, question, what string) {
	for _, k := range w.runs {
		if k.holder == p && strings.HasSuffix(k.question, question) {
			w.mayGoOn(k, what)
		}
	}
}

// deleted forgets what a deletion has removed.
func (w *world) deleted(key session.Key) {
	w.gone = true
	for _, k := range w.runs {
		if k.key == key {
			k.calls = nil
		}
	}
}

// starting checks an effect that begins. The caller holds mu.
func (w *world) starting(id, name string) {
	n := w.starts[id]
	if n > 1 && w.void[id] < n-1 {
		w.wrong = append(w.wrong, name+" began again, and nobody knew how it had ended")
	}
	if name != send {
		return
	}
	approved := false
	for _, k := range w.runs {
		record, err := w.memory.LoadRun(background, k.key, k.id)
		if err != nil {
			continue
		}
		for _, a := range record.Answers {
			approved = approved || a.Approve
		}
	}
	if !approved {
		w.wrong = append(w.wrong, name+" began without an approval")
	}
}

// A view is what a client has been shown.
type view struct {
	run     string
	at      invoke.Position
	parts   []string // texts, by the number of the part
	ended   session.Kind
	answer  *invoke.Response
	failure api.Code
}

func (v *view) copy() *view {
	next := view{run: v.run, at: v.at, parts: slices.Clone(v.parts)}
	return &next
}

// id returns the id of the last event.
func (v *view) id() string {
	if v.run == "" {
		return ""
	}
	return invoke.EventID(v.run, v.at)
}

// add takes in an event and returns what is wrong with it.
func (v *view) add(e invoke.Event) string {
	v.run, v.at = e.Run, e.At
	switch e.Kind {
	case invoke.KindReset:
		v.parts = v.parts[:min(e.Reset.Part, len(v.parts))]
	case invoke.KindDone, invoke.KindError:
		v.ended, v.answer = e.Kind, e.Response
		v.failure = api.Code("")
		if code := e.Envelope.Error; code != nil {
			v.failure = *code
		}
	case session.KindText:
		for len(v.parts) <= e.At.Part {
			v.parts = append(v.parts, "")
		}
		v.parts[e.At.Part] += e.Part.Text
		if len(v.parts[e.At.Part]) != e.At.Offset {
			return "text with a gap: " + v.id()
		}
	}
	return ""
}

func (v *view) text() string { return strings.Join(v.parts, "") }
