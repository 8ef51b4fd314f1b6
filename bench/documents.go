package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A Touched is what a kind of turn does to Firestore's documents, counted on the
// wire.
type Touched struct {
	Turn     string    `json:"turn"`
	Turns    int       `json:"turns"`    // how many were made
	Sessions Documents `json:"sessions"` // each, of the session's own documents
	Others   Documents `json:"others"`   // each, of limits, figures and the rest
	Budget   string    `json:"budget"`
	Met      bool      `json:"met"`
}

// counted is how many turns of a kind are made.
const counted = 20

// documents counts what turns of the service do to Firestore.
func documents(ctx context.Context, r *run, s *standins) ([]Touched, error) {
	r.told = func(t target) map[string]string {
		env := s.environment(t)
		env["FIRESTORE_EMULATOR_HOST"] = s.counting.address
		return env
	}
	var all []Touched
	err := r.serve(ctx, func(server *server) error {
		c, err := connect(ctx, server.address, r.target)
		if err != nil {
			return err
		}
		defer c.close()
		session, err := c.session()
		if err != nil {
			return err
		}
		s.counting.take() // what the start and the first turn did
		kinds := []struct {
			name    string
			request func(i int) []byte
			want    Documents
		}{
			{"of a new session", func(int) []byte { return r.target.turn(acceptJSON, conversation{}) }, Documents{0, 1, 1}},
			{"of a session", func(int) []byte { return r.target.turn(acceptJSON, session) }, Documents{1, 1, 2}},
			{"of a session, with an Idempotency-Key", func(i int) []byte {
				return r.target.turn(acceptJSON, session, fmt.Sprintf("Idempotency-Key: bench-%d", i))
			}, Documents{1, 2, 3}},
		}
		for _, kind := range kinds {
			for i := range counted {
				if _, err := c.call(kind.request(i), r.target.dialect.text); err != nil {
					return err
				}
			}
			t := touched("a turn "+kind.name, counted, s.counting.take())
			t.Budget = fmt.Sprintf("session's documents: %v reads, %v writes, %v round trips", kind.want.Reads, kind.want.Writes, kind.want.Trips)
			t.Met = t.Sessions == kind.want
			all = append(all, t)
		}
		n, end := 0, time.Now().Add(r.Steady)
		for pace := time.NewTicker(200 * time.Millisecond); time.Now().Before(end); n++ {
			if _, err := c.call(r.target.turn(acceptJSON, session), r.target.dialect.text); err != nil {
				return err
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		steady := touched(fmt.Sprintf("a turn at 5 a second for %v", r.Steady), n, s.counting.take())
		steady.Budget, steady.Met = "limits' and figures' writes: at most 0.2", steady.Others.Writes <= 0.2
		all = append(all, steady)
		return nil
	})
	return all, err
}

// touched sums up what turns turns did.
func touched(name string, turns int, counts map[string]Documents) Touched {
	t := Touched{Turn: name, Turns: turns}
	for collection, n := range counts {
		if collection == "sessions" {
			t.Sessions = t.Sessions.plus(n)
			continue
		}
		t.Others = t.Others.plus(n)
	}
	t.Sessions, t.Others = t.Sessions.each(turns), t.Others.each(turns)
	return t
}

// session creates a session with one turn and returns it.
func (c *client) session() (conversation, error) {
	if err := c.begin(acceptJSON); err != nil {
		return conversation{}, err
	}
	err := c.ask()
	return c.asked, err
}

// documentsTable is the table of what turns touched.
func documentsTable(all []Touched) string {
	var b strings.Builder
	b.WriteString("| | session: reads | writes | round trips | limits, figures: reads | writes | budget |\n|---|--:|--:|--:|--:|--:|---|\n")
	for _, t := range all {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %.2f | %.3f | %.3f | %s, %s |\n", t.Turn,
			t.Sessions.Reads, t.Sessions.Writes, t.Sessions.Trips, t.Others.Reads, t.Others.Writes, t.Budget, verdict(t.Met))
	}
	return b.String()
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}
