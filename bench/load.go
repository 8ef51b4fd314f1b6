package main

import (
	"context"
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
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		defer c.close()
		clients[i] = &client{conn: c, target: t, turns: turns, request: t.turn(acceptJSON, "")}
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
	done    int // of the current session
	request []byte
}

func (c *client) turn() error {
	body, err := c.call(c.request, lastWords)
	if err != nil || c.turns < 2 {
		return err
	}
	if c.done++; c.done >= c.turns {
		c.done, c.request = 0, c.target.turn(acceptJSON, "")
		return nil
	}
	if c.done > 1 {
		return nil
	}
	session, err := sessionOf(body)
	c.request = c.target.turn(acceptJSON, session)
	return err
}
