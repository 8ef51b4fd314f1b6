package audit

import (
	"crypto/rand"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/logging"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/types/known/structpb"
)

// OK is the outcome of what was done as asked.
const OK = "ok"

// An Entry is one line of the audit trail: who did what, with what outcome.
// Fields that are empty are left out. Text is cut to 512 bytes.
type Entry struct {
	// ID is the insert id. Cloud Logging shows entries with the same ID and Time
	// as one, so an entry that is written again, by another process too, must
	// have both of the first. Empty: a random one.
	ID string
	// Time is when it was done. Zero: now.
	Time time.Time
	// Action is what was done or refused: "session.turn", "credential.refused".
	Action string
	// Outcome is [OK] or an error code of the HTTP contract.
	Outcome string

	// Who and to what: hashes, or names where the configuration asks for them.
	Principal, EndUser, Session string

	Turn    int
	Model   string
	Agent   string // digest of what made the turn
	Calls   string // the tool calls that were approved or denied
	Tokens  int64
	CostUSD *float64 // nil: unknown
	Status  int      // of the HTTP response
	Count   int64    // of what this entry stands for, if that is more than one

	RequestID string
	// Trace is the full name, projects/P/traces/T.
	Trace, SpanID string
	TraceSampled  bool
}

// complete sets e's id and time where it has none. now is the clock.
func (e *Entry) complete(now func() time.Time) {
	if e.Time.IsZero() {
		e.Time = now()
	}
	e.Time = e.Time.UTC()
	if e.ID = strings.ToValidUTF8(e.ID, "\uFFFD"); e.ID == "" {
		e.ID = rand.Text()
	}
}

// severity is a warning for what was not done as asked.
func (e *Entry) severity() logging.Severity {
	if e.Outcome != OK {
		return logging.Warning
	}
	return logging.Notice
}

// line is e, completed, in the form of the Logging client.
func (e *Entry) line() logging.Entry {
	return logging.Entry{
		Timestamp: e.Time,
		Severity:  e.severity(),
		InsertID:  e.ID,
		// The two that metrics and views count by; both have few values.
		Labels:       map[string]string{"action": clean(e.Action), "outcome": clean(e.Outcome)},
		Payload:      e.payload(),
		Trace:        clean(e.Trace),
		SpanID:       clean(e.SpanID),
		TraceSampled: e.TraceSampled,
	}
}

// appendStructured appends e, completed, to b as Cloud Logging reads it on stdout, with
// the same payload as the API is given
// (https://cloud.google.com/logging/docs/structured-logging#special-payload-fields).
// reason is why the API has not taken it.
//
// Members stand in the order of their names. A map or a struct that encoding/json
// writes took three times as long, and in the usual deployment each turn has such a line.
func (e *Entry) appendStructured(b []byte, reason error) []byte {
	o := object{append(b, '{')}
	o.optional("action", e.Action)
	o.optional("agent_digest", e.Agent)
	o.bool("audit", true)
	o.optional("calls", e.Calls)
	if e.priced() {
		o.float("cost_usd", *e.CostUSD)
	}
	o.count("count", e.Count)
	o.optional("end_user", e.EndUser)
	o.text("logging.googleapis.com/insertId", e.ID)
	o.name("logging.googleapis.com/labels")
	labels := object{append(o.b, '{')}
	labels.text("action", clean(e.Action))
	labels.text("outcome", clean(e.Outcome))
	o.b = append(labels.b, '}')
	if e.Trace != "" {
		o.text("logging.googleapis.com/spanId", clean(e.SpanID))
		o.text("logging.googleapis.com/trace", clean(e.Trace))
		o.bool("logging.googleapis.com/trace_sampled", e.TraceSampled)
	}
	o.optional("message", e.Action+" "+e.Outcome)
	o.optional("model", e.Model)
	o.optional("outcome", e.Outcome)
	o.optional("principal", e.Principal)
	o.optional("request_id", e.RequestID)
	o.optional("session_id", e.Session)
	o.text("severity", strings.ToUpper(e.severity().String()))
	o.count("status", int64(e.Status))
	o.name("time")
	o.b = append(e.Time.AppendFormat(append(o.b, '"'), time.RFC3339Nano), '"')
	o.count("tokens", e.Tokens)
	o.count("turn", int64(e.Turn))
	if reason != nil {
		o.text("undelivered", clean(reason.Error()))
	}
	return append(o.b, '}', '\n')
}

// An object is one of JSON, of which the members so far are written.
type object struct{ b []byte }

// name begins a member.
func (o *object) name(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

func (o *object) bool(name string, value bool) {
	o.name(name)
	o.b = strconv.AppendBool(o.b, value)
}

// count writes a number, unless it is 0.
func (o *object) count(name string, value int64) {
	if value != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, value, 10)
	}
}

// float writes a number that is finite.
func (o *object) float(name string, value float64) {
	o.name(name)
	o.b = strconv.AppendFloat(o.b, value, 'f', -1, 64)
}

// optional writes a text, unless it is empty.
func (o *object) optional(name, value string) {
	if value != "" {
		o.text(name, clean(value))
	}
}

// text writes a text of UTF-8.
func (o *object) text(name, value string) {
	o.name(name)
	o.b, _ = jsontext.AppendQuote(o.b, value)
}

// priced reports whether the cost can be written: JSON has no NaN and infinities.
func (e *Entry) priced() bool {
	return e.CostUSD != nil && !math.IsNaN(*e.CostUSD) && !math.IsInf(*e.CostUSD, 0)
}

// payload is e as a JSON object, the same in the API and in the fallback.
func (e *Entry) payload() *structpb.Struct {
	fields := make(map[string]*structpb.Value, 12)
	text := func(name, value string) {
		if value != "" {
			fields[name] = structpb.NewStringValue(clean(value))
		}
	}
	number := func(name string, value float64) {
		if value != 0 {
			fields[name] = structpb.NewNumberValue(value)
		}
	}
	text("message", e.Action+" "+e.Outcome)
	text("action", e.Action)
	text("outcome", e.Outcome)
	text("principal", e.Principal)
	text("end_user", e.EndUser)
	text("session_id", e.Session)
	number("turn", float64(e.Turn))
	text("model", e.Model)
	text("agent_digest", e.Agent)
	text("calls", e.Calls)
	number("tokens", float64(e.Tokens))
	if e.priced() {
		fields["cost_usd"] = structpb.NewNumberValue(*e.CostUSD)
	}
	number("status", float64(e.Status))
	number("count", float64(e.Count))
	text("request_id", e.RequestID)
	return &structpb.Struct{Fields: fields}
}

// maxText bounds each text, in bytes, so that an entry is far from the 256 KiB
// that Cloud Logging takes.
const maxText = 512

// clean makes s fit for an entry: UTF-8, of at most maxText bytes.
func clean(s string) string {
	if len(s) > maxText {
		cut := maxText - len("…")
		for !utf8.RuneStart(s[cut]) && cut > maxText-utf8.UTFMax-len("…") {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
