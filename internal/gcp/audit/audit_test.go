package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/audit/loggingtest"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(childEnv); address != "" {
		child(address)
		return
	}
	goleak.VerifyTestMain(m)
}

// stdout is a fallback that a test reads.
type stdout struct {
	mu     sync.Mutex
	writes [][]byte
}

func (o *stdout) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes = append(o.writes, bytes.Clone(p))
	return len(p), nil
}

// lines are the objects that were written, each of which must be one line.
func (o *stdout) lines(t testing.TB) []map[string]any {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	var lines []map[string]any
	for _, data := range o.writes {
		if bytes.Count(data, []byte("\n")) != 1 || !bytes.HasSuffix(data, []byte("\n")) {
			t.Errorf("not one line: %q", data)
		}
		var line map[string]any
		if err := json.Unmarshal(data, &line); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if line["audit"] != true {
			t.Errorf("not marked as of the audit trail: %s", data)
		}
		lines = append(lines, line)
	}
	return lines
}

func (o *stdout) ids(t testing.TB) []string {
	t.Helper()
	var ids []string
	for _, line := range o.lines(t) {
		id, _ := line["logging.googleapis.com/insertId"].(string)
		ids = append(ids, id)
	}
	return ids
}

func taken(server *loggingtest.Server) []string {
	var ids []string
	for _, entry := range server.Entries() {
		ids = append(ids, entry.GetInsertId())
	}
	return ids
}

func newLog(t testing.TB, endpoint string, opts ...option.ClientOption) (*audit.Log, *stdout) {
	t.Helper()
	out := &stdout{}
	l, err := audit.New(t.Context(), "p-1", "agent-audit", endpoint, out, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l, out
}

// closedPort is an address where connections are refused.
func closedPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func turn(id string) audit.Entry {
	cost := 0.00042
	return audit.Entry{
		ID: id, Time: time.Date(2026, 11, 3, 10, 20, 30, 123456789, time.UTC),
		Action: "session.turn", Outcome: audit.OK,
		Principal: "9f86d081", EndUser: "60303ae2", Session: "fd61a03a", Turn: 3,
		Model: "gemini-2.5-flash", Agent: "0123456789abcdef", Calls: "transfer: approved", Tokens: 1234, CostUSD: &cost, Status: 200, Count: 2, RequestID: "r-1",
		Trace: "projects/p-1/traces/0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331", TraceSampled: true,
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	refused := audit.Entry{
		ID: "e-2", Time: time.Date(2026, 11, 3, 10, 20, 31, 0, time.FixedZone("CET", 3600)),
		Action: "limit.refused", Outcome: "rate_limited", Principal: "9f86d081", Status: 429,
	}
	server := loggingtest.Start(t)
	l, out := newLog(t, server.Addr)
	l.Write(t.Context(), turn("e-1"), refused)

	type entry struct {
		Log, ID, Severity, Time, Trace, Span string
		Sampled                              bool
		Resource, Labels                     map[string]string
		Payload                              map[string]any
	}
	var got []entry
	for _, e := range server.Entries() {
		if e.GetResource().GetType() != "global" {
			t.Errorf("resource of type %q", e.GetResource().GetType())
		}
		got = append(got, entry{
			Log: e.GetLogName(), ID: e.GetInsertId(), Severity: e.GetSeverity().String(),
			Time:  e.GetTimestamp().AsTime().Format(time.RFC3339Nano),
			Trace: e.GetTrace(), Span: e.GetSpanId(), Sampled: e.GetTraceSampled(),
			Resource: e.GetResource().GetLabels(), Labels: e.GetLabels(),
			Payload: e.GetJsonPayload().AsMap(),
		})
	}
	resource := map[string]string{"project_id": "p-1"}
	want := []entry{
		{
			Log: "projects/p-1/logs/agent-audit", ID: "e-1", Severity: "NOTICE", Time: "2026-11-03T10:20:30.123456789Z",
			Trace: "projects/p-1/traces/0af7651916cd43dd8448eb211c80319c", Span: "b7ad6b7169203331", Sampled: true,
			Resource: resource, Labels: map[string]string{"action": "session.turn", "outcome": "ok"},
			Payload: map[string]any{
				"message": "session.turn ok", "action": "session.turn", "outcome": "ok",
				"principal": "9f86d081", "end_user": "60303ae2", "session_id": "fd61a03a", "turn": 3.0,
				"model": "gemini-2.5-flash", "agent_digest": "0123456789abcdef", "calls": "transfer: approved", "tokens": 1234.0, "cost_usd": 0.00042, "status": 200.0, "count": 2.0, "request_id": "r-1",
			},
		},
		{
			Log: "projects/p-1/logs/agent-audit", ID: "e-2", Severity: "WARNING", Time: "2026-11-03T09:20:31Z",
			Resource: resource, Labels: map[string]string{"action": "limit.refused", "outcome": "rate_limited"},
			Payload: map[string]any{
				"message": "limit.refused rate_limited", "action": "limit.refused", "outcome": "rate_limited",
				"principal": "9f86d081", "status": 429.0,
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if lines := out.lines(t); len(lines) != 0 {
		t.Errorf("on the fallback too: %v", lines)
	}
	if got := server.Calls(); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	server.Fail(codes.PermissionDenied)
	l, out := newLog(t, server.Addr)
	l.Write(t.Context(), turn("e-1"))
	want := []map[string]any{{
		"severity": "NOTICE", "time": "2026-11-03T10:20:30.123456789Z", "message": "session.turn ok", "audit": true,
		"logging.googleapis.com/insertId": "e-1",
		"logging.googleapis.com/trace":    "projects/p-1/traces/0af7651916cd43dd8448eb211c80319c",
		"logging.googleapis.com/spanId":   "b7ad6b7169203331", "logging.googleapis.com/trace_sampled": true,
		"logging.googleapis.com/labels": map[string]any{"action": "session.turn", "outcome": "ok"},
		"action":                        "session.turn", "outcome": "ok",
		"principal": "9f86d081", "end_user": "60303ae2", "session_id": "fd61a03a", "turn": 3.0,
		"model": "gemini-2.5-flash", "agent_digest": "0123456789abcdef", "calls": "transfer: approved", "tokens": 1234.0, "cost_usd": 0.00042, "status": 200.0, "count": 2.0, "request_id": "r-1",
		"undelivered": "rpc error: code = PermissionDenied desc = loggingtest: told to fail",
	}}
	if diff := cmp.Diff(want, out.lines(t)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// What an entry costs: Cloud Logging charges for its bytes. This one is about as
// long as they come, with a trace, hashes of 43 characters and a cost.
func TestWhatAnEntryCosts(t *testing.T) {
	t.Setenv("K_SERVICE", "invoke")
	t.Setenv("K_REVISION", "invoke-00042-abc")
	t.Setenv("K_CONFIGURATION", "invoke")
	server := loggingtest.Start(t)
	l, _ := newLog(t, server.Addr)
	hash, cost := strings.Repeat("h", 43), 0.001234
	l.Write(t.Context(), audit.Entry{
		ID: audit.TurnID("uCkrQTfRvAJsMuKKzijcpQ"), Time: time.Date(2026, 11, 24, 10, 20, 30, 123456789, time.UTC),
		Action: "session.turn", Outcome: audit.OK, Principal: hash, EndUser: hash, Session: hash,
		Turn: 12, Model: "gemini-2.5-flash", Tokens: 1800, CostUSD: &cost, Status: 200, RequestID: "Qy7mwY-LCvw-IEA4OwD5Mw",
		Trace: "projects/my-project/traces/0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331", TraceSampled: true,
	})
	entries := server.Entries()
	if len(entries) != 1 {
		t.Fatalf("%d entries", len(entries))
	}
	raw, err := protojson.Marshal(entries[0])
	if err != nil {
		t.Fatal(err)
	}
	var short bytes.Buffer
	if err := json.Compact(&short, raw); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes as JSON, %d on the wire", short.Len(), proto.Size(entries[0]))
	if n := short.Len(); n < 780 || n > 900 {
		t.Errorf("an entry takes %d bytes, where cmd/cost/measured.json has 860", n)
	}
}

// Each entry is in one place, and the API is asked no more than it helps.
func TestOnePlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		arrange func(*loggingtest.Server)
		inAPI   bool
		calls   int
	}{
		{name: "a sound API", arrange: func(*loggingtest.Server) {}, inAPI: true, calls: 1},
		{name: "a slow API", arrange: func(s *loggingtest.Server) { s.Delay(3 * audit.Tick) }, inAPI: true, calls: 1},
		{name: "connection refused", arrange: (*loggingtest.Server).Stop},
		{name: "permission denied", arrange: func(s *loggingtest.Server) { s.Fail(codes.PermissionDenied) }, calls: 1},
		{name: "no such project", arrange: func(s *loggingtest.Server) { s.Fail(codes.NotFound) }, calls: 1},
		{name: "not authenticated", arrange: func(s *loggingtest.Server) { s.Fail(codes.Unauthenticated) }, calls: 1},
		{name: "quota used up", arrange: func(s *loggingtest.Server) { s.Fail(codes.ResourceExhausted) }, calls: 1},
		{name: "an entry found wrong", arrange: func(s *loggingtest.Server) { s.Fail(codes.InvalidArgument) }, calls: 1},
		{name: "unavailable", arrange: func(s *loggingtest.Server) { s.Fail(codes.Unavailable) }, calls: 2},
		{name: "unavailable once", arrange: func(s *loggingtest.Server) { s.FailNext(codes.Unavailable, 1) }, inAPI: true, calls: 2},
		{name: "a connection that broke", arrange: func(s *loggingtest.Server) { s.BreakNext(1) }, inAPI: true, calls: 2},
		{name: "connections that break", arrange: func(s *loggingtest.Server) { s.BreakNext(2) }, calls: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := loggingtest.Start(t)
			tt.arrange(server)
			l, out := newLog(t, server.Addr)
			l.Write(t.Context(), turn("e-1"))
			all := []string{"e-1"}
			api, fallback := taken(server), out.ids(t)
			if tt.inAPI && (!cmp.Equal(api, all) || len(fallback) > 0) || !tt.inAPI && (len(api) > 0 || !cmp.Equal(fallback, all)) {
				t.Errorf("in the API %q, on the fallback %q; want it in the API alone: %t", api, fallback, tt.inAPI)
			}
			if got := server.Calls(); got != tt.calls {
				t.Errorf("%d calls, want %d", got, tt.calls)
			}
		})
	}
}

func TestLostAnswer(t *testing.T) {
	t.Parallel()
	t.Run("sent again under the same insert id and time", func(t *testing.T) {
		t.Parallel()
		server := loggingtest.Start(t)
		server.LoseNext(1)
		l, out := newLog(t, server.Addr)
		l.Write(t.Context(), audit.Entry{Action: "session.read", Outcome: audit.OK}) // names neither
		got := server.Entries()
		if len(got) != 2 || got[0].InsertId == "" || got[0].InsertId != got[1].InsertId || !got[0].Timestamp.AsTime().Equal(got[1].Timestamp.AsTime()) {
			t.Errorf("not twice the same entry: %v", got)
		}
		if lines := out.lines(t); len(lines) != 0 {
			t.Errorf("on the fallback too: %v", lines)
		}
	})
	t.Run("printed under the same insert id and time", func(t *testing.T) {
		t.Parallel()
		server := loggingtest.Start(t)
		server.LoseNext(2)
		l, out := newLog(t, server.Addr)
		given := []audit.Entry{{Action: "session.read", Outcome: audit.OK}}
		l.Write(t.Context(), given...)
		if given[0].ID != "" || !given[0].Time.IsZero() {
			t.Errorf("the caller's entry has become %+v", given[0])
		}
		entries, lines := server.Entries(), out.lines(t)
		if len(entries) != 2 || len(lines) != 1 {
			t.Fatalf("%d entries in the API, %d lines", len(entries), len(lines))
		}
		sameAs(t, lines[0], entries[0])
	})
}

// sameAs checks that Cloud Logging takes line and entry for one.
func sameAs(t *testing.T, line map[string]any, entry *loggingpb.LogEntry) {
	t.Helper()
	if id, at := line["logging.googleapis.com/insertId"], entry.GetTimestamp().AsTime().Format(time.RFC3339Nano); id != entry.GetInsertId() || line["time"] != at {
		t.Errorf("line (%v, %v) and entry (%s, %s) differ", id, line["time"], entry.GetInsertId(), at)
	}
}

// The API is killed, or drained, while many write: each entry is found once. Of
// a killed API, an answer that was on its way is lost; only those entries are in
// both places, and count as one by their insert id and time.
func TestAPIEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	const writers, each = 32, 20
	tests := []struct {
		name   string
		end    func(*loggingtest.Server)
		inBoth int // at most
	}{
		{"killed", (*loggingtest.Server).Stop, writers},
		{"drained", (*loggingtest.Server).Drain, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := loggingtest.Start(t)
			l, out := newLog(t, server.Addr)
			var wait sync.WaitGroup
			for w := range writers {
				wait.Go(func() {
					for n := range each {
						l.Write(t.Context(), turn(fmt.Sprintf("e-%d-%d", w, n)))
					}
				})
			}
			for range writers * each / 3 {
				<-server.Arrived()
			}
			tt.end(server)
			wait.Wait()

			entries := map[string]*loggingpb.LogEntry{}
			for _, entry := range server.Entries() {
				if entries[entry.InsertId] != nil {
					t.Errorf("%s is twice in the API", entry.InsertId)
				}
				entries[entry.InsertId] = entry
			}
			lines, both := map[string]bool{}, 0
			for _, line := range out.lines(t) {
				id := line["logging.googleapis.com/insertId"].(string)
				if lines[id] {
					t.Errorf("%s is twice on the fallback", id)
				}
				lines[id] = true
				if entry := entries[id]; entry != nil {
					both++
					sameAs(t, line, entry)
				}
			}
			if both > tt.inBoth {
				t.Errorf("%d entries in both places, want at most %d", both, tt.inBoth)
			}
			if len(entries) == 0 || len(lines) == 0 {
				t.Errorf("%d entries in the API and %d on the fallback: not the middle", len(entries), len(lines))
			}
			if got := len(entries) + len(lines) - both; got != writers*each {
				t.Errorf("%d entries found, want %d", got, writers*each)
			}
			t.Logf("%d in the API, %d on the fallback, %d of them in both", len(entries), len(lines), both)
		})
	}
}

func TestHangingAPI(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	release := server.Hold()
	defer release()
	l, out := newLog(t, server.Addr)
	l.SetLimit(2 * audit.Tick)
	for n := range 2 * audit.MaxFailures {
		start := time.Now()
		l.Write(t.Context(), turn(fmt.Sprint(n)))
		if took := time.Since(start); took > audit.WriteLimit {
			t.Errorf("entry %d took %v", n, took)
		}
	}
	if got := server.Calls(); got != audit.MaxFailures {
		t.Errorf("%d calls, want %d before the cool-down", got, audit.MaxFailures)
	}
	if diff := cmp.Diff([]string{"0", "1", "2", "3", "4", "5"}, out.ids(t)); diff != "" {
		t.Errorf("on the fallback (-want +got):\n%s", diff)
	}
	for i, want := range []string{"no answer within 200ms of running time", "not asked: it has failed too often"} {
		if got, _ := out.lines(t)[i*audit.MaxFailures]["undelivered"].(string); !strings.Contains(got, want) {
			t.Errorf("reason %q, want %q", got, want)
		}
	}
}

// A process that is about to end waits for no API that hangs, and loses no entry.
func TestContextThatEnds(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	server.Hold()
	l, out := newLog(t, server.Addr)
	ctx, cancel := context.WithCancelCause(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.Write(ctx, turn("under way"))
	}()
	<-server.Arrived()
	start := time.Now()
	cancel(errors.New("the process ends"))
	<-written
	l.Write(ctx, turn("afterwards"))
	if took := time.Since(start); took >= audit.WriteLimit {
		t.Errorf("two entries took %v", took)
	}
	if diff := cmp.Diff([]string{"under way", "afterwards"}, out.ids(t)); diff != "" {
		t.Errorf("on the fallback (-want +got):\n%s", diff)
	}
	if got, _ := out.lines(t)[0]["undelivered"].(string); !strings.Contains(got, "the process ends") {
		t.Errorf("reason %q", got)
	}
}

func TestCooldown(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	server.Fail(codes.PermissionDenied)
	l, out := newLog(t, server.Addr)
	var clock atomic.Int64
	l.SetClock(func() time.Time { return time.Unix(0, clock.Load()) })
	write := func(n int, wantCalls int, when string) {
		t.Helper()
		for range n {
			l.Write(t.Context(), turn("e"))
		}
		if got := server.Calls(); got != wantCalls {
			t.Errorf("%d calls %s, want %d", got, when, wantCalls)
		}
	}
	write(10, 3, "until the cool-down")
	clock.Add(int64(audit.Cooldown) - 1)
	write(10, 3, "just before its end")
	clock.Add(1)
	write(10, 4, "after it: one trial")
	server.Fail(codes.OK)
	write(10, 4, "in the second cool-down")
	clock.Add(int64(audit.Cooldown))
	write(10, 14, "once the trial succeeded")
	if api, fallback := len(taken(server)), len(out.ids(t)); api != 10 || fallback != 40 {
		t.Errorf("%d in the API and %d on the fallback, want 10 and 40", api, fallback)
	}

	server.Fail(codes.InvalidArgument)
	write(10, 24, "though the entries are found wrong")
}

func TestOneTrialAtATime(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	server.Fail(codes.Internal)
	l, _ := newLog(t, server.Addr)
	var clock atomic.Int64
	l.SetClock(func() time.Time { return time.Unix(0, clock.Load()) })
	for range audit.MaxFailures {
		l.Write(t.Context(), turn("e"))
	}
	server.Fail(codes.OK)
	release := server.Hold()
	defer release()
	clock.Add(int64(audit.Cooldown))
	for range audit.MaxFailures {
		<-server.Arrived()
	}
	var wait sync.WaitGroup
	wait.Go(func() { l.Write(t.Context(), turn("trial")) })
	<-server.Arrived()
	l.Write(t.Context(), turn("between"))
	release()
	wait.Wait()
	if diff := cmp.Diff([]string{"trial"}, taken(server)); diff != "" {
		t.Errorf("in the API (-want +got):\n%s", diff)
	}
}

func TestAPIThatCameBack(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	l, out := newLog(t, server.Addr)
	l.Write(t.Context(), turn("before"))
	server.Stop()
	l.Write(t.Context(), turn("away"))
	server.Restart()
	// The client connects again by itself, within half a second at first. Each
	// try is a cool-down later by the clock that is injected.
	late := time.Now()
	l.SetClock(func() time.Time { return late })
	for deadline := time.Now().Add(10 * time.Second); len(taken(server)) == 1 && time.Now().Before(deadline); {
		late = late.Add(audit.Cooldown)
		l.Write(t.Context(), turn("after"))
		<-time.After(audit.Tick / 10)
	}
	if diff := cmp.Diff([]string{"before", "after"}, taken(server)); diff != "" {
		t.Errorf("in the API (-want +got):\n%s", diff)
	}
	if got := out.ids(t)[0]; got != "away" {
		t.Errorf("first on the fallback: %q", got)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	const writers = 16
	tests := []struct {
		name    string
		kill    bool
		wantAPI int
	}{
		{"delivers what is being written", false, writers},
		{"prints what is being written when the API dies", true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := loggingtest.Start(t)
			release := server.Hold()
			defer release()
			l, out := newLog(t, server.Addr)
			var wait sync.WaitGroup
			for n := range writers {
				wait.Go(func() { l.Write(t.Context(), turn(fmt.Sprint(n))) })
			}
			for range writers {
				<-server.Arrived()
			}
			closed := make(chan error)
			go func() { closed <- l.Close() }()
			select {
			case <-closed:
				t.Error("closed while entries were being written")
			case <-time.After(audit.Tick):
			}
			if tt.kill {
				server.Stop()
			}
			release()
			if err := <-closed; err != nil {
				t.Errorf("Close: %v", err)
			}
			if api, fallback := len(taken(server)), len(out.ids(t)); api != tt.wantAPI || fallback != writers-tt.wantAPI {
				t.Errorf("%d in the API and %d on the fallback when closed", api, fallback)
			}
			wait.Wait()

			l.Write(t.Context(), turn("late"))
			if got := out.ids(t); len(got) == 0 || got[len(got)-1] != "late" {
				t.Errorf("not on the fallback after Close: %q", got)
			}
			if err := l.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
		})
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, project, log string }{
		{"no project", "", "agent-audit"},
		{"no name", "p-1", ""},
		{"off", "p-1", audit.Off},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := loggingtest.Start(t)
			out := &stdout{}
			l, err := audit.New(t.Context(), tt.project, tt.log, server.Addr, out)
			if err != nil {
				t.Fatal(err)
			}
			l.Write(t.Context())
			l.Write(t.Context(), turn("1"), turn("2"))
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"1", "2"}, out.ids(t)); diff != "" {
				t.Errorf("on the fallback (-want +got):\n%s", diff)
			}
			if _, ok := out.lines(t)[0]["undelivered"]; ok || server.Calls() != 0 {
				t.Errorf("the API was asked: %v", out.lines(t)[0])
			}
		})
	}
}

func TestNewDoesNotWaitForTheNetwork(t *testing.T) {
	t.Parallel()
	start := time.Now()
	l, out := newLog(t, closedPort(t))
	if took := time.Since(start); took > time.Second {
		t.Errorf("New took %v", took)
	}
	l.Write(t.Context(), turn("e-1"))
	if diff := cmp.Diff([]string{"e-1"}, out.ids(t)); diff != "" {
		t.Errorf("on the fallback (-want +got):\n%s", diff)
	}
}

func TestNoClient(t *testing.T) {
	t.Parallel()
	l, out := newLog(t, "", option.WithAuthCredentialsJSON(option.ServiceAccount, []byte(`{"type":"unknown"}`)))
	l.Write(t.Context(), turn("e-1"))
	if diff := cmp.Diff([]string{"e-1"}, out.ids(t)); diff != "" {
		t.Errorf("on the fallback (-want +got):\n%s", diff)
	}
}

// What a caller managed to put into an entry forges neither a line nor a field.
func TestHostileText(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	hostile := audit.Entry{
		ID: "a\xff", Action: "x\n{\"audit\":true}", Outcome: "\",\"severity\":\"EMERGENCY", Principal: "\xc3\x28\x00",
		Model: strings.Repeat("é", 64<<10), RequestID: strings.Repeat("\x80", 64<<10), Trace: "\xfe", CostUSD: &nan,
	}
	server := loggingtest.Start(t)
	l, out := newLog(t, server.Addr)
	l.Write(t.Context(), hostile)
	entries := server.Entries()
	if len(entries) != 1 {
		t.Fatalf("%d entries in the API; on the fallback: %v", len(entries), out.lines(t))
	}
	server.Stop()
	l.Write(t.Context(), hostile)
	lines := out.lines(t)
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	if lines[0]["severity"] != "WARNING" || len(out.writes[0]) > 4<<10 {
		t.Errorf("a forged or long line: %s", out.writes[0])
	}
	for name, want := range entries[0].GetJsonPayload().AsMap() {
		if diff := cmp.Diff(want, lines[0][name]); diff != "" {
			t.Errorf("%s (-API +fallback):\n%s", name, diff)
		}
	}
}

func TestCloudRunResource(t *testing.T) {
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/computeMetadata/v1/instance/region" {
			fmt.Fprint(w, "projects/123/regions/europe-west1")
		}
	}))
	defer metadata.Close()
	t.Setenv("GCE_METADATA_HOST", metadata.Listener.Addr().String())
	if got := audit.Region(t.Context()); got != "europe-west1" {
		t.Errorf("region %q", got)
	}

	t.Setenv("K_SERVICE", "invoke")
	t.Setenv("K_REVISION", "invoke-00042-abc")
	t.Setenv("K_CONFIGURATION", "invoke")
	server := loggingtest.Start(t)
	l, _ := newLog(t, server.Addr)
	l.Write(t.Context(), turn("e-1"))
	got := server.Entries()[0].GetResource()
	want := map[string]string{
		"project_id": "p-1", "service_name": "invoke",
		"revision_name": "invoke-00042-abc", "configuration_name": "invoke",
	}
	if diff := cmp.Diff(want, got.GetLabels()); got.GetType() != "cloud_run_revision" || diff != "" {
		t.Errorf("%s (-want +got):\n%s", got.GetType(), diff)
	}
}

func TestNewEndpoint(t *testing.T) {
	t.Parallel()
	if _, err := audit.New(t.Context(), "p-1", "agent-audit", "localhost", &stdout{}); err == nil {
		t.Error("an endpoint without a port was taken")
	}
}

// A log's name may hold a slash, which the API wants escaped.
func TestLogName(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	l, err := audit.New(t.Context(), "p-1", "team/audit", server.Addr, &stdout{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Write(t.Context(), turn("e-1"))
	if got := server.Entries()[0].GetLogName(); got != "projects/p-1/logs/team%2Faudit" {
		t.Errorf("log name %q", got)
	}
}
