package audit

import (
	"crypto/rand"
	"encoding/json"
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

// structured is e, completed, as Cloud Logging reads it on stdout, with the same
// payload as the API is given
// (https://cloud.google.com/logging/docs/structured-logging#special-payload-fields).
// reason is why the API has not taken it.
func (e *Entry) structured(reason error) []byte {
	type labels struct {
		Action  string `json:"action"`
		Outcome string `json:"outcome"`
	}
	fields := struct {
		Action      string   `json:"action,omitempty"`
		Agent       string   `json:"agent_digest,omitempty"`
		Audit       bool     `json:"audit"`
		Calls       string   `json:"calls,omitempty"`
		CostUSD     *float64 `json:"cost_usd,omitempty"`
		Count       int64    `json:"count,omitempty"`
		EndUser     string   `json:"end_user,omitempty"`
		InsertID    string   `json:"logging.googleapis.com/insertId"`
		Labels      labels   `json:"logging.googleapis.com/labels"`
		SpanID      *string  `json:"logging.googleapis.com/spanId,omitempty"`
		Trace       string   `json:"logging.googleapis.com/trace,omitempty"`
		Sampled     *bool    `json:"logging.googleapis.com/trace_sampled,omitempty"`
		Message     string   `json:"message,omitempty"`
		Model       string   `json:"model,omitempty"`
		Outcome     string   `json:"outcome,omitempty"`
		Principal   string   `json:"principal,omitempty"`
		RequestID   string   `json:"request_id,omitempty"`
		SessionID   string   `json:"session_id,omitempty"`
		Severity    string   `json:"severity"`
		Status      int      `json:"status,omitempty"`
		Time        string   `json:"time"`
		Tokens      int64    `json:"tokens,omitempty"`
		Turn        int      `json:"turn,omitempty"`
		Undelivered *string  `json:"undelivered,omitempty"`
	}{
		Action: clean(e.Action), Agent: clean(e.Agent), Calls: clean(e.Calls), Audit: true, EndUser: clean(e.EndUser), InsertID: e.ID, Trace: clean(e.Trace),
		Labels: labels{clean(e.Action), clean(e.Outcome)}, Message: clean(e.Action + " " + e.Outcome), Model: clean(e.Model),
		Outcome: clean(e.Outcome), Principal: clean(e.Principal), RequestID: clean(e.RequestID), SessionID: clean(e.Session),
		Severity: strings.ToUpper(e.severity().String()), Status: e.Status, Time: e.Time.Format(time.RFC3339Nano),
		Tokens: e.Tokens, Turn: e.Turn, Count: e.Count,
	}
	if e.priced() {
		fields.CostUSD = e.CostUSD
	}
	if fields.Trace != "" {
		span := clean(e.SpanID)
		fields.SpanID, fields.Sampled = &span, &e.TraceSampled
	}
	if reason != nil {
		why := clean(reason.Error())
		fields.Undelivered = &why
	}
	data, _ := json.Marshal(fields) // of text, finite numbers and booleans: it cannot fail
	return append(data, '\n')
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
