package invoke_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/tool"
)

// remove deletes a session.
func (i *instance) remove(t *testing.T, run string) {
	t.Helper()
	id, _, _ := strings.Cut(run, ".")
	if w := i.watch(t, http.MethodDelete, "/sessions/"+id, ""); w.status != http.StatusNoContent {
		t.Fatalf("deleted with status %d", w.status)
	}
}

// A run whose session is deleted while it goes on ends, wherever it was deleted, and
// leaves nothing.
func TestASessionThatIsDeletedUnderARun(t *testing.T) {
	t.Parallel()
	for name, two := range twoInstances {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			a, b := two(t, gemini)
			gemini.Enqueue(geminitest.Text("first"))
			id, _, _ := strings.Cut(runID(t, a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done")[0]), ".")
			gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
			own := a.watch(t, http.MethodPost, "/invoke", `{"query": "hello", "stream": true, "session_id": "`+id+`"}`)
			run := runID(t, own.until(t, "delta")[0])
			a.journaled(t, run, "one ")
			elsewhere := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
			elsewhere.until(t, "delta")
			b.remove(t, run)
			for name, w := range map[string]*watcher{"its client": own, "a watcher elsewhere": elsewhere} {
				events := w.until(t, "")
				if last := events[len(events)-1]; last.name != "error" || !strings.Contains(last.data, "not_found") {
					t.Errorf("%s: the stream ends with %+v", name, last)
				}
			}
			for _, path := range []string{"/runs/" + run, "/runs/" + run + "/events", "/sessions/" + id} {
				if w := b.watch(t, http.MethodGet, path, ""); w.status != http.StatusNotFound {
					t.Errorf("%s: %d", path, w.status)
				}
			}
			if list := get(t, b.Server, "/runs"); strings.Contains(list, run) {
				t.Errorf("listed: %s", list)
			}
		})
	}
}

// A position that the run never reaches shows no end as if all had been seen.
func TestAnEventIDBeyondARunThatGoesOn(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _ := instances(t, gemini)
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	before := own.until(t, "delta")
	run := runID(t, before[0])
	tag, _, _ := strings.Cut(before[0].id, ".")
	beyond := tag + ".0.7.0"
	if w := a.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", beyond); w.status != http.StatusBadRequest {
		t.Errorf("where it runs: %d", w.status)
	}
	a.journaled(t, run, "one ")
	w := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", beyond)
	close(gate)
	own.until(t, "done")
	if events := w.until(t, ""); w.status == http.StatusOK && (len(events) != 1 || events[0].name != "error" || !strings.Contains(events[0].data, "malformed_request")) {
		t.Errorf("elsewhere: %d, %+v", w.status, events)
	}
}

// What a long answer has shown and come to is far from Firestore's limit of 1 MiB for a
// document, in the record and in the session.
func TestAJournalThatWouldPass1MiB(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, b, _, _ := onFirestore(t, gemini)
	// The turn has 410 KB. The record has the finished steps twice: as they were shown, and
	// as the model is told.
	step := strings.Repeat("x", 150<<10)
	call := geminitest.Parts(members{"text": step}, members{"functionCall": members{"name": "floods", "args": members{"bytes": 1000}}})
	var pieces []string
	for i := range 11 {
		pieces = append(pieces, fmt.Sprint(i%10, strings.Repeat("y", 10<<10-1)))
	}
	gemini.Enqueue(call, call, geminitest.Text(pieces...).WithDelay(200*time.Millisecond))
	own := a.watch(t, http.MethodPost, "/invoke", streamed)
	before := own.until(t, "tool_result")
	run := runID(t, before[0])
	await(t, b, run, isRecorded)
	watcher := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	want := step + "\n\n" + step + "\n\n" + strings.Join(pieces, "")
	if got := shows(t, append(before, own.until(t, "done")...)...); got != want {
		t.Errorf("its client has %d bytes of %d", len(got), len(want))
	}
	if got := shows(t, watcher.until(t, "done")...); got != want {
		t.Errorf("a watcher has %d bytes of %d", len(got), len(want))
	}
	if got, finish := stored(t, b, run); got != want || finish != "STOP" {
		t.Errorf("stored: %d bytes of %d, %s", len(got), len(want), finish)
	}
}

// The clocks of two instances are minutes apart: a holder that lives is not taken for
// dead, one that is dead is taken over, and a stop ends a run.
func TestClocksThatAreMinutesApart(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"ahead": 2 * time.Minute, "behind": -2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			host, project := emulator.Host(t), emulator.Project()
			start := func(off time.Duration) *instance {
				now := func() time.Time { return time.Now().Add(off) }
				i := &instance{Store: firestore.NewSessions(emulator.Connect(t, host, project), time.Hour, now)}
				i.Server, _ = serveAgent(t, i, gemini, agent.Agent{Name: "agent", MaxTokens: 100}, func(c *invoke.Config) { c.Now = now })
				return i
			}
			a, b := start(0), start(ahead)
			asked := func(i *instance, reply geminitest.Reply, headers ...string) (*watcher, []sent, string) {
				gemini.Enqueue(reply)
				own := i.watch(t, http.MethodPost, "/invoke", streamed, headers...)
				before := own.until(t, "delta")
				run := runID(t, before[0])
				i.journaled(t, run, "one ")
				return own, before, run
			}
			gate := make(chan struct{})
			own, before, run := asked(a, geminitest.Text("one ", "two").WithGate(1, gate), "Idempotency-Key", "living")
			watcher := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
			retry := b.watch(t, http.MethodPost, "/invoke", `{"query": "hello"}`, "Idempotency-Key", "living")
			if retry.status != http.StatusConflict {
				t.Errorf("a retry of its key: %d", retry.status)
			}
			close(gate)
			for name, got := range map[string]string{"its client": shows(t, append(before, own.until(t, "done")...)...), "a watcher": shows(t, watcher.until(t, "done")...)} {
				if got != "one two" {
					t.Errorf("%s has %q", name, got)
				}
			}
			own, _, run = asked(a, geminitest.Text("one ", "two").SilentAfter(1))
			if w := b.watch(t, http.MethodPost, "/runs/"+run+"/stop", ""); w.status != http.StatusAccepted {
				t.Errorf("a stop: %d", w.status)
			}
			if events := own.until(t, ""); !strings.Contains(events[len(events)-1].data, "STOPPED") {
				t.Errorf("stopped: %+v", events[len(events)-1])
			}
			_, _, run = asked(b, geminitest.Text("one ", "two").SilentAfter(1))
			b.cut.Store(true) // it dies
			gemini.Enqueue(geminitest.Text("three"))
			if got := shows(t, a.watch(t, http.MethodGet, "/runs/"+run+"/events", "").until(t, "done")...); got != "three" {
				t.Errorf("taken over: %q", got)
			}
			b.cut.Store(false)
			if n := len(gemini.Requests()); n != 4 {
				t.Errorf("the model was asked %d times", n)
			}
		})
	}
}

// A retry of a key at an instance whose clock is minutes ahead finds the first call's lease
// lapsed, and takes its key over. Only one of the two goes on to the effect and leaves a turn.
func TestAKeyUnderClocksThatAreMinutesApart(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"ahead": 2 * time.Minute, "behind": -2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini, b, host, project := geminitest.Start(t), &bank{}, emulator.Host(t), emulator.Project()
			start := func(off time.Duration) *httptest.Server {
				now := func() time.Time { return time.Now().Add(off) }
				store := firestore.NewSessions(emulator.Connect(t, host, project), time.Hour, now)
				server, _ := serveAgent(t, store, gemini, b.agent(tool.Effect(b.reconcile)), func(c *invoke.Config) { c.Now = now })
				return server
			}
			first, second := start(0), start(ahead)
			gate, asks := make(chan struct{}), make(chan struct{}, 4)
			open := sync.OnceFunc(func() { close(gate) })
			defer open()
			var asked atomic.Int32
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				if contents := r.Contents(); contents[len(contents)-1]["role"] == "user" && strings.Contains(fmt.Sprint(contents[len(contents)-1]), "functionResponse") {
					return geminitest.Text("Paid.")
				}
				if asked.Add(1) == 1 {
					asks <- struct{}{}
					<-gate
				}
				return pays(50)
			})
			const question = `{"query": "pay"}`
			ended := make(chan answered, 1)
			go func() {
				_, body := ask(t, first, "/invoke", question, "Idempotency-Key", "key")
				ended <- decodeAnswer(t, body)
			}()
			<-asks
			status, body := ask(t, second, "/invoke", question, "Idempotency-Key", "key")
			if ahead > 0 && status != http.StatusOK || ahead < 0 && status != http.StatusConflict {
				t.Errorf("the retry: %d, %s", status, body)
			}
			open()
			one := <-ended
			_, body = ask(t, second, "/invoke", question, "Idempotency-Key", "key")
			replayed := decodeAnswer(t, body)
			if replayed.Data.Response != "Paid." || one.Error == "" && one.Data.RunID != replayed.Data.RunID || b.sum() != 50 || len(b.begins()) != 1 {
				t.Errorf("the first call: %+v; in the end: %+v; paid %d, begun %d times", one, replayed, b.sum(), len(b.begins()))
			}
			if turns := get(t, first, "/sessions/"+replayed.Data.SessionID); strings.Count(turns, `"run_id"`) != 1 {
				t.Errorf("want one turn: %s", turns)
			}
		})
	}
}
