package server

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ShutdownTime is what [Server.Shutdown] takes at most. Cloud Run kills an
// instance 10 s after SIGTERM
// (https://cloud.google.com/run/docs/container-contract#instance-shutdown).
const ShutdownTime = 9500 * time.Millisecond

// drainTimeout is how long requests in flight may go on before they are cut short,
// and cutTimeout what they then have to end with a clean error. serverCloseTimeout
// bounds the HTTP server's own part, after the last answer.
const (
	drainTimeout       = 8 * time.Second
	cutTimeout         = 700 * time.Millisecond
	serverCloseTimeout = 2 * time.Second
)

// Shutdown is [Server.Drain] and [Server.CloseHTTP].
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.Drain(ctx); err != nil {
		return err
	}
	return s.CloseHTTP(ctx)
}

// Drain lets no new request in, lets those in flight finish within 8 s and cuts the
// others short, and then delivers the last telemetry and closes what is open. Within
// ctx, for which [ShutdownTime] is enough, it comes to its end even if a part hangs, which
// is an error. The HTTP server goes on listening.
func (s *Server) Drain(ctx context.Context) error {
	err := s.endRequests(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "Shutting down before all requests were answered.", "error", err.Error())
	}
	var last sync.WaitGroup
	// What is written last goes out side by side, so that one part that hangs does not use
	// up the time of the others. The clients below them are closed only afterwards.
	last.Go(func() {
		if err := s.agents.close(ctx); err != nil {
			s.Log.WarnContext(ctx, "The agent could not be closed.", "error", err.Error())
		}
	})
	s.standing.Lock()
	s.drained = true
	p := s.parts.Load()
	s.standing.Unlock()
	if p != nil && p.closeQueue != nil {
		last.Go(func() { _ = within(ctx, p.closeQueue) }) // it waits for its deliveries, as long as they take
	}
	if p != nil {
		last.Go(func() { p.limiter.Close(ctx) })
		last.Go(func() { p.closeFigures(ctx, s.Log) })
		last.Go(func() {
			if err := p.observer.Shutdown(ctx); err != nil {
				s.Log.WarnContext(ctx, "The last telemetry could not be exported.", "error", err.Error())
			}
		})
	}
	last.Wait()
	return errors.Join(err, within(ctx, func() { // the clients that all of these use
		if p != nil {
			p.close()
		}
		s.closeSecretManager()
	}))
}

// within calls f and waits for its end, or for ctx's, which is the error.
func within(ctx context.Context, f func()) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endRequests waits for the requests in flight, and cuts short those that take too
// long.
func (s *Server) endRequests(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if s.gate.Shut(waiting) == nil {
		return nil
	}
	// The model calls in flight end, and their handlers still answer: a client gets a clean
	// error instead of a broken connection.
	s.gate.Cut()
	waiting, cancel = context.WithTimeout(ctx, cutTimeout)
	defer cancel()
	return s.gate.Shut(waiting)
}

func (s *Server) closeSecretManager() {
	s.secretsMu.Lock()
	defer s.secretsMu.Unlock()
	if s.secretsClient != nil {
		_ = s.secretsClient.Close()
	}
}

// CloseHTTP closes the HTTP server that the requests came through, once it has sent
// the last answers: a handler that has returned is not an answer that is out. The
// functions framework does not expose its server, but each request does.
func (s *Server) CloseHTTP(ctx context.Context) error {
	server := s.server.Load()
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, serverCloseTimeout)
	defer cancel()
	return server.Shutdown(ctx)
}
