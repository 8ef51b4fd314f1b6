package main

import (
	"context"
	"fmt"
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

// figures returns what n streams came to; an error if all of them have failed.
func (s streamed) figures(n int) (Figures, error) {
	if s.failed == n {
		return nil, fmt.Errorf("every stream failed: %w", s.why)
	}
	return Figures{
		failures: float64(s.failed), open: float64(s.open), firstP50: ms(percentile(s.first, 50)), firstP99: ms(percentile(s.first, 99)),
	}, nil
}

// streams opens n streams at once and reads each to its end.
func streams(ctx context.Context, address string, t target, n int) (streamed, error) {
	clients := make([]*client, n)
	for i := range clients {
		c, err := connect(ctx, address, t)
		if err != nil {
			return streamed{}, err
		}
		defer c.close()
		if err := c.begin(acceptStream); err != nil {
			return streamed{}, err
		}
		clients[i] = c
	}
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		out     streamed
		open    int
	)
	begin := make(chan struct{})
	for _, c := range clients {
		running.Go(func() {
			<-begin
			asked, begun := time.Now(), false
			err := c.stream(c.request, t.dialect, func() {
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
