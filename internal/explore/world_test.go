// Package explore_test explores the protocol of runs: the code of store, commit, claim,
// lease, ledger and approval, in several processes on one store, whose every call is a
// step. A scheduler decides which step comes next, and whether it fails, its reply is
// lost, or its process dies after it. Time is virtual, so that a process that is silent
// for a minute costs nothing.
//
//	world_test.go     steps, and the scheduler that orders them
//	guide_test.go     who decides: all orders up to a depth, or random ones by a seed
//	process_test.go   a process: the service on a store, a model and tools of steps
//	store_test.go     the store, and what is left out of it on purpose
//	clients_test.go   what clients do, and what they are answered
//	queue_test.go     the queue, its deliveries, and who is told by webhook
//	check_test.go     what must hold at the end
//	explore_test.go   the tests
package explore_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// How a step ends.
type outcome int

const (
	happens outcome = iota
	isLost          // it happens, but the reply does not come
	fails           // it does not happen
	isLast          // it happens, and its process dies
)

// A step is a call of a process to the world outside, which waits for its turn.
type step struct {
	actor   string // who makes it
	process *process
	name    string
	touches []string     // what it reads or writes
	write   bool         // it changes what it touches, unless do fails
	do      func() error // nil: nothing
	broken  error        // what it returns if its reply does not come; nil: its reply always comes
	ready   func() bool  // nil: always
	reply   chan error
	left    bool // its caller waits no more, but it may still happen
}

func (s *step) String() string {
	if s.left {
		return s.actor + " " + s.name + ", which was given up"
	}
	return s.actor + " " + s.name
}

// A world is one execution of a scenario.
type world struct {
	scenario
	guide  guide
	memory *session.Memory
	store  session.Store // memory, or what a fault on purpose makes of it
	limits limit.Counters
	begun  time.Time

	processes []*process
	clients   []*client
	end       context.Context // of all clients

	mu       sync.Mutex
	steps    []*step
	direct   bool // steps happen at once: the exploration is over
	faults   int  // left to be made
	waits    int  // left: times that time passes although something could happen
	version  map[string]uint64
	passed   int      // times that time passed
	trace    []string // for people
	wrong    []string
	happened []string // in order
	pruned   bool

	*remote
	runs   map[string]*known // by turn
	order  []string          // of runs, as they became known
	target *known            // the run of the first question
	gone   bool              // a deletion was answered

	tasks    []*delivery
	events   map[string]string // what webhooks were told, by the event's id
	told     map[string]bool   // the same, by the run and the event's type
	replaced map[string]bool   // turns that an edit has taken away

	cleared time.Time // of the last deletion of all
	swept   bool      // a deletion of all has removed a record
}

// newWorld returns a world in which nothing has happened. It must be called in a bubble
// of synctest.
func newWorld(s scenario, g guide) *world {
	w := &world{
		scenario: s, guide: g, begun: time.Now(), faults: s.faults, waits: s.waits,
		version: map[string]uint64{}, runs: map[string]*known{}, events: map[string]string{}, told: map[string]bool{}, replaced: map[string]bool{}, limits: limit.NewMemory(time.Now),
		memory: session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard()),
	}
	w.store = w.memory
	if s.fault != nil {
		w.store = s.fault(w.memory)
	}
	if s.counts != nil {
		w.limits = s.counts(w.limits)
	}
	w.remote = &remote{starts: map[string]int{}, acts: map[string]int{}, void: map[string]int{}}
	return w
}

// violated records that something did not hold.
func (w *world) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// wait makes a step wait for its turn and returns its reply.
func (w *world) wait(ctx context.Context, s *step) error {
	s.reply = make(chan error, 1)
	w.mu.Lock()
	direct, alive := w.direct, s.process == nil || s.process.alive
	if alive && !direct {
		w.steps = append(w.steps, s)
	}
	w.mu.Unlock()
	switch {
	case !alive:
		<-ctx.Done() // nothing of it reaches the world any more
		return cmp.Or(s.broken, ctx.Err())
	case direct:
		if ctx.Err() != nil {
			return cmp.Or(s.broken, ctx.Err())
		}
		return s.perform()
	}
	select {
	case err := <-s.reply:
		return err
	case <-ctx.Done():
	}
	w.mu.Lock()
	frozen := s.process != nil && s.process.frozen
	select {
	case err := <-s.reply:
		w.mu.Unlock()
		return err
	default:
	}
	if frozen { // it notices later
		w.mu.Unlock()
		return <-s.reply
	}
	if s.left = true; !s.write || s.broken == nil {
		w.drop(s)
	}
	w.mu.Unlock()
	if s.broken != nil {
		return errors.Join(s.broken, ctx.Err())
	}
	return ctx.Err()
}

func (s *step) perform() error {
	if s.do == nil {
		return nil
	}
	return s.do()
}

// drop removes a step. The caller holds mu.
func (w *world) drop(s *step) {
	w.steps = slices.DeleteFunc(w.steps, func(o *step) bool { return o == s })
}

// An option is what may happen next.
type option struct {
	step    *step
	ends    outcome
	process *process      // which dies, is cut off, or freezes
	client  *client       // which leaves
	pass    time.Duration // time passes
	fault   bool
}

func (o option) String() string {
	switch {
	case o.step != nil:
		return o.step.String() + [...]string{"", ", but the reply is lost", " fails", ", and the process dies"}[o.ends]
	case o.client != nil:
		return o.client.name + " leaves"
	case o.pass > 0 && o.process != nil:
		return o.process.name + " is frozen for " + o.pass.Round(100*time.Millisecond).String()
	case o.pass > 0:
		return o.pass.Round(100*time.Millisecond).String() + " pass"
	}
	return o.process.name + " dies"
}

// No two of these times, and none of the service's, end at one instant: which of two
// timers is first then is chance.
const (
	// breath is how long nothing but time passes when nothing else can happen: longer
	// than the longest pause between tries.
	breath = 507 * time.Millisecond
	// beat is longer than the time between the writes of a record.
	beat = 1103 * time.Millisecond
	// silence is longer than a lease, and than the time that a call of the store may take.
	silence = 6011 * time.Millisecond
	// patience is how long a world may take until nobody works any more.
	patience = 4 * time.Minute
)

// options returns what may happen next, in an order that does not depend on chance: first
// what simply goes on.
func (w *world) options() []option {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.steps, func(a, b *step) int {
		return cmp.Or(cmp.Compare(a.actor, b.actor), cmp.Compare(a.name, b.name))
	})
	var all, faults []option
	for _, s := range w.steps {
		if s.ready != nil && !s.ready() {
			continue
		}
		all = append(all, option{step: s})
		if w.faults > 0 && s.broken != nil && !s.left {
			faults = append(faults, option{step: s, ends: fails, fault: true})
			if s.write {
				faults = append(faults, option{step: s, ends: isLost, fault: true}, option{step: s, ends: isLast, fault: true})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	if w.waits > 0 {
		all = append(all, option{pass: beat}, option{pass: silence})
	}
	if w.faults > 0 {
		for _, p := range w.processes {
			if p.alive && p.steps(w.steps) {
				faults = append(faults, option{process: p, fault: true}, option{process: p, pass: silence, fault: true})
			}
		}
		for _, c := range w.clients {
			if c.working && c.leave != nil && !c.left {
				faults = append(faults, option{client: c, fault: true})
			}
		}
	}
	return append(all, faults...)
}

// steps reports whether p has a step that waits.
func (p *process) steps(all []*step) bool {
	return slices.ContainsFunc(all, func(s *step) bool { return s.process == p })
}

// explore lets happen what the guide decides, until nobody works any more.
func (w *world) explore() {
	forced := time.Duration(0)
	for {
		synctest.Wait()
		options := w.options()
		if len(options) == 0 {
			if !w.working() {
				return
			}
			if forced += breath; forced > patience {
				w.violated("somebody works after %v: %s", patience, w.busy())
				return
			}
			w.passes(breath, nil)
			continue
		}
		next := 0
		if len(options) > 1 {
			if next = w.guide.choose(w, options); next < 0 {
				w.pruned = true
				return
			}
		}
		w.take(options[next])
	}
}

// take lets one thing happen.
func (w *world) take(o option) {
	if w.guide.tells() {
		w.happened = append(w.happened, o.String())
		w.trace = append(w.trace, fmt.Sprintf("%7.2fs %s", time.Since(w.begun).Seconds(), o))
	}
	if o.fault {
		w.faults--
	}
	switch {
	case o.step != nil:
		w.perform(o.step, o.ends)
	case o.client != nil:
		o.client.left = true
		o.client.leave()
		o.client.process.saw("leaves", o.client.name)
	case o.pass > 0:
		if o.process == nil {
			w.waits--
		}
		w.passes(o.pass, o.process)
	default:
		w.kill(o.process)
	}
}

// passes lets time pass. A frozen process does not notice that it gave up waiting.
func (w *world) passes(d time.Duration, frozen *process) {
	w.mu.Lock() // who is woken by the time takes it, and comes after what was read without it
	w.passed++
	if frozen != nil {
		frozen.frozen = true
	}
	w.mu.Unlock()
	if frozen != nil {
		frozen.saw("frozen")
	}
	time.Sleep(d)
	synctest.Wait()
	if frozen != nil {
		w.mu.Lock()
		frozen.frozen = false
		w.mu.Unlock()
	}
	for _, p := range w.processes {
		p.saw("time", d.String())
	}
}

// perform lets a step happen.
func (w *world) perform(s *step, ends outcome) {
	w.mu.Lock()
	w.drop(s)
	w.mu.Unlock()
	err := s.broken
	if ends != fails {
		err = s.perform()
	}
	w.note(s, ends, err)
	if ends == isLost && err == nil {
		err = s.broken
	}
	if ends == isLast {
		w.kill(s.process)
		err = errDead
	}
	s.reply <- err
}

// kill ends a process: nothing of what it does reaches the world any more. Its calls
// that are under way are lost.
func (w *world) kill(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.alive = false
	w.steps = slices.DeleteFunc(w.steps, func(s *step) bool {
		if s.process == p && s.left {
			return false // it was sent
		}
		if s.process == p {
			s.reply <- errDead
		}
		return s.process == p
	})
	for _, c := range w.clients {
		if c.process == p {
			c.working = false
		}
	}
}

var errDead = fmt.Errorf("the process is dead: %w", session.ErrUnavailable)

// working reports whether a client waits for a process that lives.
func (w *world) working() bool {
	return slices.ContainsFunc(w.clients, func(c *client) bool { return c.working })
}

func (w *world) busy() (names []string) {
	for _, c := range w.clients {
		if c.working {
			names = append(names, c.name+" at "+c.process.name)
		}
	}
	return names
}

// note keeps what a step has done: what each process has seen, and by whose doing
// everything is as it is. Both together are the state of the world: two orders of steps
// that lead to the same are one.
func (w *world) note(s *step, ends outcome, err error) {
	p := s.process
	if p == nil {
		return
	}
	p.saw(s.actor, s.name, [...]string{"ok", "lost", "fails", "last"}[ends])
	if err != nil {
		p.saw("error")
	}
	for _, name := range s.touches {
		p.history = mix(p.history, w.version[name])
	}
	if s.write && ends != fails && err == nil {
		for _, name := range s.touches {
			w.version[name] = mix(p.history, 1)
		}
	}
}

// state returns a hash of the state of the world.
func (w *world) state() uint64 {
	h := mix(uint64(w.faults)<<8|uint64(w.waits), uint64(w.passed))
	for _, p := range w.processes {
		h = mix(h, p.history)
	}
	var things uint64
	for _, v := range w.version {
		things += mix(v, 2)
	}
	return mix(h, things)
}

func (p *process) saw(texts ...string) {
	for _, text := range texts {
		h := uint64(14695981039346656037) // FNV-1a
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * 1099511628211
		}
		p.history = mix(p.history, h)
	}
}

// mix returns a hash of two hashes (SplitMix64's last steps).
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x632be59bd9b4e019
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
