// Package audit writes the audit trail to Cloud Logging: who did what to
// which session, with what outcome and cost.
//
// [New] makes one [Log] for the process, and [Log.Write] hands entries to the
// Logging API before it returns. Nothing is left to a background goroutine: an
// instance may lose its CPU as soon as the client has its answer, in the middle
// of a call too. So time is counted only while the process runs, and a connection
// that broke while it did not is replaced at once.
//
// No entry is lost while the process lives. What the API did not take goes to
// the fallback, one line of JSON in the form that Cloud Logging reads on stdout,
// marked "audit": true. An entry is in both places only when the API's answer
// never came; both copies then have the same time and insert id, by which Cloud
// Logging shows them as one.
//
// A process that is killed between a turn's commit and its entry leaves the turn
// as the record. [TurnID] and the turn's time are what every later writer of that
// entry uses; [Turns] returns which turns have one.
//
// Package loggingtest stands in for the Logging API.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/logging"
	logapi "cloud.google.com/go/logging/apiv2"
	"cloud.google.com/go/logging/apiv2/loggingpb"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/api/monitoredres"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/cputime"
	"example.com/gatehouse/internal/gcp/channel"
	"example.com/gatehouse/internal/loopback"
)

// Off, as the name of the log, keeps the trail away from the Logging API.
const Off = "off"

const (
	// writeLimit bounds one call of Write, in time that the process runs.
	writeLimit = 2 * time.Second
	// tick is how finely that is counted.
	tick = 100 * time.Millisecond
	// After maxFailures calls in a row that the API did not take, one call each
	// cooldown tries it and the others go straight to the fallback.
	maxFailures = 3
	cooldown    = 10 * time.Second
)

// A Log is the audit trail. It is safe for concurrent use; its calls share one
// connection.
type Log struct {
	project, name string
	now           func() time.Time
	limit         time.Duration // of one Write, in time that the process runs
	breaker       *breaker.Breaker

	ready    chan struct{} // closed once the three below are set; nil without an API
	api      *logapi.Client
	resource *monitoredres.MonitoredResource
	err      error

	out      sync.Mutex // held while writing to fallback
	fallback io.Writer
	line     []byte // that was written last; out is held

	mu      sync.Mutex
	closed  bool
	pending sync.WaitGroup // calls of Write under way; grows only while not closed
}

// New makes the log called name of project, at endpoint: Google's own when it is
// empty, else the host:port of a regional or private one. An endpoint on
// loopback is spoken to in plaintext and without credentials, which is how a
// stand-in takes the service's place. Without a project or a name, or with the
// name [Off], every entry goes to fallback, and with [io.Discard] costs nothing.
//
// New does not wait for the network: credentials are looked up in the background,
// and the first entry connects. If that fails, entries go to the fallback.
// Each line is one call of fallback's Write, never two at the same time. Options
// come after those that New sets itself.
func New(ctx context.Context, project, name, endpoint string, fallback io.Writer, opts ...option.ClientOption) (*Log, error) {
	l := &Log{
		project: project, name: name, fallback: fallback,
		now: time.Now, limit: writeLimit,
	}
	l.breaker = breaker.New(breaker.Settings{Failures: maxFailures, Cooldown: cooldown, Now: func() time.Time { return l.now() }})
	own, err := channel.Endpoint(endpoint)
	if err != nil {
		return nil, fmt.Errorf("the Logging API's endpoint: %w", err)
	}
	if project == "" || name == "" || name == Off {
		return l, nil
	}
	// The client outlives the call that made it.
	ctx = context.WithoutCancel(ctx)
	l.ready = make(chan struct{})
	go func() {
		defer close(l.ready)
		l.resource = resource(ctx, project, loopback.HostPort(endpoint))
		l.api, l.err = logapi.NewClient(ctx, slices.Concat(clientOptions, own, opts)...)
		if l.err == nil {
			// Its own policy waits up to a minute in the time of the wall, and
			// tries an API that is away until then.
			l.api.CallOptions.WriteLogEntries = nil
		}
	}()
	return l, nil
}

// clientOptions hold for every endpoint. Writing the trail is not part of the
// request, so the client's own spans are off. Reconnecting must not back off for
// longer than the breaker does, or a trial would meet an old error.
var clientOptions = []option.ClientOption{
	option.WithScopes(logging.WriteScope),
	option.WithTelemetryDisabled(),
	option.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: cooldown / 2},
		MinConnectTimeout: cooldown / 2,
	})),
}

// Write delivers entries, all of them to the API or all to the fallback, before
// it returns. That takes at most 2 seconds of running time, and less if ctx ends: what
// the API has not taken by then is for the fallback. The entries of a request need a
// context that survives it. After [Log.Close] everything goes to the fallback.
//
// The entries of one call are one call of the API: up to a few hundred.
func (l *Log) Write(ctx context.Context, entries ...Entry) {
	if len(entries) == 0 || l.ready == nil && l.fallback == io.Discard {
		return
	}
	if l.ready == nil {
		l.print(entries, nil)
		return
	}
	// The same id and time wherever an entry goes. (slices.Clone may return its argument, so
	// that those of every caller would be allocated.)
	entries = append(make([]Entry, 0, len(entries)), entries...)
	for i := range entries {
		entries[i].complete(l.now)
	}
	undelivered := l.enter()
	if undelivered == nil {
		defer l.pending.Done()
		lines := make([]logging.Entry, len(entries))
		for i := range entries {
			lines[i] = entries[i].line()
		}
		undelivered = l.deliver(ctx, lines)
	}
	if undelivered != nil {
		l.print(entries, undelivered)
	}
}

var errClosed = errors.New("the log is closed")

// enter counts a call of Write, so that Close waits for it.
func (l *Log) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.pending.Add(1)
	return nil
}

// deliver hands lines to the API, unless it has just failed.
func (l *Log) deliver(ctx context.Context, lines []logging.Entry) error {
	permit, refused := l.breaker.Allow()
	if refused != nil {
		return refused
	}
	ctx, stop := cputime.WithTimeoutCause(ctx, l.limit, tick, fmt.Errorf("no answer within %v of running time", l.limit))
	defer stop()
	err := l.send(ctx, lines)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	switch {
	case err == nil, status.Code(err) == codes.InvalidArgument: // an entry that the API rejects is not a failure of the API
		permit.Done(breaker.Answered)
	default:
		permit.Done(breaker.Away)
	}
	return err
}

func (l *Log) send(ctx context.Context, lines []logging.Entry) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.err != nil {
		return l.err
	}
	req := &loggingpb.WriteLogEntriesRequest{
		LogName:  logName(l.project, l.name),
		Resource: l.resource,
		Entries:  make([]*loggingpb.LogEntry, len(lines)),
		// Else part of a call could be taken and all of it printed.
		PartialSuccess: false,
	}
	for i, line := range lines {
		var err error
		if req.Entries[i], err = logging.ToLogEntry(line, "projects/"+l.project); err != nil {
			return err
		}
	}
	_, err := l.api.WriteLogEntries(ctx, req)
	if status.Code(err) == codes.Unavailable {
		// The connection may have ended while the instance was frozen: the
		// second call makes a new one. What the first may have left there has the
		// same insert ids.
		_, err = l.api.WriteLogEntries(ctx, req)
	}
	return err
}

// print writes entries to the fallback; reason is why the API has not taken them, nil
// where there is none.
func (l *Log) print(entries []Entry, reason error) {
	l.out.Lock()
	defer l.out.Unlock()
	for _, e := range entries {
		e.complete(l.now)
		// A writer keeps nothing of what it is given, so the memory serves the next line.
		l.line = e.appendStructured(l.line[:0], reason)
		// Nothing is left to be done for an entry that stdout does not take.
		_, _ = l.fallback.Write(l.line)
	}
}

// Close waits until the entries that are being written are delivered, and ends
// the connection. It is not an error to close twice.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again || l.ready == nil {
		return nil
	}
	l.pending.Wait()
	<-l.ready
	if l.err != nil {
		return nil
	}
	return l.api.Close()
}

func logName(project, name string) string {
	return "projects/" + project + "/logs/" + strings.ReplaceAll(name, "/", "%2F")
}
