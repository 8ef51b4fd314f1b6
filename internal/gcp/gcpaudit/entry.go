package gcpaudit

import (
	"crypto/rand"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/logging"
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
	Tokens  int64
	CostUSD *float64 // nil: unknown
	Status  int      // of the HTTP response

	RequestID string
	// Trace is the full name, projects/P/traces/T.
	Trace, SpanID string
	TraceSampled  bool
}

// payload is an entry's JSON object, the same in the API and in the fallback.
type payload = *structpb.Struct

// line is e in the form of the Logging client. now is the clock.
func (e *Entry) line(now func() time.Time) logging.Entry {
	line := logging.Entry{
		Timestamp: e.Time.UTC(),
		Severity:  logging.Notice,
		InsertID:  strings.ToValidUTF8(e.ID, "\uFFFD"),
		// The two that metrics and views count by; both have few values.
		Labels:       map[string]string{"action": clean(e.Action), "outcome": clean(e.Outcome)},
		Payload:      e.payload(),
		Trace:        clean(e.Trace),
		SpanID:       clean(e.SpanID),
		TraceSampled: e.TraceSampled,
	}
	if e.Outcome != OK {
		line.Severity = logging.Warning
	}
	if e.Time.IsZero() {
		line.Timestamp = now().UTC()
	}
	if line.InsertID == "" {
		line.InsertID = rand.Text()
	}
	return line
}

func (e *Entry) payload() payload {
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
	number("tokens", float64(e.Tokens))
	if e.CostUSD != nil && !math.IsNaN(*e.CostUSD) && !math.IsInf(*e.CostUSD, 0) { // neither is JSON
		fields["cost_usd"] = structpb.NewNumberValue(*e.CostUSD)
	}
	number("status", float64(e.Status))
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
