package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
)

// A line is one of a process's log lines, decoded.
type line map[string]any

// linesOf are the log lines that a process has written so far, those of the
// audit left out.
func linesOf(t *testing.T, p *process) []line {
	t.Helper()
	lines, _ := splitLines(t, p)
	return lines
}

// splitLines are the log lines and the audit's that are in a process's output.
func splitLines(t *testing.T, p *process) (lines, audit []line) {
	t.Helper()
	text := p.stdout.String()
	for text := range strings.Lines(text[:strings.LastIndexByte(text, '\n')+1]) {
		if greeting.MatchString(strings.TrimSuffix(text, "\n")) {
			continue
		}
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("not a line of JSON: %v: %s", err, text)
		}
		if l["audit"] == true {
			audit = append(audit, l)
		} else {
			lines = append(lines, l)
		}
	}
	return lines, audit
}

// at is the value at a path of field names, nil if there is none.
func (l line) at(path ...string) any {
	var value any = map[string]any(l)
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

// summary is the line that sums up the request of this id, once it is there.
func (s *service) summary(t *testing.T, requestID string) line {
	t.Helper()
	var found line
	s.until(t, "a line of request "+requestID, func() bool {
		for _, l := range linesOf(t, s.process) {
			if l["httpRequest"] != nil && l["request_id"] == requestID {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

// until asks again whenever the process has written something, for what it
// writes after the client has its answer.
func (s *service) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if err := s.stdout.AwaitFunc(bounded(t), holds); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// An entry is one of the audit trail, wherever it was delivered.
type entry struct {
	ID, Trace string
	Time      time.Time
	Payload   map[string]any
	Printed   bool // on stdout
}

// copies are all entries that reached the API or the processes' stdout.
func copies(t *testing.T, api *loggingtest.Server, processes ...*process) []entry {
	t.Helper()
	var entries []entry
	for _, e := range api.Entries() {
		entries = append(entries, entry{ID: e.GetInsertId(), Trace: e.GetTrace(), Time: e.GetTimestamp().AsTime(), Payload: e.GetJsonPayload().AsMap()})
	}
	for _, p := range processes {
		_, audit := splitLines(t, p)
		for _, l := range audit {
			e := entry{Payload: map[string]any{}, Printed: true}
			e.ID, _ = l["logging.googleapis.com/insertId"].(string)
			e.Trace, _ = l["logging.googleapis.com/trace"].(string)
			when, _ := l["time"].(string)
			var err error
			if e.Time, err = time.Parse(time.RFC3339Nano, when); err != nil {
				t.Errorf("the time of an entry: %v", err)
			}
			for name, value := range l {
				switch {
				case name == "audit", name == "time", name == "severity", name == "undelivered", strings.HasPrefix(name, "logging.googleapis.com/"):
				default:
					e.Payload[name] = value
				}
			}
			entries = append(entries, e)
		}
	}
	return entries
}

// trail returns the entries as Cloud Logging shows them: copies with the same insert
// id and time are one entry, and must be equal.
func trail(t *testing.T, api *loggingtest.Server, processes ...*process) []entry {
	t.Helper()
	var entries []entry
	seen := map[string]entry{}
	for _, e := range copies(t, api, processes...) {
		if e.ID == "" {
			t.Errorf("an entry without an insert id: %v", e.Payload)
		}
		first, again := seen[e.ID]
		if !again {
			seen[e.ID] = e
			entries = append(entries, e)
			continue
		}
		if !first.Time.Equal(e.Time) {
			t.Errorf("entry %s has the times %v and %v: it is shown twice", e.ID, first.Time, e.Time)
		}
		if !reflect.DeepEqual(first.Payload, e.Payload) {
			t.Errorf("entry %s says two things:\n%v\n%v", e.ID, first.Payload, e.Payload)
		}
	}
	return entries
}

// byRequest are entries by the request's id, which each must have to itself.
func byRequest(t *testing.T, entries []entry) map[string]entry {
	t.Helper()
	found := map[string]entry{}
	for _, e := range entries {
		id := fmt.Sprint(e.Payload["request_id"])
		if other, twice := found[id]; twice {
			t.Errorf("request %s has two entries:\n%v\n%v", id, other.Payload, e.Payload)
		}
		found[id] = e
	}
	return found
}

// did returns the action and outcome of an entry, "action outcome".
func (e entry) did() string { return fmt.Sprint(e.Payload["action"], " ", e.Payload["outcome"]) }

// wantTrail checks that there is exactly one entry for each request that is to
// have one, saying what it did, and none besides.
func wantTrail(t *testing.T, entries []entry, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for id, e := range byRequest(t, entries) {
		got[id] = e.did()
	}
	for id, did := range want {
		if got[id] != did {
			t.Errorf("the entry of request %s: %q, want %q", id, got[id], did)
		}
	}
	maps.DeleteFunc(got, func(id, _ string) bool { _, wanted := want[id]; return wanted })
	for id, did := range got {
		t.Errorf("request %s has an entry that nobody wants: %q", id, did)
	}
}
