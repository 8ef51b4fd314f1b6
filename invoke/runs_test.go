package invoke_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
)

// An instance is a service of its own on a store that it shares with others. Its
// connection to the store can be cut, and what it writes of its runs can be waited for.
type instance struct {
	session.Store
	*httptest.Server
	cut atomic.Bool

	mu      sync.Mutex
	records map[string]*session.Run // as it wrote them last, by turn
	wrote   chan struct{}           // closed when records changes
}

func (i *instance) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if i.cut.Load() {
		return nil, session.ErrUnavailable
	}
	after, err := i.Store.Apply(ctx, s, c)
	if err == nil && c.Run != nil {
		i.written(c.Run)
	}
	return after, err
}

func (i *instance) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if i.cut.Load() {
		return nil, session.ErrUnavailable
	}
	saved, err := i.Store.SaveRun(ctx, r)
	if err == nil {
		i.written(r)
	}
	return saved, err
}

func (i *instance) written(r *session.Run) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.records == nil {
		i.records = map[string]*session.Run{}
	}
	i.records[r.ID] = r
	if i.wrote != nil {
		close(i.wrote)
		i.wrote = nil
	}
}

// journaled waits until i has written a record of a run that shows a text.
func (i *instance) journaled(t *testing.T, run, text string) {
	t.Helper()
	_, turn, _ := session.SplitRunID(run)
	timeout := time.After(10 * time.Second)
	for {
		i.mu.Lock()
		record := i.records[turn]
		if i.wrote == nil {
			i.wrote = make(chan struct{})
		}
		wrote := i.wrote
		i.mu.Unlock()
		if record != nil && slices.ContainsFunc(record.Parts, func(p session.Part) bool { return strings.Contains(p.Text, text) }) {
			return
		}
		select {
		case <-wrote:
		case <-timeout:
			t.Fatalf("no record of the run shows %q: %+v", text, record)
		}
	}
}

// instances returns two instances on one store, and what moves the store's clock.
func instances(t *testing.T, gemini *geminitest.Server) (a, b *instance, advance func(time.Duration)) {
	t.Helper()
	var offset atomic.Int64
	store := memory(&offset)
	make := func() *instance {
		i := &instance{Store: store}
		i.Server, _ = serve(t, i, gemini)
		return i
	}
	return make(), make(), func(d time.Duration) { offset.Add(int64(d)) }
}

// twoInstances start two instances on one store, of each kind of store.
var twoInstances = map[string]func(*testing.T, *geminitest.Server) (a, b *instance){
	"in memory":    func(t *testing.T, g *geminitest.Server) (a, b *instance) { a, b, _ = instances(t, g); return },
	"on Firestore": func(t *testing.T, g *geminitest.Server) (a, b *instance) { a, b, _, _ = onFirestore(t, g); return },
}

// A sent event, with its id.
type sent struct{ name, id, data string }

// A watcher reads an event stream.
type watcher struct {
	status int
	events chan sent // closed at the end
	leave  func()
}

func (i *instance) watch(t *testing.T, method, path, body string, headers ...string) *watcher {
	t.Helper()
	ctx, leave := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, method, i.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	response, err := i.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{status: response.StatusCode, events: make(chan sent, 1000), leave: leave}
	done := make(chan struct{})
	t.Cleanup(func() { leave(); <-done })
	go func() {
		defer close(done)
		defer func() { _ = response.Body.Close() }()
		defer close(w.events)
		var e sent
		lines := bufio.NewScanner(response.Body)
		for lines.Buffer(nil, 1<<20); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e != (sent{}) {
					w.events <- e
				}
				e = sent{}
			}
		}
	}()
	return w
}

// until returns the events up to one of a name, or all if name is "".
func (w *watcher) until(t *testing.T, name string) []sent {
	t.Helper()
	var all []sent
	for e := range w.events {
		all = append(all, e)
		if e.name == name {
			return all
		}
	}
	if name != "" {
		t.Fatalf("no event %s among %v", name, all)
	}
	return all
}

// shows returns the text that the events leave on a page, after what was there before
// from the part on that the first event begins with.
func shows(t *testing.T, events ...sent) string {
	t.Helper()
	parts := map[int]string{}
	for _, e := range events {
		var at, part, offset int
		fields := strings.Split(e.id, ".")
		if _, err := fmt.Sscanf(strings.Join(fields[len(fields)-3:], " "), "%d %d %d", &at, &part, &offset); err != nil {
			t.Fatalf("id %q: %v", e.id, err)
		}
		var data struct {
			Text string
			Part int
		}
		if err := json.Unmarshal([]byte(e.data), &data); err != nil {
			t.Fatal(err)
		}
		switch e.name {
		case "delta":
			if len(parts[part])+len(data.Text) != offset {
				t.Errorf("%q at %s does not follow on %q", data.Text, e.id, parts[part])
			}
			parts[part] += data.Text
		case "reset":
			for n := range parts {
				if n >= data.Part {
					delete(parts, n)
				}
			}
		}
	}
	text := ""
	for n := range 1000 {
		text += parts[n]
	}
	return text
}

func runID(t *testing.T, start sent) string {
	t.Helper()
	var data struct {
		RunID string `json:"run_id"`
	}
	if err := json.Unmarshal([]byte(start.data), &data); err != nil || start.name != "start" || data.RunID == "" {
		t.Fatalf("the first event is %+v", start)
	}
	return data.RunID
}

// stored returns the response of the only turn of a run's session.
func stored(t *testing.T, i *instance, run string) (response, finish string) {
	t.Helper()
	id, _, _ := strings.Cut(run, ".")
	var read struct {
		Data struct {
			Turns []struct {
				Response     string
				FinishReason string `json:"finish_reason"`
			}
		}
	}
	if err := json.Unmarshal([]byte(get(t, i.Server, "/sessions/"+id)), &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Data.Turns) != 1 {
		t.Fatalf("%d turns, want 1", len(read.Data.Turns))
	}
	return read.Data.Turns[0].Response, read.Data.Turns[0].FinishReason
}

// await waits until the record of a run is there.
func await(t *testing.T, i *instance, run string, has func(body string) bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if has(get(t, i.Server, "/runs/"+run)) {
			return
		}
	}
	t.Fatalf("the run stays %s", get(t, i.Server, "/runs/"+run))
}

func isRecorded(body string) bool { return strings.Contains(body, `"state":"working"`) }

const streamed = `{"query": "hello", "stream": true}`

func TestResume(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two ", "three 🦀 ", "four").WithGate(2, gate))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	before := own.until(t, "delta")
	run := runID(t, before[0])
	second := <-own.events
	await(t, b, run, isRecorded)
	watchers := map[string]*watcher{
		"elsewhere, from the start":   b.watch(t, http.MethodGet, "/runs/"+run+"/events", ""),
		"elsewhere, from the start 2": b.watch(t, http.MethodGet, "/runs/"+run+"/events", ""),
		"here, from the start":        a.watch(t, http.MethodGet, "/runs/"+run+"/events", ""),
	}
	from := map[string]*watcher{
		"elsewhere, from an event": b.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", second.id),
		"here, from an event":      a.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", second.id),
	}
	close(gate)
	const want = "one two three 🦀 four"
	all := append(append(before, second), own.until(t, "done")...)
	if got := shows(t, all...); got != want {
		t.Errorf("the client's own stream shows %q", got)
	}
	watchers["elsewhere, afterwards"] = b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	from["elsewhere, afterwards, from an event"] = b.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", second.id)
	for name, w := range watchers {
		if got := shows(t, w.until(t, "done")...); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, w := range from {
		if got := shows(t, append(append(before[:len(before):len(before)], second), w.until(t, "done")...)...); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got, finish := stored(t, b, run); got != want || finish != "STOP" {
		t.Errorf("stored: %q, %s", got, finish)
	}
	last := all[len(all)-1].id
	if w := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", last); w.status != http.StatusNoContent {
		t.Errorf("after the last event: %d", w.status)
	}
	if list := get(t, b.Server, "/runs"); !strings.Contains(list, run) {
		t.Errorf("listed: %s", list)
	}
	if read := get(t, b.Server, "/runs/"+run); !strings.Contains(read, `"state":"done"`) || !strings.Contains(read, `"response":"one two three`) {
		t.Errorf("read: %s", read)
	}
}

func TestBadEventIDs(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, _, _ := instances(t, gemini)
	first := a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done")
	other := a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done")
	run := runID(t, first[0])
	tag, _, _ := strings.Cut(first[0].id, ".")
	for name, id := range map[string]string{
		"of another run":  other[0].id,
		"beyond the end":  tag + ".0.99.0",
		"beyond the text": tag + ".0.0.99999",
		"of no attempt":   tag + ".7.0.0",
		"negative":        tag + ".0.-1.0",
		"too large":       tag + ".0.99999999999999999999.0",
		"of 10 kB":        strings.Repeat("x", 10<<10),
		"of no form":      "7",
	} {
		if w := a.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", id); w.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, w.status)
		}
	}
	for _, path := range []string{"/runs/none", "/runs/" + session.RunID(session.NewID(), session.NewID()), "/runs/x.y/events", "/runs/none/stop"} {
		method := http.MethodGet
		if strings.HasSuffix(path, "stop") {
			method = http.MethodPost
		}
		if w := a.watch(t, method, path, ""); w.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.status)
		}
	}
	if w := a.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusConflict {
		t.Errorf("stop of a run that is over: %d", w.status)
	}
	if w := a.watch(t, http.MethodGet, "/runs?state=lost", ""); w.status != http.StatusUnprocessableEntity {
		t.Errorf("an unknown state: %d", w.status)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	for name, elsewhere := range map[string]bool{"here": false, "elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			a, b, _ := instances(t, gemini)
			gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
			own := a.watch(t, http.MethodPost, "/invoke", streamed)
			run := runID(t, own.until(t, "delta")[0])
			from := a
			if elsewhere {
				from = b
			}
			stopped := time.Now()
			if w := from.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusAccepted {
				t.Fatalf("the stop: %d", w.status)
			}
			events := own.until(t, "")
			if took := time.Since(stopped); took > 1500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if last := events[len(events)-1]; last.name != "done" || !strings.Contains(last.data, `"finish_reason":"STOPPED"`) {
				t.Errorf("the stream ends with %+v", last)
			}
			if got, finish := stored(t, b, run); got != "one " || finish != "STOPPED" {
				t.Errorf("stored: %q, %s", got, finish)
			}
			await(t, b, run, func(body string) bool { return strings.Contains(body, `"state":"stopped"`) })
			if w := b.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusConflict {
				t.Errorf("a second stop: %d", w.status)
			}
		})
	}
}

// An instance whose connection is cut off is taken over by whoever asks. When it is back,
// it stores nothing, and its client sees what the other has stored.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	call := geminitest.FunctionCall{Name: "floods", Args: map[string]any{"bytes": 1}}
	for name, by := range map[string]func(t *testing.T, b *instance, run string) *watcher{
		"a resume": func(t *testing.T, b *instance, run string) *watcher {
			return b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
		},
		"a retry of the key": func(t *testing.T, b *instance, _ string) *watcher {
			return b.watch(t, http.MethodPost, "/invoke", streamed, "Idempotency-Key", "key")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			a, b, advance := instances(t, gemini)
			gate := make(chan struct{})
			gemini.Enqueue(
				geminitest.Parts(map[string]any{"text": "Let me see."}, map[string]any{"functionCall": map[string]any{"name": call.Name, "args": call.Args}}),
				geminitest.Text("void ", "never").WithGate(1, gate),
				geminitest.Text("It ", "is ", "one."),
			)
			own := a.watch(t, http.MethodPost, "/invoke", streamed, "Idempotency-Key", "key")
			before := own.until(t, "tool_result")
			before = append(before, own.until(t, "delta")...)
			run := runID(t, before[0])
			a.journaled(t, run, "void ")
			a.cut.Store(true)
			advance(session.LeaseTime + 3*time.Second)
			const want = "Let me see.\n\nIt is one."
			if got := shows(t, by(t, b, run).until(t, "done")...); got != want {
				t.Errorf("the other instance shows %q", got)
			}
			a.cut.Store(false)
			events := append(before, own.until(t, "done")...)
			if got := shows(t, events...); got != want {
				t.Errorf("the first instance's client sees %q", got)
			}
			close(gate)
			if got, _ := stored(t, a, run); got != want {
				t.Errorf("stored: %q", got)
			}
			if n := len(gemini.Requests()); n != 3 {
				t.Errorf("the model was asked %d times, want 3: a finished step is not asked again", n)
			}
		})
	}
}

// A run that is taken over goes on although the one that took it over leaves.
func TestLeavingARunThatIsTakenOver(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, advance := instances(t, gemini)
	dead, gate := make(chan struct{}), make(chan struct{})
	defer close(dead)
	gemini.Enqueue(geminitest.Text("void ", "never").WithGate(1, dead), geminitest.Text("It ", "is one.").WithGate(1, gate))
	run := runID(t, a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "delta")[0])
	a.journaled(t, run, "void ")
	a.cut.Store(true)
	advance(session.LeaseTime + 3*time.Second)
	w := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	for e := range w.events {
		if strings.Contains(e.data, `"It "`) {
			break
		}
	}
	w.leave()
	time.Sleep(50 * time.Millisecond) // for the instance to see that
	close(gate)
	await(t, b, run, func(body string) bool { return !strings.Contains(body, `"state":"working"`) })
	if got, finish := stored(t, b, run); got != "It is one." || finish != "STOP" {
		t.Errorf("stored: %q, %s", got, finish)
	}
}

// A run that is stopped before it has shown anything leaves no turn, and ends as stopped.
func TestAStopBeforeAnyText(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	gemini.Enqueue(geminitest.Text("one ").SilentAfter(0))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	run := runID(t, own.until(t, "start")[0])
	await(t, b, run, isRecorded)
	if w := b.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusAccepted {
		t.Fatalf("the stop: %d", w.status)
	}
	own.until(t, "error")
	await(t, b, run, func(body string) bool { return strings.Contains(body, `"state":"stopped"`) })
}

// A stop whose holder has died stores what the record has.
func TestStopOfADeadHolder(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, advance := instances(t, gemini)
	gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	before := own.until(t, "delta")
	run := runID(t, before[0])
	await(t, b, run, isRecorded)
	a.cut.Store(true)
	advance(session.LeaseTime + 3*time.Second)
	if w := b.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusAccepted {
		t.Fatalf("the stop: %d", w.status)
	}
	if got, finish := stored(t, b, run); got != "one " || finish != "STOPPED" {
		t.Errorf("stored: %q, %s", got, finish)
	}
	a.cut.Store(false)
	if got := shows(t, append(before, own.until(t, "done")...)...); got != "one " {
		t.Errorf("the first instance's client sees %q", got)
	}
	if n := len(gemini.Requests()); n != 1 {
		t.Errorf("the model was asked %d times", n)
	}
}

// A stop whose holder dies before it meets it is met by whoever takes the run over.
func TestAStopThatADeadHolderHasNotMet(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, advance := instances(t, gemini)
	gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	run := runID(t, own.until(t, "delta")[0])
	a.journaled(t, run, "one ")
	a.cut.Store(true)
	if w := b.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusAccepted {
		t.Fatalf("the stop: %d", w.status)
	}
	advance(session.LeaseTime + 3*time.Second)
	events := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "").until(t, "done")
	if got := shows(t, events...); got != "one " || !strings.Contains(events[len(events)-1].data, "STOPPED") {
		t.Errorf("a watcher sees %q, and at the end %s", got, events[len(events)-1].data)
	}
	if got, finish := stored(t, b, run); got != "one " || finish != "STOPPED" {
		t.Errorf("stored: %q, %s", got, finish)
	}
	if n := len(gemini.Requests()); n != 1 {
		t.Errorf("the model was asked %d times", n)
	}
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path, body string
		headers          []string
		want, finish     string
	}{
		{"of /invoke", "/invoke", streamed, nil, "one ", "STOPPED"},
		{"of /invoke, which asks to go on", "/invoke", `{"query": "hello", "stream": true, "on_disconnect": "continue"}`, nil, "one two", "STOP"},
		{"of /invoke with a key", "/invoke", streamed, []string{"Idempotency-Key", "key"}, "one two", "STOP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			a, b, _ := instances(t, gemini)
			gate := make(chan struct{})
			gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
			own := a.watch(t, http.MethodPost, test.path, test.body, test.headers...)
			run := runID(t, own.until(t, "delta")[0])
			own.leave()
			if test.finish == "STOPPED" {
				await(t, b, run, func(body string) bool { return strings.Contains(body, `"state":"stopped"`) })
			}
			close(gate)
			await(t, b, run, func(body string) bool {
				return !strings.Contains(body, `"state":"working"`) && !strings.Contains(body, "not_found")
			})
			if got, finish := stored(t, b, run); got != test.want || finish != test.finish {
				t.Errorf("stored: %q, %s", got, finish)
			}
		})
	}
}

// A run whose session is deleted ends, and tells its own watcher only.
func TestDeletedWhileItGoesOn(t *testing.T) {
	t.Parallel()
	for name, two := range twoInstances {
		for _, tt := range []struct {
			name    string
			all     bool
			headers []string
		}{
			{"all", true, nil},
			{"its session, which has no turn yet", false, nil},
			{"its session, which has a key only", false, []string{"Idempotency-Key", "k"}},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				a, b := two(t, gemini)
				gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
				own := a.watch(t, http.MethodPost, "/invoke", streamed, tt.headers...)
				run := runID(t, own.until(t, "delta")[0])
				a.journaled(t, run, "one ")
				id, _, _ := strings.Cut(run, ".")
				path := "/sessions/" + id
				if tt.all {
					path = "/sessions"
				}
				if w := b.watch(t, http.MethodDelete, path, ""); w.status != http.StatusNoContent {
					t.Fatalf("the deletion: %d", w.status)
				}
				events := own.until(t, "error")
				if last := events[len(events)-1]; !strings.Contains(last.data, "session_not_found") {
					t.Errorf("the end: %s", last.data)
				}
				for _, path := range []string{"/runs/" + run + "/events", "/sessions/" + id} {
					if w := b.watch(t, http.MethodGet, path, ""); w.status != http.StatusNotFound {
						t.Errorf("%s: %d", path, w.status)
					}
				}
				if w := b.watch(t, http.MethodDelete, "/sessions/"+id, ""); w.status != http.StatusNotFound {
					t.Errorf("a second deletion: %d", w.status)
				}
				if len(tt.headers) > 0 {
					if w := b.watch(t, http.MethodPost, "/invoke", streamed, tt.headers...); w.status != http.StatusNotFound {
						t.Errorf("a retry of its key: %d", w.status)
					}
				}
			})
		}
	}
}

// Who resumes elsewhere in a run's first second, which leaves no record, is not told that
// there is none: an EventSource gives up at a 404.
func TestResumeInTheFirstSecond(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	before := own.until(t, "delta")
	run := runID(t, before[0])
	w := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", before[len(before)-1].id) // until there is a record
	if w.status != http.StatusOK {
		t.Fatalf("status %d", w.status)
	}
	close(gate)
	if got := shows(t, append(before, w.until(t, "done")...)...); got != "one two" {
		t.Errorf("it shows %q", got)
	}
}

// A run of less than a second has no record.
func TestAShortRunHasNoRecord(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	gemini.Enqueue(geminitest.Text("one ", "two"))
	run := runID(t, a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done")[0])
	if list := get(t, b.Server, "/runs"); !strings.Contains(list, `"runs":[]`) {
		t.Errorf("listed: %s", list)
	}
	if got := shows(t, b.watch(t, http.MethodGet, "/runs/"+run+"/events", "").until(t, "done")...); got != "one two" {
		t.Errorf("its events show %q", got)
	}
}

// A deafClient takes nothing of a response, as one whose connection is full.
type deafClient struct{ http.ResponseWriter }

func (deafClient) Write([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// A client that does not read is no failure of the service, which health would count.
func TestAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"the events of a run": "/runs/RUN/events", "an export": "/export"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, written := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "plain", MaxTokens: 100})
			gemini.Enqueue(geminitest.Text("Hello."))
			_, body := ask(t, server, "/invoke", `{"query": "hello"}`)
			path := strings.Replace(path, "RUN", decodeAnswer(t, body).Data.RunID, 1)
			server.Config.Handler.ServeHTTP(deafClient{httptest.NewRecorder()}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			code := regexp.MustCompile(`"code":"(\w+)"`).FindStringSubmatch(written.String())
			if code == nil || code[1] != "client_closed_request" {
				t.Errorf("%q in %s", code, written)
			}
		})
	}
}
