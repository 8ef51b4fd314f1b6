package invoke_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A hookedStore calls functions before and after it reads, once they are set.
type hookedStore struct {
	session.Store
	load, loadRun atomic.Pointer[func() error]
	loaded        atomic.Pointer[func()]
}

// hook makes i's store a hookedStore. It must be called before the first request.
func (i *instance) hook() *hookedStore {
	h := &hookedStore{Store: i.Store}
	i.Store = h
	return h
}

func (h *hookedStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	if f := h.load.Load(); f != nil {
		if err := (*f)(); err != nil {
			return nil, err
		}
	}
	loaded, err := h.Store.Load(ctx, key)
	if f := h.loaded.Load(); f != nil {
		(*f)()
	}
	return loaded, err
}

func (h *hookedStore) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	if f := h.loadRun.Load(); f != nil {
		if err := (*f)(); err != nil {
			return nil, err
		}
	}
	return h.Store.LoadRun(ctx, key, id)
}

// A takeover that fails before its run is admitted ends the stream with its error: by the
// status if nothing was sent yet, by an event otherwise.
func TestATakeoverThatFailsBeforeItBegins(t *testing.T) {
	t.Parallel()
	const (
		chat      = "0123456789abcdefchat"
		submitted = `{"id": "` + chat + `", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}], "trigger": "submit-message"}`
	)
	failures := map[string]struct {
		load   func() error
		status int
		code   string
	}{
		"the store is unavailable": {func() error { return session.ErrUnavailable }, http.StatusServiceUnavailable, "session_store_unavailable"},
		"the session is deleted":   {func() error { return session.ErrNotFound }, http.StatusNotFound, "session_not_found"},
		"a panic":                  {func() error { panic(theSecret) }, http.StatusInternalServerError, "internal"},
	}
	for name, failure := range failures {
		for way, asked := range map[string]struct {
			path, body string
			resumes    bool // with the id of an event, when the holder is dead
		}{
			"a watcher":             {"/invoke", streamed, false},
			"a client that resumes": {"/invoke", streamed, true},
			"a page with its chat":  {"/chat", submitted, false},
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				a, b, advance := instances(t, gemini)
				store := b.hook()
				gate := make(chan struct{})
				defer close(gate)
				gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
				own := a.watch(t, http.MethodPost, asked.path, asked.body, "Idempotency-Key", "key")
				var run, resume, last string
				for e := range own.events {
					if e.name == "start" {
						run = runID(t, e)
					}
					if last = e.id; strings.Contains(e.data, "one ") {
						break
					}
				}
				resume = "/runs/" + run + "/events"
				if asked.path == "/chat" {
					resume = "/chat/" + chat + "/stream"
				}
				awaitRecord(t, a)
				var w *watcher
				if !asked.resumes { // it has a mirror
					w = b.watch(t, http.MethodGet, resume, "")
					<-w.events
				}
				a.cut.Store(true)
				store.load.Store(&failure.load)
				advance(session.LeaseTime + 3*time.Second)
				if asked.resumes {
					w = b.watch(t, http.MethodGet, resume, "", "Last-Event-ID", last)
					if w.status != failure.status {
						t.Errorf("the status is %d, want %d", w.status, failure.status)
					}
					return
				}
				var events []sent
				for e := range w.events {
					if e.data != "[DONE]" {
						events = append(events, e)
					}
				}
				if len(events) == 0 {
					t.Fatal("the stream has no end")
				}
				end := events[len(events)-1]
				if asked.path == "/chat" {
					if !strings.Contains(end.data, `"type":"error"`) {
						t.Errorf("the stream ends with %+v", events)
					}
					return
				}
				if end.name != "error" || !strings.Contains(end.data, failure.code) {
					t.Errorf("the stream ends with %+v", end)
				}
				if _, ok := invoke.ParseEventID(run, end.id); !ok {
					t.Errorf("the end has the id %q: nobody can resume behind it", end.id)
				}
			})
		}
	}
}

// awaitRecord waits until the only run has a record.
func awaitRecord(t *testing.T, i *instance) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !strings.Contains(get(t, i.Server, "/runs"), `"state":"working"`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the run has no record")
		}
	}
}

// A panic while a record is read ends the streams of its run, and not the process.
func TestAPanicInAMirror(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	store := b.hook()
	gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
	run := runID(t, a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "delta")[0])
	awaitRecord(t, a)
	w := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	w.until(t, "delta")
	panics := func() error { panic(theSecret) }
	store.loadRun.Store(&panics)
	if events := w.until(t, "error"); !strings.Contains(events[len(events)-1].data, `"error":"internal"`) || strings.Contains(events[len(events)-1].data, theSecret) {
		t.Errorf("the stream ends with %+v", events)
	}
	store.loadRun.Store(nil)
	again := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	again.until(t, "delta")
	b.watch(t, http.MethodPost, "/runs/"+run+"/stop", "")
	again.until(t, "done")
}

// A run that ends while it is read is found: it has no record, its turn is not stored yet
// when that is looked for, and afterwards it is not at work any more.
func TestARunThatEndsWhileItIsRead(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, _, _ := instances(t, gemini)
	store := a.hook()
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	run := runID(t, own.until(t, "delta")[0])
	var once sync.Once
	ends := func() {
		close(gate)
		for range own.events { // until it has ended
		}
	}
	store.loaded.Store(new(func() { once.Do(ends) }))
	if read := get(t, a.Server, "/runs/"+run); !strings.Contains(read, `"state":"working"`) && !strings.Contains(read, `"state":"done"`) {
		t.Errorf("read: %s", read)
	}
}
