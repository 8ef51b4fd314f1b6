package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/gcp/bucket/buckettest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// asked returns a service on a store, as a door calls it.
func asked(t *testing.T, store session.Store, gemini *geminitest.Server, a agent.Agent, edits ...func(*invoke.Config)) *invoke.Service {
	t.Helper()
	var s *invoke.Service
	a.Name, a.MaxTokens = "agent", 100
	serveAgent(t, store, gemini, a, append(edits, func(c *invoke.Config) { s = invoke.New(*c) })...)
	return s
}

func completion(key, query string, history ...string) invoke.Request {
	req := invoke.Request{Query: query, Options: invoke.Options{Key: key, Sessionless: true}}
	for _, text := range history {
		contents, _ := json.Marshal([]members{{"role": "user", "parts": []members{{"text": text}}}})
		req.Options.History = append(req.Options.History, contents)
	}
	return req
}

func ofCaller(t testing.TB, name string) context.Context {
	t.Helper()
	return caller.NewContext(t.Context(), caller.Caller{Owner: session.OwnerOf(name, "")})
}

// wantCode fails unless err is the contract's error of a code.
func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if failed, ok := errors.AsType[*api.Error](err); !ok || failed.Code != code {
		t.Errorf("%v, want %s", err, code)
	}
}

// A run without a session replays its key's answer, on any instance, and does for the
// key all that a turn does.
func TestAKeyWithoutASession(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	gemini, store := geminitest.Start(t), memory(&offset)
	first := &instance{Store: store}
	a, b := asked(t, first, gemini, agent.Agent{}), asked(t, store, gemini, agent.Agent{})
	ctx := ofCaller(t, "caller")
	requests := func() int { return len(gemini.Requests()) }

	gemini.Enqueue(geminitest.Text("One."))
	once, err := a.Ask(ctx, completion("once", "hello", "I am Ada."), nil)
	if err != nil || once.Response != "One." {
		t.Fatal(once, err)
	}
	for range 2 {
		var kinds []string
		record := &telemetry.Record{}
		again, err := b.Ask(telemetry.WithRecord(ctx, record), completion("once", "hello", "I am Ada."), func(e invoke.Event) error {
			kinds = append(kinds, string(e.Kind))
			return nil
		})
		if err != nil || again.Response != "One." || again.RunID != once.RunID || !again.Replayed() || again.Usage.TotalTokens != once.Usage.TotalTokens {
			t.Errorf("a retry: %+v, %v", again, err)
		}
		if got := strings.Join(kinds, " "); got != "start delta done" || !record.Turn().Replayed {
			t.Errorf("its events: %s, in the log: %+v", got, record.Turn())
		}
	}
	_, err = b.Ask(ctx, completion("once", "hello", "I am Bob."), nil)
	wantCode(t, err, api.IdempotencyMismatch)
	_, err = b.Ask(ctx, completion("once", "bye", "I am Ada."), nil)
	wantCode(t, err, api.IdempotencyMismatch)
	if n := requests(); n != 1 {
		t.Errorf("the model was asked %d times", n)
	}
	if info, err := b.Read(ctx, once.RunID); err != nil || info.State != session.Done || !strings.Contains(string(info.Result.(json.RawMessage)), "One.") {
		t.Errorf("read: %+v, %v", info, err)
	}
	if watched, err := b.Watch(ctx, once.RunID, "", nil); err != nil || watched.Response != "One." {
		t.Errorf("watched: %+v, %v", watched, err)
	}
	_, err = b.Read(ofCaller(t, "stranger"), once.RunID)
	wantCode(t, err, api.NotFound)
	gemini.Enqueue(geminitest.Text("Another's."))
	if other, err := b.Ask(ofCaller(t, "stranger"), completion("once", "hello", "I am Ada."), nil); err != nil || other.Response != "Another's." {
		t.Errorf("another caller's key: %+v, %v", other, err)
	}

	// A call that failed gives its key back, also to another question.
	gemini.Enqueue(geminitest.Error(400, "no"), geminitest.Text("Two."))
	_, err = a.Ask(ctx, completion("failed", "hello"), nil)
	wantCode(t, err, api.ModelFailed)
	if again, err := b.Ask(ctx, completion("failed", "another"), nil); err != nil || again.Response != "Two." || again.Replayed() {
		t.Errorf("after a failure: %+v, %v", again, err)
	}
	again, err := a.Ask(ctx, completion("failed", "another"), nil)
	if err != nil || again.Response != "Two." || !again.Replayed() {
		t.Errorf("and its retry: %+v, %v", again, err)
	}
	// All that the call has shown before is void.
	id, turn, _ := session.SplitRunID(again.RunID)
	if record, err := store.LoadRun(ctx, session.Key{Owner: session.OwnerOf("caller", ""), ID: id}, turn); err != nil || !slices.Equal(record.Resets, []session.Reset{{Step: 1}}) {
		t.Errorf("and its record: %+v, %v", record, err)
	}

	// While it is worked on: a conflict, or its events.
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	began := make(chan string, 1)
	var working sync.WaitGroup
	working.Go(func() {
		_, err := a.Ask(ctx, completion("working", "hello"), func(e invoke.Event) error {
			if e.Kind == invoke.KindStart {
				began <- e.Run
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	_, err = b.Ask(ctx, completion("working", "hello"), nil)
	wantCode(t, err, api.IdempotencyInProgress)
	working.Go(func() {
		text := ""
		_, err := b.Ask(ctx, completion("working", "hello"), func(e invoke.Event) error {
			if e.Kind == session.KindText {
				text += e.Part.Text
			}
			return nil
		})
		if err != nil || text != "one two" {
			t.Errorf("a retry that watches: %q, %v", text, err)
		}
	})
	close(gate)
	working.Wait()

	// One that was stopped keeps its key, and what it has shown.
	gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
	var stopped *invoke.Response
	working.Go(func() {
		stopped, err = a.Ask(ctx, completion("stopped", "hello"), func(e invoke.Event) error {
			if e.Kind == session.KindText {
				began <- e.Run
			}
			return nil
		})
	})
	if err := b.Stop(ctx, <-began); err != nil {
		t.Error(err)
	}
	working.Wait()
	again, err = b.Ask(ctx, completion("stopped", "hello"), nil)
	if err != nil || stopped.Response != "one " || again.Response != "one " || again.FinishReason != "STOPPED" {
		t.Errorf("stopped: %+v, then %+v, %v", stopped, again, err)
	}

	// A holder that has died is taken over.
	asks := requests()
	gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1), geminitest.Text("Three."))
	dying, kill := context.WithCancel(ctx)
	working.Go(func() {
		_, _ = a.Ask(dying, completion("dead", "hello"), func(e invoke.Event) error {
			if e.Kind == session.KindText {
				began <- e.Run
			}
			return nil
		})
	})
	<-began
	first.cut.Store(true)
	offset.Add(int64(session.LeaseTime + time.Second))
	if taken, err := b.Ask(ctx, completion("dead", "hello"), nil); err != nil || taken.Response != "Three." {
		t.Errorf("taken over: %+v, %v", taken, err)
	}
	first.cut.Store(false)
	working.Wait() // fenced, it shows the other's answer
	kill()
	if n := requests() - asks; n != 2 {
		t.Errorf("the model was asked %d times", n)
	}

	// Its key lives a day.
	offset.Add(int64(25 * time.Hour))
	gemini.Enqueue(geminitest.Text("Tomorrow."))
	if next, err := b.Ask(ctx, completion("once", "hello", "I am Ada."), nil); err != nil || next.Response != "Tomorrow." {
		t.Errorf("after a day: %+v, %v", next, err)
	}
}

// A hook that refuses a question gives the key back, and no question is stored before.
func TestAKeyWithoutASessionWhoseQuestionIsRefused(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	store := newMemory()
	refuse := atomic.Bool{}
	refuse.Store(true)
	var stored []byte
	hooks := agent.Hooks{Question: func(ctx context.Context, q *agent.Question) error {
		runs, _, _ := store.ListRuns(ctx, session.OwnerOf("caller", ""), session.RunFilter{}, 10, "")
		for _, r := range runs {
			full, _ := store.LoadRun(ctx, r.Key, r.ID)
			stored = append(stored, full.Request...)
		}
		q.Text = "redacted"
		if refuse.Load() {
			return agent.Refuse("No.")
		}
		return nil
	}}
	s := asked(t, store, gemini, agent.Agent{Hooks: hooks})
	_, err := s.Ask(ofCaller(t, "caller"), completion("key", "my secret"), nil)
	wantCode(t, err, api.ContentBlocked)
	refuse.Store(false)
	gemini.Enqueue(geminitest.Text("Yes."))
	if got, err := s.Ask(ofCaller(t, "caller"), completion("key", "my secret"), nil); err != nil || got.Response != "Yes." {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Ask(ofCaller(t, "caller"), completion("key", "my secret"), nil); err != nil || !got.Replayed() {
		t.Errorf("%+v, %v", got, err)
	}
	if strings.Contains(string(stored), "my secret") || len(stored) == 0 {
		t.Errorf("stored before the hook: %s", stored)
	}
}

// What a run without a session costs in Firestore.
func TestWhatARunWithoutASessionCosts(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Enqueue(geminitest.Text("One."), geminitest.Text("Two."))
	traffic := &storeTraffic{}
	store := firestore.NewSessions(emulator.Client(t, traffic.options()...), time.Hour, time.Now)
	s := asked(t, store, gemini, agent.Agent{})
	for _, tt := range []struct {
		name, key     string
		reads, writes int64
	}{
		{"without a key", "", 0, 0},
		{"with a key", "key", 0, 2},
		{"its retry", "key", 1, 1}, // the write finds that the key is taken
	} {
		traffic.reads.Store(0)
		traffic.writes.Store(0)
		if _, err := s.Ask(ofCaller(t, "caller"), completion(tt.key, "hello"), nil); err != nil {
			t.Fatal(err)
		}
		if reads, writes := traffic.reads.Load(), traffic.writes.Load(); reads != tt.reads || writes != tt.writes || traffic.queries.Load() != 0 {
			t.Errorf("%s: %d reads, %d writes, want %d and %d", tt.name, reads, writes, tt.reads, tt.writes)
		}
	}
}

// tasks is a queue that keeps its tasks.
type tasks struct {
	mu  sync.Mutex
	all []queue.Task
	err error // set: none is taken
}

func (ts *tasks) Enqueue(_ context.Context, t queue.Task, _ time.Time) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.err == nil {
		ts.all = append(ts.all, t)
	}
	return ts.err
}

// kept returns the tasks so far.
func (ts *tasks) kept() []queue.Task {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Clone(ts.all)
}

// deliver has s do a task.
func deliver(t *testing.T, s *invoke.Service, task queue.Task) {
	t.Helper()
	body, _ := json.Marshal(task)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, queue.Path, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if err := s.TasksRoute().Handler(w, r); err != nil || w.Code != http.StatusNoContent {
		t.Error(w.Code, err)
	}
}

// A run in the background passes the agent's hook before its question is stored, and one
// without a session is one run for its key.
func TestAQuestionInTheBackgroundPassesTheHook(t *testing.T) {
	t.Parallel()
	store, waiting := newMemory(), &tasks{}
	hooks := agent.Hooks{Question: func(ctx context.Context, q *agent.Question) error {
		if in := tool.From(ctx); in.Turn != 1 {
			t.Errorf("the hook is told of %+v", in)
		}
		if q.Text == "refused" {
			return agent.Refuse("No.")
		}
		q.Text = "redacted"
		return nil
	}}
	s, ctx := asked(t, store, geminitest.Start(t), agent.Agent{Hooks: hooks}, func(c *invoke.Config) { c.Queue, c.MaxBackground = waiting, 10 }), ofCaller(t, "caller")
	for name, req := range map[string]invoke.Request{
		"in a session": {Query: "my secret"}, "in a session, with a key": {Query: "my secret", Options: invoke.Options{Key: "one"}},
		"without a session": completion("", "my secret"), "without a session, with a key": completion("two", "my secret"),
	} {
		logged := &telemetry.Record{}
		info, err := s.Begin(telemetry.WithRecord(ctx, logged), req)
		if err != nil || !logged.Turn().Asked { // which keeps its permit from being refunded
			t.Fatal(name, err, logged.Turn())
		}
		sessionID, turnID, _ := session.SplitRunID(info.RunID)
		record, err := store.LoadRun(ctx, session.Key{Owner: session.OwnerOf("caller", ""), ID: sessionID}, turnID)
		if err != nil || strings.Contains(string(record.Request), "my secret") || !strings.Contains(string(record.Request), "redacted") || !record.Begins() {
			t.Errorf("%s: %s, %v", name, record.Request, err)
		}
		if req.Options.Key == "" {
			continue
		}
		if again, err := s.Begin(ctx, req); err != nil || again.RunID != info.RunID {
			t.Errorf("%s, again: %+v, %v", name, again, err)
		}
		refused := req
		refused.Query, refused.Options.Key = "refused", "refused "+req.Options.Key
		for range 2 {
			_, err = s.Begin(ctx, refused)
			wantCode(t, err, api.ContentBlocked)
		}
	}
	if len(waiting.kept()) != 6 { // a retry's task has the name of the first
		t.Errorf("%d tasks", len(waiting.kept()))
	}
}

// A run that the queue does not take is no run, unless its key has a retry schedule it.
func TestABackgroundRunThatTheQueueDoesNotTake(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		req   invoke.Request
		works int // runs that are left at work
	}{
		"in a session":             {invoke.Request{Query: "hello"}, 0},
		"in a session, with a key": {invoke.Request{Query: "hello", Options: invoke.Options{Key: "key"}}, 1},
		"without a session":        {completion("", "hello"), 0},
		"without one, with a key":  {completion("key", "hello"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waiting, ctx := &tasks{err: errors.New("the queue is off")}, ofCaller(t, "caller")
			s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{}, func(c *invoke.Config) { c.Queue, c.MaxBackground = waiting, 10 })
			_, err := s.Begin(ctx, tt.req)
			wantCode(t, err, api.Overloaded)
			works, _, err := s.Runs(ctx, session.RunFilter{State: session.Working}, 10, "")
			if err != nil || len(works) != tt.works {
				t.Errorf("at work: %+v, %v", works, err)
			}
			waiting.err = nil
			again, err := s.Begin(ctx, tt.req)
			if err != nil || len(waiting.kept()) != 1 || tt.works > 0 && again.RunID != works[0].RunID {
				t.Errorf("tried again: %+v, %v; tasks: %+v", again, err, waiting.kept())
			}
		})
	}
}

// A lossy store cannot write runs in the background.
type lossy struct{ session.Store }

var errLost = errors.New("the write is refused")

func (l lossy) SaveRun(context.Context, *session.Run) (*session.Run, error) { return nil, errLost }

func (l lossy) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if c.Run != nil {
		return nil, errLost
	}
	return l.Store.Apply(ctx, s, c)
}

// A run in the background that is not there leaves no files, and its key is free at once.
func TestABackgroundRunThatIsNotStored(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lost  bool // its record, else its task
		after string
	}{"its record": {true, "1"}, "its task": {false, "1"}, "its record, of a session": {true, ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, storage, waiting := newMemory(), buckettest.Start(t), &tasks{}
			config := withFiles(t, storage, true, func(c *invoke.Config) { c.Queue, c.MaxBackground = waiting, 10 })
			working, _ := serveAgent(t, store, geminitest.Start(t), reader(), config)
			broken := working
			if tt.lost {
				broken, _ = serveAgent(t, lossy{store}, geminitest.Start(t), reader(), config)
			} else {
				waiting.err = errors.New("the queue is off")
			}
			body, _ := withPicture(t)
			left := 0
			if tt.after == "" { // its files go with it
				_, answer := ask(t, working, "/invoke", `{"query": "hello"}`)
				body = strings.Replace(body, `"query"`, `"session_id":"`+decodeAnswer(t, answer).Data.SessionID+`","query"`, 1)
				left = 1
			}
			if status, answer := ask(t, broken, "/invoke", body, "Prefer", "respond-async"); status < 500 {
				t.Errorf("%d %s", status, answer)
			}
			if n := len(storage.Objects()); n != left {
				t.Errorf("%d files are left, want %d", n, left)
			}
		})
	}
	waiting, store := &tasks{}, newMemory()
	config := func(c *invoke.Config) { c.Queue, c.MaxBackground = waiting, 10 }
	req := invoke.Request{Query: "hello", Options: invoke.Options{Key: "key"}}
	_, err := asked(t, lossy{store}, geminitest.Start(t), agent.Agent{}, config).Begin(ofCaller(t, "caller"), req)
	wantCode(t, err, api.SessionStoreUnavailable)
	if info, err := asked(t, store, geminitest.Start(t), agent.Agent{}, config).Begin(ofCaller(t, "caller"), req); err != nil || info.State != session.Working {
		t.Errorf("its retry: %+v, %v", info, err)
	}
}

// The retry of a key whose run goes on in the background, or has ended there, says that it is
// one.
func TestARetryOfARunInTheBackground(t *testing.T) {
	t.Parallel()
	waiting := &tasks{}
	var s *invoke.Service
	server, _ := serveAgent(t, newMemory(), geminitest.Start(t), agent.Agent{Name: "agent", MaxTokens: 100}, func(c *invoke.Config) {
		c.Queue, c.MaxBackground, c.RunTimeout = waiting, 10, time.Minute
		s = invoke.New(*c)
	})
	for i, replayed := range []string{"", "true", "true"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/invoke", strings.NewReader(`{"query": "hello"}`))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Content-Type": "application/json", "Prefer": "respond-async", "Idempotency-Key": "key"} {
			r.Header.Set(name, value)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get("Idempotency-Replayed"); response.StatusCode != http.StatusAccepted || got != replayed {
			t.Errorf("call %d: %d, replayed %q, want %q", i+1, response.StatusCode, got, replayed)
		}
		if i == 1 {
			deliver(t, s, waiting.kept()[0])
		}
	}
}

// A task takes a place of its run's owner only as long as it works.
func TestATaskLeavesItsPlace(t *testing.T) {
	t.Parallel()
	waiting, ctx := &tasks{}, ofCaller(t, "caller")
	s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{}, func(c *invoke.Config) {
		c.Queue, c.MaxBackground, c.RunTimeout, c.Places = waiting, 10, time.Minute, drain.NewPlaces(1)
	})
	for range 2 {
		info, err := s.Begin(ctx, invoke.Request{Query: "hello"})
		if err != nil {
			t.Fatal(err)
		}
		deliver(t, s, waiting.kept()[len(waiting.kept())-1])
		if read, err := s.Read(ctx, info.RunID); err != nil || read.State != session.Done {
			t.Errorf("%+v, %v", read, err)
		}
	}
}

// A run in the background whose turn could not be stored is not over: the queue looks again.
func TestATaskWhoseTurnIsNotStored(t *testing.T) {
	t.Parallel()
	waiting, ctx := &tasks{}, ofCaller(t, "caller")
	store := &forgetful{Store: newMemory()}
	store.turns.Store(true)
	s := asked(t, store, geminitest.Start(t), agent.Agent{}, func(c *invoke.Config) { c.Queue, c.MaxBackground, c.RunTimeout = waiting, 10, time.Minute })
	info, err := s.Begin(ctx, invoke.Request{Query: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, s, waiting.kept()[0])
	if all := waiting.kept(); len(all) != 2 || all[1].Run != info.RunID || all[1].Attempt != 1 {
		t.Errorf("tasks: %+v", all)
	}
	if now, err := s.Read(ctx, info.RunID); err != nil || now.State != session.Working {
		t.Errorf("the run: %+v, %v", now, err)
	}
}

// A task that finds a run whose holder has died takes it over: what the holder has shown is void.
func TestATaskThatTakesOver(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	waiting, ctx, store, gemini := &tasks{}, ofCaller(t, "caller"), memory(&offset), geminitest.Start(t)
	s := asked(t, store, gemini, agent.Agent{}, func(c *invoke.Config) { c.Queue, c.MaxBackground, c.RunTimeout = waiting, 10, time.Minute })
	info, err := s.Begin(ctx, invoke.Request{Query: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	id, turn, _ := session.SplitRunID(info.RunID)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: id}
	record, err := store.LoadRun(ctx, key, turn)
	if err != nil {
		t.Fatal(err)
	}
	held := *record
	held.Holder, held.Parts = "dead", []session.Part{{Kind: session.KindText, Text: "void "}}
	if _, err := store.SaveRun(ctx, &held); err != nil {
		t.Fatal(err)
	}
	offset.Store(int64(session.LeaseTime + time.Second))
	gemini.Enqueue(geminitest.Text("One."))
	deliver(t, s, waiting.kept()[0])
	ended, err := store.LoadRun(ctx, key, turn)
	if err != nil || ended.State != session.Done || ended.Epoch != record.Epoch+1 {
		t.Errorf("%+v, %v", ended, err)
	}
	read, err := s.Read(ctx, info.RunID)
	if err != nil || read.Stored == nil || !slices.Equal(read.Stored.Resets, []session.Reset{{Step: 1}}) {
		t.Fatalf("%+v, %v", read, err)
	}
	if _, text := read.Stored.Texts(); text != "One." {
		t.Errorf("its answer is %q", text)
	}
}

// A run whose client has left shows it nothing more, although it comes to its end.
func TestAClientThatHasLeft(t *testing.T) {
	t.Parallel()
	s, ctx := asked(t, newMemory(), geminitest.Start(t), agent.Agent{}), ofCaller(t, "caller")
	req, shown := invoke.Request{Query: "hello", Options: invoke.Options{Key: "key"}}, 0
	first, err := s.Ask(ctx, req, func(invoke.Event) error {
		shown++
		return errors.New("the client has left")
	})
	if shown != 1 {
		t.Errorf("shown %d times: %+v, %v", shown, first, err)
	}
	if again, err := s.Ask(ctx, req, nil); err != nil || !again.Replayed() {
		t.Errorf("its retry: %+v, %v", again, err)
	}
}

// A keeping store does not let a run end as failed.
type keeping struct{ session.Store }

func (k keeping) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if r.State == session.Failed {
		return nil, session.ErrUnavailable
	}
	return k.Store.SaveRun(ctx, r)
}

// A key that cannot be given back is in the log.
func TestAKeyThatIsNotReleased(t *testing.T) {
	t.Parallel()
	var s *invoke.Service
	_, log := serveAgent(t, keeping{newMemory()}, geminitest.Start(t), agent.Agent{Name: "agent", MaxTokens: 100}, func(c *invoke.Config) {
		c.Queue, c.MaxBackground = &tasks{err: errors.New("the queue is off")}, 10
		s = invoke.New(*c)
	})
	_, err := s.Begin(ofCaller(t, "caller"), completion("key", "hello"))
	wantCode(t, err, api.Overloaded)
	if !strings.Contains(log.String(), "Idempotency key could not be released; it expires by itself.") {
		t.Errorf("the log: %s", log)
	}
}

// A forgottenReply is a store that makes the first write of a run, whose client hears only that
// its second try came too late.
type forgottenReply struct {
	session.Store
	made atomic.Bool
}

func (f *forgottenReply) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	after, err := f.Store.Apply(ctx, s, c)
	if err == nil && c.Run != nil && !f.made.Swap(true) {
		return nil, session.ErrChanged
	}
	return after, err
}

// A run in the background whose first write was made is accepted, and its key stays its own.
func TestABackgroundRunWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	waiting, ctx := &tasks{}, ofCaller(t, "caller")
	s := asked(t, &forgottenReply{Store: newMemory()}, geminitest.Start(t), agent.Agent{}, func(c *invoke.Config) { c.Queue, c.MaxBackground = waiting, 10 })
	req := invoke.Request{Query: "hello", Options: invoke.Options{Key: "key"}}
	first, err := s.Begin(ctx, req)
	if err != nil || len(waiting.kept()) != 1 {
		t.Fatalf("%+v, %v; tasks: %+v", first, err, waiting.kept())
	}
	if again, err := s.Begin(ctx, req); err != nil || again.RunID != first.RunID {
		t.Errorf("its retry: %+v, %v", again, err)
	}
}

// A call that failed after its run had a record releases its key, too: for any question.
func TestAKeyOfARunWithARecordThatFailed(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serve(t, newMemory(), gemini)
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "fails"}).WithDelay(1300*time.Millisecond), geminitest.Blocked("SAFETY"), geminitest.Text("Well."))
	if _, answer := ask(t, server, "/invoke", streamed, "Idempotency-Key", "key"); !strings.Contains(answer, "event: error\n") {
		t.Fatal(answer)
	}
	if status, answer := ask(t, server, "/invoke", `{"query": "another"}`, "Idempotency-Key", "key"); status != http.StatusOK || !strings.Contains(answer, `"response":"Well."`) {
		t.Errorf("%d %s", status, answer)
	}
}

// A task that the queue delivers to two instances at once begins without a write: the
// first write makes one of them the holder, and the other leaves no turn.
func TestATaskThatTwoInstancesBegin(t *testing.T) {
	t.Parallel()
	gemini, store, waiting := geminitest.Start(t), &instance{Store: newMemory()}, &tasks{}
	start := func() *invoke.Service {
		return asked(t, store, gemini, agent.Agent{}, func(c *invoke.Config) { c.MaxBackground, c.Queue, c.RunTimeout = 10, waiting, time.Minute })
	}
	a, b, ctx := start(), start(), ofCaller(t, "caller")
	gate := make(chan struct{})
	reply := geminitest.Text("one ", "two").WithGate(1, gate)
	gemini.Enqueue(reply, reply)
	info, err := a.Begin(ctx, invoke.Request{Query: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	for _, s := range []*invoke.Service{a, b} {
		working.Go(func() { deliver(t, s, waiting.kept()[0]) })
	}
	if _, err := gemini.Await(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	store.journaled(t, info.RunID, "one ") // by one of the two
	close(gate)
	working.Wait()
	sessionID, _, _ := session.SplitRunID(info.RunID)
	meta, turns, err := store.Turns(ctx, session.Key{Owner: session.OwnerOf("caller", ""), ID: sessionID}, 0, 10)
	if err != nil || meta.Turns != 1 || len(turns) != 1 {
		t.Errorf("%+v, %v", meta, err)
	}
	if read, err := b.Read(ctx, info.RunID); err != nil || read.State != session.Done {
		t.Errorf("%+v, %v", read, err)
	}
}
