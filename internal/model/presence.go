package model

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// presenceTimeout bounds asking whether there are the models at all. The
	// platform's startup probe waits for it, 2 s at most.
	presenceTimeout = 1500 * time.Millisecond
	// missingFor is how long it is believed that there is none, until the API is
	// asked again.
	missingFor = 10 * time.Second
	// checkedFor is how long what was found is given to others: readiness and the
	// probe of the dependency ask one after the other.
	checkedFor = 2 * time.Second
)

// A presence is whether the API has the models: its last answer about their
// metadata or to a call. It is safe for concurrent use.
type presence struct {
	asking sync.Mutex // held while asking, so that one asks for all

	checking sync.Mutex // held by Check
	checked  time.Time  // when it asked last
	first    error      // what it found

	mu      sync.Mutex
	known   bool
	missing bool
	at      time.Time
}

// set records the API's answer.
func (p *presence) set(missing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.missing, p.at = true, missing, time.Now()
}

// settled reports what is known, and whether it need not be asked for.
func (p *presence) settled() (missing, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.missing, p.known && (!p.missing || time.Since(p.at) < missingFor)
}

// Missing returns a [*GoneError] when the API itself answers that it has none of the
// models: not the first, and none that stands in. It asks when nothing is known,
// and again while the last word was that there is none. An API that cannot be
// asked is no reason.
func (c *Client) Missing(ctx context.Context) error {
	if len(c.names) == 0 || !c.missing(ctx) {
		return nil
	}
	return c.gone(c.names[0], errMissing)
}

// missing reports whether the last word of the API was that there is none of the models. One
// caller asks at a time; the others wait for its answer.
func (c *Client) missing(ctx context.Context) bool {
	if missing, ok := c.presence.settled(); ok {
		return missing
	}
	c.presence.asking.Lock()
	defer c.presence.asking.Unlock()
	if missing, ok := c.presence.settled(); ok {
		return missing
	}
	// Others share what is found, so it does not end with the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), presenceTimeout)
	defer cancel()
	_ = c.Check(ctx)
	missing, _ := c.presence.settled()
	return missing
}

// Check asks for the metadata of the first model and, where the API reports that
// there is no such model, of those that stand in. The error is the first model's.
// What it found a moment ago is returned to all who ask, unless that was the end of the
// caller it asked for.
func (c *Client) Check(ctx context.Context) error {
	c.presence.checking.Lock()
	defer c.presence.checking.Unlock()
	if p := &c.presence; p.checked.IsZero() || time.Since(p.checked) >= checkedFor {
		err := c.check(ctx)
		if err != nil && errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		p.first, p.checked = err, time.Now()
	}
	return c.presence.first
}

// check asks the API. A model that stands in is asked about only if those before it do not
// exist, so that the usual check is one request.
func (c *Client) check(ctx context.Context) error {
	if len(c.names) == 0 {
		return nil
	}
	if c.withdrawn.Load() {
		return ErrNoKey
	}
	first := c.Probe(ctx, c.names[0])
	missing := isGone(first)
	for _, name := range c.names[1:] {
		if !missing {
			break
		}
		missing = isGone(c.Probe(ctx, name))
	}
	if missing || first == nil {
		c.presence.set(missing)
	}
	return first
}

// isGone reports whether the API itself answered that there is no such model. A 404 of a gateway
// in between, which has another form, means nothing for it.
func isGone(err error) bool {
	failure, ok := errors.AsType[*Error](err)
	return ok && failure.gone
}

// A GoneError is the error of an API that has none of the models that were asked.
type GoneError struct {
	Model     string // the first
	Successor string // its, "" where none is known
	err       error
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("there is no model %q: %v", e.Model, e.err)
}

// Unwrap returns the API's answer, an [*Error].
func (e *GoneError) Unwrap() error { return e.err }

// gone returns the error of a model that does not exist, with its successor in the table.
func (c *Client) gone(name string, err error) *GoneError {
	return &GoneError{Model: name, Successor: c.tables.Table().Successor(name), err: err}
}

var errMissing = errors.New("the API answered so for it and each of its fallbacks")

// Probe asks for the model's metadata, to see that it can be reached and exists.
// No breaker keeps it away, or hears of it. A gateway that has no metadata, such as
// LiteLLM, answers 404 in another form than the API's: it can be reached, and what it
// does not serve may still exist.
func (c *Client) Probe(ctx context.Context, name string) error {
	_, err := c.sdk.Load().models.Get(ctx, name, nil)
	if err == nil {
		return nil
	}
	err = classify(ctx, err)
	if failure, ok := errors.AsType[*Error](err); ok && failure.gone && failure.foreign {
		return nil
	}
	return fmt.Errorf("reading the model's metadata: %w", err)
}
