package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// streamed is what many streams at once came to.
type streamed struct {
	first  []time.Duration // from asking to the first event, the shortest first
	open   int             // the most that were under way at a time, their first event seen
	failed int
	why    error // the first failure
}

// streams opens n streams at once and reads each to its end.
func streams(ctx context.Context, address string, t target, n int) (streamed, error) {
	conns := make([]*conn, n)
	for i := range conns {
		c, err := dial(ctx, address)
		if err != nil {
			return streamed{}, err
		}
		defer c.close()
		conns[i] = c
	}
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		out     streamed
		open    int
	)
	request, begin := t.turn(acceptStream, ""), make(chan struct{})
	for _, c := range conns {
		running.Go(func() {
			<-begin
			asked, begun := time.Now(), false
			err := c.stream(request, func() {
				took := time.Since(asked)
				mu.Lock()
				defer mu.Unlock()
				begun = true
				out.first = append(out.first, took)
				open++
				out.open = max(out.open, open)
			})
			mu.Lock()
			defer mu.Unlock()
			if begun {
				open--
			}
			if err != nil {
				if out.failed++; out.why == nil {
					out.why = err
				}
			}
		})
	}
	close(begin)
	running.Wait()
	slices.Sort(out.first)
	return out, ctx.Err()
}
