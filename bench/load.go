package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// load has n clients call at once, each again as soon as it was answered, until
// d has passed, and returns the durations of the calls, the shortest first. The
// first call that fails ends it. A session is given up after turns turns.
func load(ctx context.Context, address string, t target, n, turns int, d time.Duration) ([]time.Duration, error) {
	if !t.keeps {
		turns = 0
	}
	clients := make([]*client, n)
	for i := range clients {
		c, err := connect(ctx, address, t)
		if err != nil {
			return nil, err
		}
		defer c.close()
		c.turns = turns
		clients[i] = c
	}
	var (
		group errgroup.Group
		mu    sync.Mutex
		all   []time.Duration
	)
	end := time.Now().Add(d)
	for _, c := range clients {
		group.Go(func() error {
			var took []time.Duration
			for time.Now().Before(end) {
				begin := time.Now()
				if err := c.turn(); err != nil {
					return err
				}
				took = append(took, time.Since(begin))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return nil
		})
	}
	err := group.Wait()
	slices.Sort(all)
	return all, err
}

// A client asks one question after the other.
type client struct {
	*conn
	target  target
	turns   int // of one session; below 2 each turn has a new session
	asked   conversation
	request []byte // of the next turn, nil in no session
}

func connect(ctx context.Context, address string, t target) (*client, error) {
	c, err := dial(ctx, address)
	return &client{conn: c, target: t}, err
}

// begin begins a session, and creates it where the server wants that.
func (c *client) begin(accept string) error {
	c.asked = conversation{}
	if c.target.dialect.named {
		c.asked.session = rand.Text()
		if creation := c.target.creation(c.asked.session); creation != nil {
			if _, err := c.call(creation, ""); err != nil {
				return err
			}
		}
	}
	c.request = c.target.turn(accept, c.asked)
	return nil
}

// ask makes the next turn of the session.
func (c *client) ask() error {
	body, err := c.call(c.request, c.target.dialect.text)
	if err != nil {
		return err
	}
	if c.asked.turns++; c.asked.session == "" {
		c.asked.session = string(member(body, "session_id"))
	}
	if c.asked.session == "" && c.target.keeps {
		return fmt.Errorf("no session in %.300s", body)
	}
	return nil
}

// turn asks the next question, in a new session when the last has had its turns.
func (c *client) turn() error {
	if c.request == nil {
		if err := c.begin(acceptJSON); err != nil {
			return err
		}
	}
	if err := c.ask(); err != nil {
		return err
	}
	switch {
	case c.asked.turns < c.turns:
		c.request = c.target.turn(acceptJSON, c.asked)
	case c.target.dialect.named || c.asked.turns > 1:
		c.request = nil
	default: // the request begins a new session again
		c.asked = conversation{}
	}
	return nil
}
