package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
)

// A store that is slow makes answers late, and nothing else.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	link := newLink(t, emulatorHost(t))
	s, _ := startGemini(t, firestore(link.Addr)...)
	id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
	link.slow(300 * time.Millisecond)
	begun := time.Now()
	if got := s.invoke(t, map[string]any{"query": "go on", "session_id": id}); got.Turn != 2 || len(got.Warnings) != 0 {
		t.Errorf("turn: %+v", got)
	}
	if took := time.Since(begun); took < 600*time.Millisecond {
		t.Errorf("reading and writing took %v over a link that is slow", took)
	}
	_, got := s.stream(t, map[string]any{"query": "hello"}).wantDone(t)
	if len(got.Warnings) != 0 {
		t.Errorf("a new session: %+v", got)
	}
	link.mend()
	for session, turns := range map[string]int{id: 2, got.SessionID: 1} {
		if n := turnsOf(t, s, session); n != turns {
			t.Errorf("%d turns stored, want %d", n, turns)
		}
	}
}

// If the store fails between a turn's start and its commit, the turn is stored, or the
// answer warns that it may not be. It is never stored twice.
func TestStoreGoesBeforeTheCommit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		after time.Duration // the model's answer; the store comes back
		stays bool          // away
		hangs bool
	}{
		{name: "back at once"},
		{name: "back during the commit", after: 300 * time.Millisecond},
		{name: "back later in the commit", after: 2 * time.Second},
		{name: "held up during the commit", after: 500 * time.Millisecond, hangs: true},
		{name: "cut off", stays: true},
		{name: "hanging", stays: true, hangs: true},
	}
	emulatorHost(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			link := newLink(t, emulatorHost(t))
			s, gemini := startGemini(t, firestore(link.Addr)...)
			id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
			gemini.Forget()
			gate := make(chan struct{})
			gemini.Enqueue(geminitest.Text("The answer.").WithGate(0, gate))
			ctx := bounded(t)
			coming := s.background(ctx, t, map[string]any{"query": "go on", "session_id": id})
			if _, err := gemini.Await(ctx, 1); err != nil {
				t.Fatal(err)
			}
			if test.hangs {
				link.hold()
			} else {
				link.cut()
			}
			begun := time.Now()
			close(gate)
			if !test.stays {
				if err := rest(ctx, test.after); err != nil {
					t.Fatal(err)
				}
				link.mend()
			}
			got := wantTurn(t, <-coming)
			if took := time.Since(begun); took > 8*time.Second { // the commit has five
				t.Errorf("the answer took %v from the model's", took)
			}
			unsaved := slices.Contains(got.Warnings, "session_not_saved")
			if got.Response != "The answer." || test.stays && !unsaved {
				t.Errorf("turn: %+v", got)
			}
			link.mend()
			var stored []storedTurn
			deadline := time.Now().Add(15 * time.Second)
			for {
				a := s.do(t, http.MethodGet, "/sessions/"+id, nil)
				if a.Status == http.StatusOK || time.Now().After(deadline) {
					stored = wantData[sessionPage](t, a).Turns
					break
				}
				wantError(t, a, http.StatusServiceUnavailable, "session_store_unavailable")
				if err := rest(ctx, 100*time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			times := 0
			for _, turn := range stored {
				if turn.Query == "go on" {
					times++
				}
			}
			if times > 1 || times == 0 && !unsaved {
				t.Errorf("stored %d times, warnings %v", times, got.Warnings)
			}
		})
	}
}

// Many calls at once on one session, which different processes serve, are all
// stored, one after the other.
func TestContention(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	env := append(firestore(emulatorHost(t)), "GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL, "AUTH=api_key", keys())
	processes := []*service{startLocal(t, env...), startLocal(t, env...)}
	for _, s := range processes {
		s.invoke(t, map[string]any{"query": "Ready?"}, as("one")...)
	}
	id := processes[0].invoke(t, map[string]any{"query": "Begin."}, as("one")...).SessionID
	const calls = 20
	gate := make(chan struct{})
	gemini.Forget()
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		return geminitest.Text("To "+r.Prompt()).WithGate(0, gate)
	})
	ctx := bounded(t)
	answers := make([]answer, calls)
	var wait sync.WaitGroup
	for i := range calls {
		wait.Go(func() {
			var err error
			body := map[string]any{"query": fmt.Sprintf("call %d", i), "session_id": id}
			if answers[i], err = processes[i%len(processes)].try(ctx, http.MethodPost, "/invoke", body, as("one")...); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := gemini.Await(ctx, calls); err != nil { // all have loaded the session
		t.Fatal(err)
	}
	begun := time.Now()
	close(gate)
	wait.Wait()
	took := time.Since(begun)
	t.Logf("%d commits to one session took %v", calls, took)
	if took > 10*time.Second {
		t.Errorf("%d commits to one session took %v", calls, took)
	}
	acknowledged := map[int]string{}
	for i, a := range answers {
		got := wantTurn(t, a)
		if len(got.Warnings) != 0 || acknowledged[got.Turn] != "" {
			t.Errorf("call %d: turn %d, warnings %v", i, got.Turn, got.Warnings)
		}
		acknowledged[got.Turn] = fmt.Sprintf("call %d", i)
	}
	stored := everyTurn(t, processes[0], id, as("one"))
	if len(stored) != calls+1 {
		t.Errorf("%d turns stored, want %d", len(stored), calls+1)
	}
	for _, turn := range stored {
		if turn.Turn > 1 && (turn.Query != acknowledged[turn.Turn] || turn.Response != "To "+turn.Query) {
			t.Errorf("turn %d is stored as %s: %s, answered was %s", turn.Turn, turn.Query, turn.Response, acknowledged[turn.Turn])
		}
	}
}

// A session that outgrows its document has its oldest turns archived, and still
// has them all.
func TestLargeSession(t *testing.T) {
	t.Parallel()
	host := emulatorHost(t)
	env := firestore(host)
	s, gemini := startGemini(t, env...)
	const turns, size = 12, 120_000
	text := func(n int) string { return strings.Repeat(fmt.Sprintf("%02d", n), size/2) }
	id := ""
	for n := 1; n <= turns; n++ {
		gemini.Enqueue(geminitest.Text(text(n)))
		body := map[string]any{"query": fmt.Sprintf("part %d", n)}
		if id != "" {
			body["session_id"] = id
		}
		got := s.invoke(t, body)
		if id = got.SessionID; got.Turn != n || slices.Contains(got.Warnings, "session_not_saved") {
			t.Fatalf("turn %d, warnings %v, want turn %d", got.Turn, got.Warnings, n)
		}
	}
	_, project, _ := strings.Cut(env[len(env)-1], "=")
	archives, err := emulator.Connect(t, host, project).CollectionGroup("archive").Documents(bounded(t)).GetAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(archives) == 0 {
		t.Errorf("%d turns of %d bytes, and nothing is archived", turns, size)
	}
	stored := everyTurn(t, s, id, nil)
	if len(stored) != turns {
		t.Fatalf("%d turns listed, want %d", len(stored), turns)
	}
	slices.SortFunc(stored, func(a, b storedTurn) int { return a.Turn - b.Turn })
	for i, turn := range stored {
		if turn.Turn != i+1 || turn.Query != fmt.Sprintf("part %d", i+1) || turn.Response != text(i+1) {
			t.Errorf("turn %d is %s with %d bytes", turn.Turn, turn.Query, len(turn.Response))
		}
	}
}
