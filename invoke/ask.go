package invoke

import (
	"context"
	"sync"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A run is one execution of the agent, which appends one turn to a session.
type run struct {
	req     Request
	owner   session.Owner
	turnID  string  // made at the beginning, so that the run has an id
	out     *output // what it shows
	watched bool    // somebody follows out while it runs
}

// Ask runs one turn for the caller of ctx and returns its response. The error is an
// [*api.Error].
//
// With show, it is called with each event as it happens, one call at a time: start as
// soon as the question is admitted, done or error at the end. Then Ask returns an error
// only if there was no event. If show returns an error, its client has left.
func (s *Service) Ask(ctx context.Context, req Request, show func(Event) error) (*Response, error) {
	client := ctx
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	r := &run{req: req, owner: caller.Owner(ctx), turnID: session.NewID(), out: &output{}, watched: show != nil}
	if show == nil {
		response, err := s.turn(ctx, r)
		if err != nil {
			return nil, failure(client, ctx, err)
		}
		return response, nil
	}
	var watching sync.WaitGroup
	var broken error
	watching.Go(func() {
		broken = rescue.Call(func() error { return r.out.each(context.Background(), &Position{}, false, show) })
		if broken != nil { // the client does not read: stop paying for the model
			cancel()
		}
	})
	response, err := s.rescued(ctx, r)
	r.out.end()
	watching.Wait()
	end := Event{Kind: KindDone, Run: r.out.run, At: r.out.last(), Response: response}
	switch {
	case err == nil:
		end.Envelope = api.Success(client, invoked, response)
	case !r.out.started():
		return nil, failure(client, ctx, err)
	default:
		e := failure(client, ctx, err)
		telemetry.Fail(client, e.Failure())
		end.Kind, end.Envelope = KindError, api.Failure(client, e)
	}
	if broken == nil {
		_ = show(end) // nobody is left to tell
	}
	return response, nil
}

// rescued is turn for a run with a watcher: a panic after the start becomes the error
// that ends the stream. One before it is for package middleware.
func (s *Service) rescued(ctx context.Context, r *run) (_ *Response, err error) {
	defer func() {
		if !r.out.started() {
			r.out.end() // for the watcher, which nobody else would end
			return
		}
		if p := recover(); p != nil {
			err = api.Panicked(ctx, s.Log, p)
		}
	}()
	return s.turn(ctx, r)
}
