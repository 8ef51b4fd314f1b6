package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
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
		_, data, _ = strings.Cut(data, "\n") // after the id
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
	match, err := p.stdout.Await(bounded(t), readyAt)
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
