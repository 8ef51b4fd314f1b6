package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gcp "cloud.google.com/go/firestore"
	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
)

// stores are the session stores, each with the environment that chooses it.
var stores = []struct {
	name string
	env  func(t *testing.T) []string
}{
	{"memory", func(*testing.T) []string { return nil }},
	{"Firestore", func(t *testing.T) []string { return firestore(emulatorHost(t)) }},
}

// emulatorHost is the Firestore emulator's address, once it has done its first
// work, which takes it longer than services wait.
func emulatorHost(t *testing.T) string {
	t.Helper()
	host := emulator.Host(t)
	warmUp.Do(func() {
		ctx := bounded(t)
		warm := emulator.Connect(t, host, emulator.Project()).Collection("warm")
		for _, name := range []string{"one", "two"} {
			if _, err := warm.Doc(name).Set(ctx, map[string]any{"name": name}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := warm.OrderBy("name", gcp.Desc).Documents(ctx).GetAll(); err != nil {
			t.Fatal(err)
		}
	})
	return host
}

var warmUp sync.Once

// firestore chooses an empty Firestore at host.
func firestore(host string) []string {
	return []string{"SESSION_STORE=firestore", "FIRESTORE_EMULATOR_HOST=" + host, "GOOGLE_CLOUD_PROJECT=" + emulator.Project()}
}

// eachStore runs a test on every store.
func eachStore(t *testing.T, test func(t *testing.T, s *service, gemini *geminitest.Server), env ...string) {
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t, append(store.env(t), env...)...)
			test(t, s, gemini)
		})
	}
}

// list reads the caller's sessions.
func list(t *testing.T, s *service, query string, headers ...string) sessionList {
	t.Helper()
	return wantData[sessionList](t, s.do(t, http.MethodGet, "/sessions"+query, nil, headers...))
}

// ids are the sessions' ids, in order.
func ids(sessions []session) []string {
	list := []string{}
	for _, s := range sessions {
		list = append(list, s.SessionID)
	}
	return list
}

const unknownSession = "AAAAAAAAAAAAAAAAAAAAAA"

func TestSessions(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		if got := list(t, s, ""); got.Sessions == nil || len(got.Sessions) != 0 || got.NextCursor != nil {
			t.Errorf("sessions at first: %+v", got)
		}
		gemini.Enqueue(
			geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}),
			geminitest.Text("It is well.").WithUsage(geminitest.Usage{Prompt: 20, Output: 3}),
			geminitest.Text("It still is."),
		)
		begun := time.Now().Add(-time.Second)
		first := s.invoke(t, map[string]any{"query": "How is it?"}, "X-Request-ID", "first")
		second := s.invoke(t, map[string]any{"query": "And now?", "session_id": first.SessionID}, "X-Request-ID", "second")
		if second.Turn != 2 {
			t.Errorf("second turn: %+v", second)
		}
		other := s.invoke(t, map[string]any{"query": "Another thing."})

		listed := list(t, s, "")
		if diff := cmp.Diff(ids(listed.Sessions), []string{other.SessionID, first.SessionID}); diff != "" {
			t.Fatalf("sessions, newest first (-got +want): %s", diff)
		}
		page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+first.SessionID, nil))
		if diff := cmp.Diff(page.Session, listed.Sessions[1]); diff != "" {
			t.Errorf("the session by itself and as listed: %s", diff)
		}
		got := page.Session
		if got.Turns != 2 || got.TotalTokens != first.Usage.TotalTokens+second.Usage.TotalTokens || got.Title == "" {
			t.Errorf("session: %+v", got)
		}
		created, updated, expires := instant(t, got.CreatedAt), instant(t, got.UpdatedAt), instant(t, got.ExpiresAt)
		if created.Before(begun) || updated.Before(created) || updated.After(time.Now().Add(time.Second)) {
			t.Errorf("created %v, updated %v", created, updated)
		}
		if d := expires.Sub(updated) - 720*time.Hour; d < -time.Second || d > time.Second {
			t.Errorf("expires %v after the last turn, want 720h", expires.Sub(updated))
		}
		text := func(text string) []any { return []any{map[string]any{"type": "text", "text": text}} }
		stored := func(number int, query, request string, parts []any, of turn) storedTurn {
			return storedTurn{
				Turn: number, RunID: of.RunID, Query: query, Files: []map[string]any{}, Response: of.Response, Parts: parts, ToolCalls: of.ToolCalls, Sources: []any{},
				Usage: of.Usage, Model: of.Model, FinishReason: "STOP", Warnings: []string{}, Pending: []any{}, RequestID: request,
				AgentDigest: page.Turns[0].AgentDigest, Timing: of.stored().Timing,
			}
		}
		if page.Turns[0].AgentDigest == "" {
			t.Error("a turn has no digest of its agent")
		}
		tool := map[string]any{
			"id": "call_1_1", "name": "check_status", "args": map[string]any{}, "ok": true, "duration_ms": float64(first.ToolCalls[0].DurationMS),
		}
		want := []storedTurn{
			stored(1, "How is it?", "first", append([]any{map[string]any{"type": "tool", "tool": tool}}, text("It is well.")...), first),
			stored(2, "And now?", "second", text("It still is."), second),
		}
		// In development clients see what tools return, here the state of the deployment.
		call, _ := page.Turns[0].Parts[0].(map[string]any)["tool"].(map[string]any)
		if result, _ := call["result"].(map[string]any); result["status"] != "healthy" {
			t.Errorf("the tool's result is %v", call["result"])
		}
		delete(call, "result")
		for i := range page.Turns {
			instant(t, page.Turns[i].CreatedAt)
			page.Turns[i].CreatedAt = ""
		}
		if diff := cmp.Diff(page.Turns, want); diff != "" {
			t.Errorf("turns (-got +want): %s", diff)
		}
		if page.NextCursor != nil {
			t.Errorf("next_cursor %q", *page.NextCursor)
		}

		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+first.SessionID, nil))
		wantError(t, s.do(t, http.MethodDelete, "/sessions/"+first.SessionID, nil), http.StatusNotFound, "session_not_found")
		wantError(t, s.do(t, http.MethodGet, "/sessions/"+first.SessionID, nil), http.StatusNotFound, "session_not_found")
		asked := len(gemini.Requests())
		wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Again?", "session_id": first.SessionID}), http.StatusNotFound, "session_not_found")
		if n := len(gemini.Requests()); n != asked {
			t.Error("the model was asked on a session that is gone")
		}
		if diff := cmp.Diff(ids(list(t, s, "").Sessions), []string{other.SessionID}); diff != "" {
			t.Errorf("sessions after the deletion (-got +want): %s", diff)
		}
		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions", nil))
		if got := list(t, s, ""); len(got.Sessions) != 0 {
			t.Errorf("sessions after all were deleted: %+v", got)
		}
		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions", nil))
	})
}

// instant parses a time of the contract.
func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || !strings.HasSuffix(text, "Z") {
		t.Errorf("%q is not a time in UTC", text)
	}
	return at
}

func TestUnknownSessions(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			wantError(t, s.do(t, method, "/sessions/"+unknownSession, nil), http.StatusNotFound, "session_not_found")
			for _, id := range []string{"short", strings.Repeat("a", 65), "abcdefghijklmnop.", "abcdefghijklmn%20op", "%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff", "abcdefghijklmno%00", "__abcdefghijklmnop__x%2fy"} {
				a := s.do(t, method, "/sessions/"+id, nil)
				e := wantEnvelope(t, a)
				if a.Status != http.StatusNotFound || e.Error == nil || (*e.Error != "session_not_found" && *e.Error != "not_found") {
					t.Errorf("%s %s: status %d: %s", method, id, a.Status, a.Body)
				}
			}
		}
		for _, body := range []map[string]any{
			{"query": "hello", "session_id": unknownSession},
			{"query": "hello", "session_id": unknownSession, "after_turn": 0},
			{"query": "hello", "session_id": "__all_underscores__"},
			{"query": "hello", "session_id": unknownSession, "stream": true},
		} {
			wantError(t, s.do(t, http.MethodPost, "/invoke", body), http.StatusNotFound, "session_not_found")
		}
		if n := len(gemini.Requests()); n != 0 {
			t.Errorf("the model was asked %d times", n)
		}
	})
}

func TestPaging(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, _ *geminitest.Server) {
		const count = 5
		var newest []string
		for i := range count {
			newest = append([]string{s.invoke(t, map[string]any{"query": fmt.Sprintf("Question %d", i)}).SessionID}, newest...)
		}
		for limit := 1; limit <= count+1; limit++ {
			var got []string
			cursor, pages := "", 0
			for more := true; more && pages <= count; pages++ {
				page := list(t, s, fmt.Sprintf("?limit=%d%s", limit, cursor))
				if len(page.Sessions) > limit {
					t.Errorf("limit %d: a page of %d", limit, len(page.Sessions))
				}
				got = append(got, ids(page.Sessions)...)
				if more = page.NextCursor != nil; more {
					cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
				}
			}
			if diff := cmp.Diff(got, newest); diff != "" {
				t.Errorf("limit %d (-got +want): %s", limit, diff)
			}
			if most := (count + limit - 1) / limit; pages > most+1 {
				t.Errorf("limit %d took %d pages", limit, pages)
			}
		}

		id := newest[0]
		for i := range count - 1 {
			s.invoke(t, map[string]any{"query": fmt.Sprintf("Next %d", i), "session_id": id})
		}
		var turns []int
		cursor := ""
		for range count + 1 {
			page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id+"?limit=2"+cursor, nil))
			if len(page.Turns) > 2 || page.Session.Turns != count {
				t.Errorf("a page of %d turns, %d in all", len(page.Turns), page.Session.Turns)
			}
			for _, turn := range page.Turns {
				turns = append(turns, turn.Turn)
			}
			if page.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
		}
		if diff := cmp.Diff(turns, []int{1, 2, 3, 4, 5}); diff != "" {
			t.Errorf("turns (-got +want): %s", diff)
		}

		for _, test := range []struct{ name, query, field string }{
			{"limit zero", "?limit=0", "limit"},
			{"limit below zero", "?limit=-1", "limit"},
			{"limit in words", "?limit=many", "limit"},
			{"limit with a fraction", "?limit=1.5", "limit"},
			{"limit empty", "?limit=", "limit"},
			{"limit beyond 64 bits", "?limit=99999999999999999999", "limit"},
			{"limit beyond reason", "?limit=1000000", "limit"},
			{"cursor of nobody", "?cursor=nonsense", "cursor"},
			{"cursor with a NUL", "?cursor=%00", "cursor"},
			{"cursor that is not UTF-8", "?cursor=%ff", "cursor"},
			{"cursor of great length", "?cursor=" + strings.Repeat("A", 5000), "cursor"},
		} {
			for _, path := range []string{"/sessions", "/sessions/" + id} {
				e := wantError(t, s.do(t, http.MethodGet, path+test.query, nil), http.StatusUnprocessableEntity, "validation_failed")
				if !slices.Contains(e.fields(), test.field) {
					t.Errorf("%s on %s: details name %q", test.name, path, e.fields())
				}
			}
		}
	})
}

func TestEndUsers(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		ann, bob := []string{"X-End-User", "ann"}, []string{"X-End-User", "bob"}
		own := map[string]string{}
		for name, headers := range map[string][]string{"ann": ann, "bob": bob, "nobody": nil} {
			own[name] = s.invoke(t, map[string]any{"query": "I am " + name}, headers...).SessionID
		}
		for name, headers := range map[string][]string{"ann": ann, "bob": bob, "nobody": nil} {
			if got := ids(list(t, s, "", headers...).Sessions); !slices.Equal(got, []string{own[name]}) {
				t.Errorf("%s sees %v, has %s", name, got, own[name])
			}
			for other, id := range own {
				if other == name {
					continue
				}
				body := map[string]any{"query": "Who am I?", "session_id": id}
				wantError(t, s.do(t, http.MethodPost, "/invoke", body, headers...), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodGet, "/sessions/"+id, nil, headers...), http.StatusNotFound, "session_not_found")
				wantError(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil, headers...), http.StatusNotFound, "session_not_found")
			}
		}
		wantNoContent(t, s.do(t, http.MethodDelete, "/sessions", nil, ann...))
		if got := list(t, s, "", ann...); len(got.Sessions) != 0 {
			t.Errorf("ann still has %v", ids(got.Sessions))
		}
		if got := ids(list(t, s, "", bob...).Sessions); !slices.Equal(got, []string{own["bob"]}) {
			t.Errorf("bob has %v", got)
		}
		if n := len(gemini.Requests()); n != 3 {
			t.Errorf("the model was asked %d times, want 3", n)
		}
	})
}

func TestAfterTurn(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		first := s.invoke(t, map[string]any{"query": "One", "after_turn": 0})
		id := first.SessionID
		s.invoke(t, map[string]any{"query": "Two", "session_id": id, "after_turn": 1})
		asked := len(gemini.Requests())
		for _, body := range []map[string]any{
			{"query": "hello", "after_turn": 1},
			{"query": "hello", "session_id": id, "after_turn": 0},
			{"query": "hello", "session_id": id, "after_turn": 1},
			{"query": "hello", "session_id": id, "after_turn": 3},
			{"query": "hello", "session_id": id, "after_turn": 3, "stream": true},
		} {
			wantError(t, s.do(t, http.MethodPost, "/invoke", body), http.StatusConflict, "session_conflict")
		}
		if n := len(gemini.Requests()); n != asked {
			t.Errorf("the model was asked %d times more", n-asked)
		}
		if n := turnsOf(t, s, id); n != 2 {
			t.Errorf("%d turns, want 2", n)
		}
	})
}

func TestTwoCallsAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		extra map[string]any
		want  []int // statuses
	}{
		{"both are appended", nil, []int{http.StatusOK, http.StatusOK}},
		{"only one of them comes after the first turn", map[string]any{"after_turn": 1}, []int{http.StatusOK, http.StatusConflict}},
	}
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, test := range tests {
			id := s.invoke(t, map[string]any{"query": "Begin."}).SessionID
			gemini.Forget()
			both := make(chan struct{})
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				return geminitest.Text("You said: "+r.Prompt()).WithGate(0, both)
			})
			ctx := bounded(t)
			answers := make([]answer, 2)
			var wait sync.WaitGroup
			for i, query := range []string{"left", "right"} {
				wait.Go(func() {
					body := map[string]any{"query": query, "session_id": id}
					for name, value := range test.extra {
						body[name] = value
					}
					var err error
					if answers[i], err = s.try(ctx, http.MethodPost, "/invoke", body); err != nil {
						t.Errorf("%s: %v", query, err)
					}
				})
			}
			if _, err := gemini.Await(ctx, 2); err != nil { // both are under way
				t.Error(err)
			}
			close(both)
			wait.Wait()
			statuses, numbers := []int{}, []int{1}
			for _, a := range answers {
				statuses = append(statuses, a.Status)
				if a.Status == http.StatusOK {
					numbers = append(numbers, wantTurn(t, a).Turn)
				} else {
					wantError(t, a, http.StatusConflict, "session_conflict")
				}
			}
			slices.Sort(statuses)
			slices.Sort(numbers)
			if !slices.Equal(statuses, test.want) {
				t.Errorf("%s: statuses %v", test.name, statuses)
			}
			page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id, nil))
			var stored []int
			for _, turn := range page.Turns {
				stored = append(stored, turn.Turn)
				if turn.Turn > 1 && turn.Response != "You said: "+turn.Query {
					t.Errorf("%s: a mixed turn: %+v", test.name, turn)
				}
			}
			if !slices.Equal(stored, numbers) {
				t.Errorf("%s: turns stored %v, answered %v", test.name, stored, numbers)
			}
			gemini.Handle(nil)
		}
	})
}

func TestDeletedWhileATurnRuns(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		for _, stream := range []bool{false, true} {
			id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
			gemini.Forget()
			gate := make(chan struct{})
			gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
			body := map[string]any{"query": "go on", "session_id": id, "stream": stream}
			if stream {
				events := s.stream(t, body)
				before := events.until(t, "delta")
				wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil))
				close(gate)
				events.wantFailure(t, []string{"session_not_found"}, before...)
			} else {
				ctx := bounded(t)
				ended := make(chan answer, 1)
				go func() {
					defer close(ended)
					a, err := s.try(ctx, http.MethodPost, "/invoke", body)
					if err != nil {
						t.Error(err)
						return
					}
					ended <- a
				}()
				if _, err := gemini.Await(ctx, 1); err != nil {
					t.Fatal(err)
				}
				wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+id, nil))
				close(gate)
				wantError(t, <-ended, http.StatusNotFound, "session_not_found")
			}
			wantError(t, s.do(t, http.MethodGet, "/sessions/"+id, nil), http.StatusNotFound, "session_not_found")
		}
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		want := []string{}
		id := ""
		for i := range 4 {
			query, response := fmt.Sprintf("question %d", i), fmt.Sprintf("answer %d", i)
			gemini.Enqueue(geminitest.Text(response))
			body := map[string]any{"query": query}
			if id != "" {
				body["session_id"] = id
			}
			id = s.invoke(t, body).SessionID
			want = append(want, "user: "+query, "model: "+response)
		}
		var got []string
		for _, content := range gemini.Requests()[3].Contents() {
			got = append(got, fmt.Sprintf("%v: %s", content["role"], geminitest.TextOf(content)))
		}
		if diff := cmp.Diff(got, want[:len(want)-1]); diff != "" {
			t.Errorf("the model was sent (-got +want): %s", diff)
		}
	})
}

func TestHistoryIsCut(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "HISTORY_TOKENS=1000")
	long := strings.Repeat("word ", 300) // about 300 tokens
	id := ""
	var last turn
	for i := range 8 {
		gemini.Enqueue(
			geminitest.Calls(geminitest.FunctionCall{Name: "get_price", Args: map[string]any{"fruit": "apple"}}),
			geminitest.Text(long),
		)
		body := map[string]any{"query": fmt.Sprintf("question %d", i)}
		if id != "" {
			body["session_id"] = id
		}
		last = s.invoke(t, body)
		id = last.SessionID
		if i == 0 && len(last.Warnings) != 0 {
			t.Errorf("warnings of the first turn: %v", last.Warnings)
		}
	}
	if !slices.Contains(last.Warnings, "history_truncated") {
		t.Errorf("warnings: %v", last.Warnings)
	}
	requests := gemini.Requests()
	contents := requests[len(requests)-2].Contents() // the last turn's first
	if len(contents) >= 7*4+1 {
		t.Errorf("the model was sent all %d contents", len(contents))
	}
	if first := geminitest.TextOf(contents[0]); contents[0]["role"] != "user" || !strings.HasPrefix(first, "question ") {
		t.Errorf("the history begins within a turn: %v", contents[0])
	}
	if text := geminitest.TextOf(contents[len(contents)-1]); text != "question 7" {
		t.Errorf("the history ends with %.40q", text)
	}
	if n := turnsOf(t, s, id); n != 8 {
		t.Errorf("%d turns stored, want all 8", n)
	}
}

func TestSessionsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	env := firestore(emulatorHost(t))
	first, _ := startGemini(t, env...)
	second, gemini := startGemini(t, env...)
	id := first.invoke(t, map[string]any{"query": "Remember me."}).SessionID
	if got := second.invoke(t, map[string]any{"query": "Do you?", "session_id": id}); got.Turn != 2 {
		t.Errorf("turn %d at another instance", got.Turn)
	}
	if contents := gemini.Requests()[0].Contents(); len(contents) != 3 {
		t.Errorf("the other instance sent %d contents", len(contents))
	}
	if n := turnsOf(t, first, id); n != 2 {
		t.Errorf("the first instance sees %d turns", n)
	}
}

func TestStoreOutOfReach(t *testing.T) {
	t.Parallel()
	link := newLink(t, emulatorHost(t))
	s, gemini := startGemini(t, append(firestore(link.Addr), "REQUEST_TIMEOUT=8s")...)
	id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
	link.cut()
	asked := len(gemini.Requests())
	tests := []struct {
		name, method, path string
		body               any
		answered           bool
	}{
		{"a named session is refused", http.MethodPost, "/invoke", map[string]any{"query": "go on", "session_id": id}, false},
		{"a stream on a named session is refused", http.MethodPost, "/invoke", map[string]any{"query": "go on", "session_id": id, "stream": true}, false},
		{"a session cannot be read", http.MethodGet, "/sessions/" + id, nil, false},
		{"a session cannot be deleted", http.MethodDelete, "/sessions/" + unknownSession, nil, false},
		{"sessions cannot be listed", http.MethodGet, "/sessions", nil, false},
		{"a new session is answered", http.MethodPost, "/invoke", map[string]any{"query": "hello"}, true},
		{"a new session is streamed", http.MethodPost, "/invoke", map[string]any{"query": "hello", "stream": true}, true},
	}
	ctx := bounded(t)
	answers := make([]answer, len(tests)) // all at once: each waits for the store
	var wait sync.WaitGroup
	for i, test := range tests {
		wait.Go(func() {
			var err error
			if answers[i], err = s.try(ctx, test.method, test.path, test.body); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		})
	}
	wait.Wait()
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !test.answered {
				wantError(t, answers[i], http.StatusServiceUnavailable, "session_store_unavailable")
				return
			}
			var got turn
			if strings.Contains(test.name, "streamed") {
				_, got = streamOf(t, answers[i]).wantDone(t)
			} else {
				got = wantTurn(t, answers[i])
			}
			if !slices.Contains(got.Warnings, "session_not_saved") {
				t.Errorf("warnings: %v", got.Warnings)
			}
		})
	}
	if n := len(gemini.Requests()) - asked; n != 2 {
		t.Errorf("the model was asked %d times while the store was away, want 2", n)
	}
	link.mend()
	back := time.Now()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "Back?", "session_id": id})
		if a.Status == http.StatusServiceUnavailable && time.Since(back) < 15*time.Second {
			<-poll.C // come again, as the answer asks
			continue
		}
		if got := wantTurn(t, a); got.Turn != 2 || len(got.Warnings) != 0 {
			t.Errorf("after it came back: %+v", got)
		}
		break
	}
}

func TestStoreGoesDuringATurn(t *testing.T) {
	t.Parallel()
	link := newLink(t, emulatorHost(t))
	s, gemini := startGemini(t, firestore(link.Addr)...)
	id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	stream := s.stream(t, map[string]any{"query": "go on", "session_id": id})
	before := stream.until(t, "delta")
	link.cut()
	close(gate)
	if _, got := stream.wantDone(t, before...); !slices.Contains(got.Warnings, "session_not_saved") || got.Response != "one two" {
		t.Errorf("turn: %+v", got)
	}
}

// A link is a TCP connection to somewhere that can be cut, held up, slowed down,
// robbed of its answers and mended.
type link struct {
	Addr string

	to    string
	mu    sync.Mutex
	away  bool
	held  chan struct{} // closed when held traffic continues; nil: no traffic is held
	delay time.Duration // of each piece
	lossy bool          // what comes back is lost
	armed bool          // it becomes lossy with the next spill
	fired int           // how often it has
	heard time.Time     // when something last came back
	conns map[net.Conn]struct{}
	paths map[*path]struct{}
	wait  sync.WaitGroup
}

// A path is the two ways of one connection through a link.
type path struct{ silent bool } // nothing gets through any more, and nobody is told; the link's mu guards it

// newLink forwards connections to host until t ends.
func newLink(t *testing.T, host string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{Addr: listener.Addr().String(), to: host, conns: map[net.Conn]struct{}{}, paths: map[*path]struct{}{}}
	l.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.wait.Go(func() { l.forward(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		l.wait.Wait()
	})
	return l
}

func (l *link) forward(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if !l.keep(conn) {
		return
	}
	defer l.drop(conn)
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !l.keep(far) {
		return
	}
	defer l.drop(far)
	p := &path{}
	l.mu.Lock()
	l.paths[p] = struct{}{}
	l.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = io.Copy(held{far, l, false, p}, conn); _ = far.Close() })
	wait.Go(func() {
		_, _ = io.Copy(held{conn, l, true, p}, far)
		l.mu.Lock()
		silent := p.silent
		l.mu.Unlock()
		if !silent {
			_ = conn.Close()
		}
	})
	wait.Wait()
	l.mu.Lock()
	delete(l.paths, p)
	l.mu.Unlock()
}

// silence lets nothing through any more on the open connections, without closing them,
// and returns their number. New ones work.
func (l *link) silence() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.paths {
		p.silent = true
	}
	return len(l.paths)
}

// loseAtSpill makes the link to Firestore lose what comes back from the moment at which
// turns are next moved to an archive.
func (l *link) loseAtSpill(armed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = armed
}

// answeredAt returns when something last came back through the link.
func (l *link) answeredAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard
}

// spills returns how often the link lost the reply to a spill.
func (l *link) spills() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fired
}

// isSpill reports whether a piece of the traffic to Firestore holds the begin of a write
// that archives turns: it names an archive and, other than a read, is long.
func isSpill(piece []byte) bool {
	return len(piece) >= 8<<10 && bytes.Contains(piece, []byte("/archive/"))
}

// held is a connection that is written to when its link lets it.
type held struct {
	net.Conn
	link *link
	back bool // to who connected
	path *path
}

func (h held) Write(p []byte) (int, error) {
	h.link.mu.Lock()
	if h.link.armed && !h.back && isSpill(p) {
		h.link.armed, h.link.lossy = false, true
		h.link.fired++
	}
	gate, delay, lost := h.link.held, h.link.delay, h.link.lossy && h.back || h.path.silent
	if h.back && !lost {
		h.link.heard = time.Now()
	}
	h.link.mu.Unlock()
	if lost {
		return len(p), nil
	}
	if gate != nil {
		<-gate
	}
	if delay > 0 {
		time.Sleep(delay) // the way is this long
	}
	return h.Conn.Write(p)
}

// hold lets connections be made, and nothing through them.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(chan struct{})
	}
}

// slow delays each piece of the traffic.
func (l *link) slow(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}

// lose forwards everything to the destination and nothing back, until the link is
// repaired, which closes the open connections.
func (l *link) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lossy = true
}

// keep notes an open connection, unless the link is cut.
func (l *link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.away {
		l.conns[conn] = struct{}{}
	}
	return !l.away
}

func (l *link) drop(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// cut closes open and new connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = true
	l.release()
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// mend lets everything through again.
func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lossy { // what is open lacks something by now
		for conn := range l.conns {
			_ = conn.Close()
		}
	}
	l.away, l.delay, l.lossy = false, 0, false
	l.release()
}

// release lets what is held up go on. The caller holds mu.
func (l *link) release() {
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}
