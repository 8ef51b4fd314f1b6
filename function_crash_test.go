package gatehouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
)

// An outcome is what came of a call: a turn, or an error of the contract.
type outcome struct {
	turn     *turn
	code     string // of an error
	replayed bool
	wait     time.Duration // Retry-After
}

// outcomeOf reads an answer of either form. It can be used beside the test's
// own goroutine.
func outcomeOf(a answer) (outcome, error) {
	text := a.Body
	if strings.HasPrefix(a.Header.Get("Content-Type"), "text/event-stream") {
		blocks := strings.Split(strings.TrimSuffix(string(a.Body), "\n\n"), "\n\n")
		name, data, _ := strings.Cut(blocks[len(blocks)-1], "\n")
		if name != "event: done" && name != "event: error" || !bytes.HasSuffix(a.Body, []byte("\n\n")) {
			return outcome{}, fmt.Errorf("a stream that ends with neither done nor error: %s", a.Body)
		}
		text = []byte(strings.TrimPrefix(data, "data: "))
	}
	var e struct {
		Data  *turn   `json:"data"`
		Error *string `json:"error"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return outcome{}, fmt.Errorf("status %d: %w: %s", a.Status, err, a.Body)
	}
	if (e.Data == nil) == (e.Error == nil) {
		return outcome{}, fmt.Errorf("status %d with data and error, or neither: %s", a.Status, a.Body)
	}
	o := outcome{turn: e.Data, replayed: a.Header.Get("Idempotency-Replayed") == "true"}
	if e.Error != nil {
		o.code = *e.Error
	}
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
		o.wait = time.Duration(seconds) * time.Second
	}
	return o, nil
}

// retriable are the errors after which a call with a key is tried again.
var retriable = []string{"idempotency_in_progress", "session_store_unavailable", "timeout", "model_unavailable", "overloaded", "shutting_down"}

// insist repeats a call with a key until there is a turn.
func (s *service) insist(ctx context.Context, body any, headers ...string) (outcome, error) {
	for {
		a, err := s.try(ctx, http.MethodPost, "/invoke", body, headers...)
		if err != nil {
			return outcome{}, err
		}
		o, err := outcomeOf(a)
		if err != nil || o.turn != nil {
			return o, err
		}
		if !slices.Contains(retriable, o.code) {
			return o, fmt.Errorf("status %d: %s", a.Status, a.Body)
		}
		if err := rest(ctx, max(o.wait, 100*time.Millisecond)); err != nil {
			return o, fmt.Errorf("still %s: %w", o.code, err)
		}
	}
}

// startDoomed runs cmd/local as startLocal does, but it may end in any way.
func startDoomed(t *testing.T, env ...string) *service {
	t.Helper()
	program, err := localProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := spawn(t, program, append([]string{"PORT=0"}, env...)...)
	match, err := p.stdout.await(bounded(t), readyAt)
	if err != nil {
		t.Fatalf("cmd/local did not get ready: %v", err)
	}
	s := newService(t, p, match[1])
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		p.end(t, os.Kill)
		for _, text := range []string{p.stdout.String(), p.stderr.String()} {
			for _, bad := range []string{"DATA RACE", "\ngoroutine 1 [", "A handler panicked"} {
				if strings.Contains(text, bad) {
					t.Errorf("the output of a process contains %q", bad)
				}
			}
		}
	})
	return s
}

// crashSetting reads a number of the environment.
func crashSetting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// A crashCall is one call that is repeated until it is answered.
type crashCall struct {
	key, user string
	body      map[string]any
	stream    bool
	seed      uint64

	answered turn // what was acknowledged first
}

func (c *crashCall) headers() []string {
	h := keyed(c.key, "X-End-User", c.user)
	if c.stream {
		h = append(h, events...)
	}
	return h
}

// A crashTest is several processes that are killed while clients call them.
type crashTest struct {
	env []string

	mu        sync.Mutex
	processes []*service

	asked    atomic.Int64 // of the model
	attempts chan struct{}
	slots    chan struct{} // bounds the calls at once

	kills, retries, lostAnswers, left, replays, conflicts, unavailable, timeouts, overtaken atomic.Int64
}

// anyProcess chooses one to call.
func (c *crashTest) anyProcess(random *rand.Rand) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.processes[random.IntN(len(c.processes))]
}

// attempt calls once. An error says what no crash excuses; an outcome with
// neither turn nor code is an answer that was lost.
func (c *crashTest) attempt(ctx context.Context, call *crashCall, random *rand.Rand, mayLeave bool) (outcome, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	select {
	case c.attempts <- struct{}{}:
	default: // enough to wake whoever counts
	}
	leaves := mayLeave && random.IntN(12) == 0
	calling := ctx
	if leaves { // some clients lose patience
		var cancel context.CancelFunc
		calling, cancel = context.WithTimeout(ctx, time.Duration(random.Int64N(int64(120*time.Millisecond))))
		defer cancel()
	}
	a, err := c.anyProcess(random).try(calling, http.MethodPost, "/invoke", call.body, call.headers()...)
	switch {
	case ctx.Err() != nil:
		return outcome{}, fmt.Errorf("%s: no answer in the end: %w", call.key, ctx.Err())
	case err != nil && leaves:
		c.left.Add(1)
		return outcome{}, nil
	case err != nil:
		c.lostAnswers.Add(1)
		return outcome{}, nil
	}
	o, err := outcomeOf(a)
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", call.key, err)
	}
	if o.turn == nil && !slices.Contains(retriable, o.code) {
		return outcome{}, fmt.Errorf("%s: status %d: %s", call.key, a.Status, a.Body)
	}
	if a.Status == http.StatusConflict && o.wait <= 0 {
		return outcome{}, fmt.Errorf("%s: a conflict without Retry-After", call.key)
	}
	switch o.code {
	case "idempotency_in_progress":
		if a.Status == http.StatusOK { // within a stream
			c.overtaken.Add(1)
		}
		c.conflicts.Add(1)
	case "session_store_unavailable":
		c.unavailable.Add(1)
	case "timeout":
		c.timeouts.Add(1)
	case "":
		if o.replayed {
			c.replays.Add(1)
		}
	}
	return o, nil
}

// finish repeats a call until it is answered.
func (c *crashTest) finish(ctx context.Context, call *crashCall, random *rand.Rand, mayLeave bool) (outcome, error) {
	for try := 0; ; try++ {
		if try > 0 {
			c.retries.Add(1)
		}
		o, err := c.attempt(ctx, call, random, mayLeave)
		if err != nil || o.turn != nil {
			return o, err
		}
		wait := o.wait
		if wait == 0 {
			wait = time.Duration(10+random.IntN(200)) * time.Millisecond
		}
		if err := rest(ctx, wait); err != nil {
			return o, fmt.Errorf("%s: no answer in the end: %w", call.key, err)
		}
	}
}

// run sees a call through, and some of them a second time.
func (c *crashTest) run(ctx context.Context, call *crashCall) error {
	random := rand.New(rand.NewPCG(call.seed, 1))
	o, err := c.finish(ctx, call, random, true)
	if err != nil {
		return err
	}
	call.answered = *o.turn
	if slices.Contains(o.turn.Warnings, "session_not_saved") {
		return fmt.Errorf("%s: not saved, with a key", call.key)
	}
	if random.IntN(3) == 0 {
		return c.again(ctx, call, random, true)
	}
	return nil
}

// again repeats an answered call, which must be answered alike.
func (c *crashTest) again(ctx context.Context, call *crashCall, random *rand.Rand, mayLeave bool) error {
	c.retries.Add(1)
	o, err := c.finish(ctx, call, random, mayLeave)
	switch {
	case err != nil:
		return err
	case !o.replayed:
		return fmt.Errorf("%s: answered anew: first %+v, then %+v", call.key, call.answered, *o.turn)
	}
	first, err1 := json.Marshal(call.answered, json.Deterministic(true))
	second, err2 := json.Marshal(*o.turn, json.Deterministic(true))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return fmt.Errorf("%s: answered differently: first %s, then %s", call.key, first, second)
	}
	return nil
}

// TestCrashes kills processes at random points of many calls with idempotency
// keys, repeats every call to its end, and compares what is stored with what
// was acknowledged. CRASH_SEED repeats a run's plan and CRASH_CALLS sets its
// length.
func TestCrashes(t *testing.T) {
	t.Parallel()
	const (
		processes = 3
		shared    = 6 // sessions that many calls name
		atOnce    = 12
	)
	seed := crashSetting(t, "CRASH_SEED", uint64(time.Now().UnixNano()))
	count := int(crashSetting(t, "CRASH_CALLS", 240))
	t.Logf("CRASH_SEED=%d CRASH_CALLS=%d", seed, count)
	random := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Duration(count)*100*time.Millisecond)
	t.Cleanup(cancel)

	gemini := geminitest.Start(t)
	c := &crashTest{
		env: append(firestore(emulator.Host(t)), "REQUEST_TIMEOUT=1s", "GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL,
			"RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000"),
		attempts: make(chan struct{}, 10_000),
		slots:    make(chan struct{}, atOnce),
	}
	var latency sync.Mutex
	delays := rand.New(rand.NewPCG(seed, 2))
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		n := c.asked.Add(1) // no two answers are the same
		latency.Lock()
		delay := time.Duration(delays.Int64N(int64(25 * time.Millisecond)))
		latency.Unlock()
		return geminitest.Text("To ", r.Prompt(), fmt.Sprintf(": answer %d.", n)).WithDelay(delay)
	})
	for range processes {
		c.processes = append(c.processes, startDoomed(t, c.env...))
	}

	makeReady(t, c.processes[0], gemini)
	c.asked.Store(0)

	users := []string{"ann", "bob", "cleo"}
	type named struct{ user, id string }
	var sessions []named
	var calls []*crashCall
	add := func(user, session string) *crashCall {
		n := len(calls)
		call := &crashCall{
			key: fmt.Sprintf("key %d", n), user: user, stream: random.IntN(3) == 0, seed: random.Uint64(),
			body: map[string]any{"query": fmt.Sprintf("Question %d", n)},
		}
		if session != "" {
			call.body["session_id"] = session
		}
		calls = append(calls, call)
		return call
	}
	for i := range shared {
		call := add(users[i%len(users)], "")
		if err := c.run(ctx, call); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, named{call.user, call.answered.SessionID})
	}
	for range max(count-shared, 0) {
		if random.IntN(2) == 0 {
			s := sessions[random.IntN(len(sessions))]
			add(s.user, s.id)
		} else {
			add(users[random.IntN(len(users))], "")
		}
	}

	began := time.Now()
	finished := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-finished
	})
	var failures sync.Map
	go func() {
		defer close(finished)
		var wait sync.WaitGroup
		// More than there are slots: those that wait for a lease keep none.
		places := make(chan struct{}, 4*atOnce)
		for _, call := range calls[shared:] {
			places <- struct{}{}
			wait.Go(func() {
				defer func() { <-places }()
				if err := c.run(ctx, call); err != nil {
					failures.Store(call.key, err)
				}
			})
		}
		wait.Wait()
	}()
	c.kill(t, random, count/16+1, finished)
	called := time.Since(began)

	// Once more each, now that all is quiet.
	var wait sync.WaitGroup
	for i, call := range calls {
		if call.answered.Turn == 0 {
			continue
		}
		wait.Go(func() {
			if err := c.again(ctx, call, rand.New(rand.NewPCG(seed, uint64(10+i))), false); err != nil {
				failures.Store(call.key+" again", err)
			}
		})
	}
	wait.Wait()
	for key, err := range failures.Range {
		t.Errorf("%v: %v", key, err)
	}

	lost, doubled, foreign := c.compare(t, calls, users)
	t.Logf("%d calls, %d in shared sessions of %d; %d kills; %d retries; %d replays; %d conflicts, %d of them within a stream; "+
		"%d answers lost with their process, %d clients left; %d without the store, %d timeouts; the model was asked %d times; "+
		"%d lost, %d doubled, %d nobody asked for; %v with kills, %v in all",
		len(calls), shared+countNamed(calls), shared, c.kills.Load(), c.retries.Load(), c.replays.Load(), c.conflicts.Load(), c.overtaken.Load(),
		c.lostAnswers.Load(), c.left.Load(), c.unavailable.Load(), c.timeouts.Load(), c.asked.Load(),
		lost, doubled, foreign, called.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if lost+doubled+foreign != 0 {
		t.Errorf("CRASH_SEED=%d: %d lost, %d doubled, %d nobody asked for; want none", seed, lost, doubled, foreign)
	}
	if c.kills.Load() == 0 {
		t.Error("nothing was killed")
	}
	for _, s := range c.processes {
		if code := s.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("a process that was left alone ended with code %d", code)
		}
		checkLogs(t, s.process)
	}
}

func countNamed(calls []*crashCall) int {
	n := 0
	for _, call := range calls {
		if call.body["session_id"] != nil {
			n++
		}
	}
	return n
}

// kill kills processes and starts others in their place, until most have been
// killed, and returns when the calls have finished. When each is killed depends
// on how many calls were begun, and on a time drawn for it.
func (c *crashTest) kill(t *testing.T, random *rand.Rand, most int, finished <-chan struct{}) {
	for range most {
		for range 8 + random.IntN(12) {
			select {
			case <-c.attempts:
			case <-finished:
				return
			}
		}
		timer := time.NewTimer(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
		select {
		case <-timer.C:
		case <-finished:
			timer.Stop()
			return
		}
		i := random.IntN(len(c.processes))
		victim := c.processes[i] // only this goroutine changes the list
		victim.end(t, os.Kill)
		victim.client.CloseIdleConnections()
		c.kills.Add(1)
		next := startDoomed(t, c.env...)
		c.mu.Lock()
		c.processes[i] = next
		c.mu.Unlock()
	}
	<-finished
}

// compare reads all that is stored, and counts acknowledged turns that are not
// stored as they were acknowledged, turns beyond the first of one key, and
// turns and sessions that no key brought about.
func (c *crashTest) compare(t *testing.T, calls []*crashCall, users []string) (lost, doubled, foreign int) {
	t.Helper()
	type place struct {
		user, session string
		turn          int
		response      string
	}
	stored := map[string][]place{} // by query
	s := c.processes[0]
	for _, user := range users {
		own := []string{"X-End-User", user}
		for _, session := range everySession(t, s, own) {
			turns := everyTurn(t, s, session.SessionID, own)
			if session.Turns != len(turns) {
				t.Errorf("session %s is listed with %d turns and has %d", session.SessionID, session.Turns, len(turns))
			}
			if len(turns) == 0 {
				foreign++
				t.Errorf("session %s has no turns", session.SessionID)
			}
			for i, turn := range turns {
				if turn.Turn != i+1 {
					t.Errorf("session %s: turn %d at place %d", session.SessionID, turn.Turn, i+1)
				}
				stored[turn.Query] = append(stored[turn.Query], place{user, session.SessionID, turn.Turn, turn.Response})
			}
		}
	}
	for _, call := range calls {
		query := call.body["query"].(string)
		places := stored[query]
		delete(stored, query)
		if len(places) > 1 {
			doubled += len(places) - 1
			t.Errorf("%s is stored %d times: %+v", call.key, len(places), places)
		}
		want := place{call.user, call.answered.SessionID, call.answered.Turn, call.answered.Response}
		if call.answered.Turn != 0 && !slices.Contains(places, want) {
			lost++
			t.Errorf("%s was acknowledged as %+v, and is stored as %+v", call.key, want, places)
		}
		if id := call.body["session_id"]; id != nil && call.answered.Turn != 0 && id != call.answered.SessionID {
			t.Errorf("%s named session %s and was answered in %s", call.key, id, call.answered.SessionID)
		}
	}
	for query, places := range maps.All(stored) {
		foreign += len(places)
		t.Errorf("nobody asked %q: %+v", query, places)
	}
	return lost, doubled, foreign
}

// everySession lists all of a user's sessions.
func everySession(t *testing.T, s *service, headers []string) []session {
	t.Helper()
	var all []session
	for cursor := ""; ; {
		page := list(t, s, "?limit=100"+cursor, headers...)
		all = append(all, page.Sessions...)
		if page.NextCursor == nil {
			return all
		}
		cursor = "&cursor=" + *page.NextCursor
	}
}

// everyTurn reads all turns of a session.
func everyTurn(t *testing.T, s *service, id string, headers []string) []storedTurn {
	t.Helper()
	var all []storedTurn
	for cursor := ""; ; {
		page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id+"?limit=100"+cursor, nil, headers...))
		all = append(all, page.Turns...)
		if page.NextCursor == nil {
			return all
		}
		cursor = "&cursor=" + *page.NextCursor
	}
}
