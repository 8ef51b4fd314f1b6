package figures

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/cputime"
)

const (
	// Interval is the time from one write to the next, so that an instance writes
	// its document far below what Firestore sustains (1 a second).
	Interval = 10 * time.Second
	// flushBound bounds what a flush adds to a request, in time that the process
	// runs.
	flushBound = 300 * time.Millisecond
	// flushTick is how finely that is counted.
	flushTick = 25 * time.Millisecond
)

// A Config is what a counter needs.
type Config struct {
	Store Store

	// Agent is the name of the agent that answers here; "" in a process that answers
	// no turns.
	Agent string

	// Breakers returns the state of this instance's breakers by model; nil: there
	// are none.
	Breakers func() map[string]string

	Log *slog.Logger
	Now func() time.Time
}

// A Counter counts for one instance. It is safe for concurrent use, and remembers
// no more than the [Minutes] that a sum covers. A nil Counter counts nothing.
type Counter struct {
	Config
	instance string

	// writing is held by the one who writes to the store, or reads it: what is
	// unwritten is only known while nobody writes.
	writing chan struct{}
	next    atomic.Pointer[time.Time] // when the next write is due, set by who writes; nil: at once

	mu      sync.Mutex
	minutes []minute // oldest first, the last one being counted in
}

// A minute is what was counted in it, and how much of that is in the store.
type minute struct {
	start            time.Time
	counted, written Figures
}

// New makes a counter for this instance, under a name nobody else has.
func New(c Config) *Counter {
	return &Counter{Config: c, instance: rand.Text(), writing: make(chan struct{}, 1)}
}

// Count counts a request that was answered with this status and, if it failed,
// with this code of the contract. After the last byte of a stream, the two are
// what it ended with.
func (c *Counter) Count(status int, code string) {
	if c == nil {
		return
	}
	start := c.Now().UTC().Truncate(time.Minute)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.minutes)
	if n == 0 || start.After(c.minutes[n-1].start) { // a clock set back counts on
		c.minutes = append(c.minutes, minute{start: start})
		n++
	}
	m := &c.minutes[n-1]
	m.counted = m.counted.Plus(one(status, code))
	c.forget(start)
}

// forget drops what no sum covers any more. c.mu is held.
func (c *Counter) forget(now time.Time) {
	since, n := since(now), 0
	for n < len(c.minutes) && c.minutes[n].start.Before(since) {
		n++
	}
	if n > 0 {
		c.minutes = slices.Clone(c.minutes[n:])
	}
}

// since is where a sum at now begins.
func since(now time.Time) time.Time {
	return now.UTC().Truncate(time.Minute).Add(-(Minutes - 1) * time.Minute)
}

// Due reports whether [Counter.Flush] may have something to write now. It takes
// nothing, so that a request that has nothing to write does not begin to.
func (c *Counter) Due() bool { return c != nil && c.due(c.Now()) }

func (c *Counter) due(now time.Time) bool {
	next := c.next.Load()
	return next == nil || !now.Before(*next)
}

// Flush writes what was counted, unless that was done within the [Interval] or
// another request is at it. It is for the end of a request, once the client has
// its answer, whose cancellation does not matter here. It takes at most 300 ms of
// time that the process runs; what could not be written is tried again by a later
// flush.
func (c *Counter) Flush(ctx context.Context) {
	if c == nil {
		return
	}
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	default:
		return
	}
	now := c.Now()
	if !c.due(now) {
		return
	}
	minutes := c.unwritten(now)
	if len(minutes) == 0 {
		return
	}
	// Once a minute there is the rest of the last one to write as well, which
	// takes the turn of the next write.
	next := now.Add(Interval * time.Duration(min(len(minutes), 2)))
	c.next.Store(&next)
	ctx, cancel := cputime.WithTimeoutCause(context.WithoutCancel(ctx), flushBound, flushTick, context.DeadlineExceeded)
	defer cancel()
	if err := c.write(ctx, minutes); err != nil {
		c.Log.WarnContext(ctx, "The service's figures could not be written; a later request tries again.", "error", err.Error())
	}
}

// Close writes what is left, until ctx ends.
func (c *Counter) Close(ctx context.Context) error {
	if c == nil {
		return nil
	}
	if err := c.hold(ctx); err != nil {
		return err
	}
	defer c.release()
	return c.write(ctx, c.unwritten(c.Now()))
}

// Sum adds up the last [Minutes] of all instances, of this one also what is not
// written yet. ctx bounds the reading.
func (c *Counter) Sum(ctx context.Context) (Sum, error) {
	if err := c.hold(ctx); err != nil {
		return Sum{}, err
	}
	defer c.release()
	begin := since(c.Now())
	stored, err := c.Store.Sum(ctx, begin)
	if err != nil {
		return Sum{}, fmt.Errorf("reading the service's figures: %w", err)
	}
	if own := c.states(); own != nil {
		if stored.Breakers == nil {
			stored.Breakers = map[string]map[string]string{}
		}
		stored.Breakers[c.instance] = own
	}
	return Sum{Figures: stored.Plus(c.rest(begin)), Agent: cmp.Or(c.Agent, stored.Agent), Breakers: worst(stored.Breakers)}, nil
}

// hold waits until nobody writes.
func (c *Counter) hold(ctx context.Context) error {
	select {
	case c.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for figures that are being written: %w", context.Cause(ctx))
	}
}

func (c *Counter) release() { <-c.writing }

// write puts minutes into the store.
func (c *Counter) write(ctx context.Context, minutes []Minute) error {
	for _, m := range minutes {
		if err := c.Store.Write(ctx, m); err != nil {
			return fmt.Errorf("writing the figures of %s: %w", m.Start.Format(time.RFC3339), err)
		}
		c.wrote(m)
	}
	return nil
}

// unwritten are the minutes of which the store does not have all, oldest first.
func (c *Counter) unwritten(now time.Time) []Minute {
	states := c.states()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(now)
	var minutes []Minute
	for _, m := range c.minutes {
		if m.counted != m.written {
			minutes = append(minutes, Minute{Instance: c.instance, Start: m.start, Figures: m.counted, Agent: c.Agent, Breakers: states})
		}
	}
	return minutes
}

// wrote notes that the store has m.
func (c *Counter) wrote(m Minute) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.minutes {
		if c.minutes[i].start.Equal(m.Start) {
			c.minutes[i].written = m.Figures
		}
	}
}

// rest is what was counted since begin and is not in the store.
func (c *Counter) rest(begin time.Time) Figures {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest Figures
	for _, m := range c.minutes {
		if !m.start.Before(begin) {
			rest = rest.Plus(m.counted.minus(m.written))
		}
	}
	return rest
}

func (c *Counter) states() map[string]string {
	if c.Breakers == nil {
		return nil
	}
	return maps.Clone(c.Breakers())
}

// worst is, for each model, the worst state that an instance has.
func worst(byInstance map[string]map[string]string) map[string]string {
	var all map[string]string
	for _, states := range byInstance {
		for model, state := range states {
			if all == nil {
				all = map[string]string{}
			}
			if was, ok := all[model]; !ok || breaker.Parse(state) > breaker.Parse(was) {
				all[model] = state
			}
		}
	}
	return all
}
