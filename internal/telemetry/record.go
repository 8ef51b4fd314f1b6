package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/truncate"
)

// A Record gathers what becomes known of a request on its way, for the one
// line that sums it up and for the audit. It is safe for concurrent use.
type Record struct {
	mu       sync.Mutex
	attrs    []slog.Attr
	route    string
	failure  *api.Error // nil: none
	panicked bool
	turn     Turn
	earlier  func() (Turn, bool)
}

// A Turn is what a request did to a session, as far as it came.
type Turn struct {
	Session  string    // the session's name in logs, a hash
	ID       string    // the turn's own; "" when none was stored
	At       time.Time // when it was made, as it is stored
	Number   int       // in its session, from 1
	Model    string    // that answered
	Request  string    // the id of the request that made it
	Agent    string    // digest of the instruction, tools and settings that made it
	Attempts int       // of calling the model
	Tokens   int64
	CostUSD  *float64 // nil when the model has no price
	Replayed bool     // an earlier request's, answered again
	Asked    bool     // a call of the model began: the request's permit is spent
	Action   string   // what the audit calls it; "": as its route does
	Calls    string   // the tool calls that a person has answered, and how
	Outcome  string   // of Action, in the audit, where the answer is not the outcome; "": where it is

	ModelTime, StoreTime time.Duration
}

// Failure returns how the request failed, nil if it did not.
func (r *Record) Failure() *api.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// Code returns the code of [Record.Failure], "" if the request did not fail.
func (r *Record) Code() api.Code {
	if failure := r.Failure(); failure != nil {
		return failure.Code
	}
	return ""
}

// Route is the route that the request took, "" for none.
func (r *Record) Route() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.route
}

// Turn is what the request did to a session.
func (r *Record) Turn() Turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turn
}

// Earlier is the session's last turn before the request's own; false: there is
// none.
func (r *Record) Earlier() (Turn, bool) {
	r.mu.Lock()
	earlier := r.earlier
	r.mu.Unlock()
	if earlier == nil {
		return Turn{}, false
	}
	return earlier()
}

// A recordKey is the key of the request's [Record] in a context.
type recordKey struct{}

// WithRecord returns a context in which [Note] and [Fail] find r.
func WithRecord(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// update applies f to the record in ctx, if there is one.
func update(ctx context.Context, f func(*Record)) {
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		f(r)
	}
}

// SetRoute names the route that the request took, as the program writes it and
// not as a caller does.
func SetRoute(ctx context.Context, route string) {
	update(ctx, func(r *Record) { r.route = route })
}

// Note adds fields to the request's line; nothing happens without a [Record]
// in ctx.
func Note(ctx context.Context, attrs ...slog.Attr) {
	update(ctx, func(r *Record) { r.attrs = append(r.attrs, attrs...) })
}

// SetTurn lets f add to what the request did to a session.
func SetTurn(ctx context.Context, f func(*Turn)) {
	update(ctx, func(r *Record) { f(&r.turn) })
}

// SetEarlier records how to read the session's last turn before the request's own,
// which is read only on demand.
func SetEarlier(ctx context.Context, read func() (Turn, bool)) {
	update(ctx, func(r *Record) { r.earlier = read })
}

// Fail records how the request of ctx failed. The last failure counts.
func Fail(ctx context.Context, e *api.Error) {
	update(ctx, func(r *Record) { r.failure = e })
}

// Panicked logs a panic with the value p, and returns the answer to the request of
// ctx, which it ended. It must be called by the function that recovers.
//
// The stack is in this line only: in the request's as well, Error Reporting would count
// it twice.
func Panicked(ctx context.Context, log *slog.Logger, p any) *api.Error {
	LogPanic(ctx, log, "A handler panicked.", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
	update(ctx, func(r *Record) { r.panicked = true })
	return api.Fail(api.Internal, fmt.Errorf("panic: %v", p))
}

// LogPanic logs a panic of the request of ctx with its stack, which has the form of
// [debug.Stack] after a first line that Error Reporting shows.
func LogPanic(ctx context.Context, log *slog.Logger, message, stack string) {
	log.LogAttrs(ctx, slog.LevelError, message, slog.String("request_id", api.RequestID(ctx)), slog.String(stackKey, stack))
}

// A Summary is what is known of a request from outside.
type Summary struct {
	Method, Path, UserAgent, RemoteIP string
	RequestID                         string
	Status                            int // 0: nothing was written
	Bytes                             int64
	Latency                           time.Duration
}

// The most that a line shows of what callers and upstreams wrote, in bytes: all
// of it together leaves the line below 2 KiB.
const (
	maxMethod = 16
	maxPath   = 80
	maxAgent  = 80
	maxIP     = 45
	maxModel  = 40
	maxCause  = 200
	maxStack  = 250
)

// Log writes the line that sums the request up: less than 2 KiB for any
// request. Client mistakes are warnings, ours are errors.
func (r *Record) Log(ctx context.Context, logger *slog.Logger, s Summary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	level := slog.LevelInfo
	switch {
	case s.Status >= 500:
		level = slog.LevelError
	case s.Status >= 400:
		level = slog.LevelWarn
	}
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, usualFields+len(r.attrs))
	attrs = append(attrs,
		slog.GroupAttrs("httpRequest",
			slog.String("requestMethod", plain(s.Method, maxMethod)),
			slog.String("requestUrl", plain(s.Path, maxPath)),
			slog.Int("status", s.Status),
			slog.String("responseSize", strconv.FormatInt(s.Bytes, 10)),
			slog.String("userAgent", plain(s.UserAgent, maxAgent)),
			slog.String("remoteIp", plain(s.RemoteIP, maxIP)),
			slog.String("latency", strconv.FormatFloat(s.Latency.Seconds(), 'f', 6, 64)+"s"),
		),
		slog.String("request_id", s.RequestID),
		slog.String("route", r.route),
	)
	if r.failure != nil {
		attrs = append(attrs, slog.String("code", string(r.failure.Code)))
		if r.failure.Cause != nil {
			attrs = append(attrs, slog.String("error", plain(r.failure.Cause.Error(), maxCause)))
		}
		if faults := r.failure.Faults(); faults != "" {
			attrs = append(attrs, slog.String("details", plain(faults, maxCause)))
		}
	}
	attrs = append(attrs, r.attrs...)
	attrs = r.turn.append(attrs)
	text := http.StatusText(s.Status)
	if s.Status == api.StatusClientClosedRequest {
		text = "Client Closed Request"
	}
	message := cmp.Or(r.route, "no route") + " " + strconv.Itoa(s.Status) + " " + text
	// The members of a group that has no name are the line's own. A [slog.Record] keeps one
	// group as it is; so many fields it would copy, and again for what the handler adds.
	fields := slog.GroupAttrs("", attrs...)
	if s.Status >= 500 && !r.panicked {
		logger.LogAttrs(ctx, level, message, fields, slog.String(stackKey, stackOf(r.failure)))
		return
	}
	logger.LogAttrs(ctx, level, message, fields)
}

// usualFields is how many fields the line of a turn has, those of [Note] aside.
const usualFields = 3 + 8

// append adds the fields that are known of t.
func (t *Turn) append(attrs []slog.Attr) []slog.Attr {
	if t.Session != "" {
		attrs = append(attrs, slog.String("session_id", t.Session))
	}
	if t.Number > 0 {
		attrs = append(attrs, slog.Int("turn", t.Number))
	}
	if t.Replayed {
		attrs = append(attrs, slog.Bool("replayed", true))
	}
	if t.Model == "" { // it was not asked
		return attrs
	}
	if t.Agent != "" {
		attrs = append(attrs, slog.String("agent_digest", t.Agent))
	}
	return append(attrs, slog.String("model", plain(t.Model, maxModel)), slog.Int("attempts", t.Attempts),
		slog.Int64("tokens", t.Tokens), slog.Int64("model_ms", t.ModelTime.Milliseconds()),
		slog.Int64("store_ms", t.StoreTime.Milliseconds()))
}

// stackOf returns where e was made, after what Error Reporting shows as its first line:
// the code, which is the same for all failures of a kind.
func stackOf(e *api.Error) string {
	if e == nil {
		return "error"
	}
	stack := e.Stack()
	if stack == "" {
		return string(e.Code)
	}
	return truncate.Text(string(e.Code)+"\n\n"+stack, maxStack)
}
