package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
)

// line reads the one line that was written.
func line(t testing.TB, out *bytes.Buffer) map[string]any {
	t.Helper()
	text := out.String()
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		t.Fatalf("not one line: %q", text)
	}
	var fields map[string]any
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return fields
}

func TestLinesHaveCloudLoggingsNames(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{})
	log.Warn("Look out.", "key", "value", "level", "high", slog.Group("group", slog.String("msg", "m"), slog.String("level", "l")))
	fields := line(t, &out)
	at, err := time.Parse(time.RFC3339Nano, fields["time"].(string))
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %v: %v", fields["time"], err)
	}
	delete(fields, "time")
	place := fields["logging.googleapis.com/sourceLocation"].(map[string]any)
	if place["file"] != "telemetry/log_test.go" || place["function"] != "telemetry_test.TestLinesHaveCloudLoggingsNames" || place["line"].(float64) < 1 {
		t.Errorf("source location %v", place)
	}
	delete(fields, "logging.googleapis.com/sourceLocation")
	want := map[string]any{"severity": "WARNING", "message": "Look out.", "key": "value", "level": "high", "group": map[string]any{"msg": "m", "level": "l"}}
	if diff := cmp.Diff(fields, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]string{
		slog.LevelDebug - 4: "DEBUG", slog.LevelDebug: "DEBUG", slog.LevelInfo - 1: "DEBUG",
		slog.LevelInfo: "INFO", slog.LevelInfo + 1: "INFO",
		slog.LevelWarn: "WARNING", slog.LevelError - 1: "WARNING",
		slog.LevelError: "ERROR", slog.LevelError + 3: "ERROR",
		telemetry.LevelCritical: "CRITICAL", telemetry.LevelCritical + 100: "CRITICAL",
	} {
		var out bytes.Buffer
		telemetry.NewLogger(&out, slog.Level(-100), telemetry.Source{}).Log(t.Context(), level, "x")
		if got := line(t, &out)["severity"]; got != want {
			t.Errorf("level %d: severity %v, want %s", level, got, want)
		}
	}
}

// What a library adds to its logger stands in the lines of that logger, and in no other's.
func TestFieldsOfALogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{})
	for _, tt := range []struct {
		log  *slog.Logger
		want map[string]any
	}{
		{log.With("key", "value"), map[string]any{"key": "value", "x": 1.0}},
		{log.WithGroup("group"), map[string]any{"group": map[string]any{"x": 1.0}}},
		{log, map[string]any{"x": 1.0}},
	} {
		out.Reset()
		tt.log.Info("m", "x", 1)
		fields := line(t, &out)
		group, _ := fields["group"].(map[string]any)
		delete(group, "logging.googleapis.com/sourceLocation")
		for _, name := range []string{"time", "severity", "message", "logging.googleapis.com/sourceLocation"} {
			delete(fields, name)
		}
		if diff := cmp.Diff(fields, tt.want); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
	}
}

// Lines that are written at the same time stay whole, whoever writes them.
func TestLinesAtTheSameTime(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{})
	var group sync.WaitGroup
	for i := range 8 {
		message := strings.Repeat(string(rune('a'+i)), 100)
		if i%2 == 0 {
			message += "\n" // which slog's handler writes
		}
		group.Go(func() {
			for range 500 {
				log.Info(message)
			}
		})
	}
	group.Wait()
	for text := range strings.Lines(out.String()) {
		message, _ := line(t, bytes.NewBufferString(text))["message"].(string)
		if message = strings.TrimSuffix(message, "\n"); len(message) != 100 || strings.Trim(message, message[:1]) != "" {
			t.Fatalf("message %q", message)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 8*500 {
		t.Errorf("%d lines, want %d", n, 8*500)
	}
}

func TestTheLevelIsKept(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, slog.LevelWarn, telemetry.Source{})
	log.Info("no")
	if out.Len() > 0 {
		t.Errorf("wrote %s", &out)
	}
	telemetry.Discard().Error("no")
}

func TestTheLineOfARequest(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(t.Context(), record)
	telemetry.SetRoute(ctx, "POST /invoke")
	telemetry.Note(ctx, slog.String("principal", "p"))
	telemetry.SetTurn(ctx, func(turn *telemetry.Turn) {
		turn.Session, turn.Number, turn.Model, turn.Attempts, turn.Tokens = "s", 3, "gemini-2.5-flash", 2, 545
	})
	telemetry.SetTurn(ctx, func(turn *telemetry.Turn) {
		turn.ModelTime, turn.StoreTime = 1500*time.Millisecond, 20*time.Millisecond
	})
	record.Log(ctx, telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{}), telemetry.Summary{
		Method: "POST", Path: "/invoke", UserAgent: "curl/8", RemoteIP: "192.0.2.1", RequestID: "r-1", Status: 200, Bytes: 1234, Latency: 123456 * time.Microsecond,
	})
	fields := line(t, &out)
	delete(fields, "time")
	delete(fields, "logging.googleapis.com/sourceLocation")
	want := map[string]any{
		"severity": "INFO", "message": "POST /invoke 200 OK",
		"httpRequest": map[string]any{
			"requestMethod": "POST", "requestUrl": "/invoke", "status": 200.0, "responseSize": "1234", "userAgent": "curl/8", "remoteIp": "192.0.2.1", "latency": "0.123456s",
		},
		"request_id": "r-1", "route": "POST /invoke", "principal": "p", "session_id": "s", "turn": 3.0,
		"model": "gemini-2.5-flash", "attempts": 2.0, "tokens": 545.0, "model_ms": 1500.0, "store_ms": 20.0,
	}
	if diff := cmp.Diff(fields, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestTheLineOfARequestThatFailed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status            int
		severity, message string
	}{
		{399, "INFO", "no route 399 "},
		{404, "WARNING", "no route 404 Not Found"},
		{499, "WARNING", "no route 499 Client Closed Request"},
		{500, "ERROR", "no route 500 Internal Server Error"},
		{503, "ERROR", "no route 503 Service Unavailable"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.Fail(ctx, &api.Error{Code: "first", Cause: errors.New("before")})
		telemetry.Fail(ctx, &api.Error{Code: "a_code", Cause: errors.New("the cause")})
		record.Log(ctx, telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{}), telemetry.Summary{Status: tt.status})
		fields := line(t, &out)
		if fields["severity"] != tt.severity || fields["message"] != tt.message || fields["code"] != "a_code" || fields["error"] != "the cause" {
			t.Errorf("%d: %v", tt.status, fields)
		}
		if record.Code() != "a_code" {
			t.Errorf("code %q", record.Code())
		}
	}
}

func TestACauseIsShortened(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(t.Context(), record)
	telemetry.Fail(ctx, &api.Error{Code: "internal", Cause: errors.New(strings.Repeat("x", 1<<20))})
	record.Log(ctx, telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{}), telemetry.Summary{Status: 500})
	if fields := line(t, &out); out.Len() > 2048 || !strings.HasSuffix(fields["error"].(string), "x…") {
		t.Errorf("%d bytes", out.Len())
	}
}

func TestWithoutARecordNothingHappens(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	telemetry.SetRoute(ctx, "x")
	telemetry.Note(ctx, slog.Int("x", 1))
	telemetry.Fail(ctx, &api.Error{Code: "x"})
}

// A line stays one line of JSON with the fields it has, for any text in it.
func TestNoTextForgesALine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("\"\\\n\r\x00\u2028\u2029{}:,<>&é"))), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(rt, "text")
		var out bytes.Buffer
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.Fail(ctx, &api.Error{Code: "internal", Cause: errors.New(text)})
		record.Log(ctx, telemetry.NewLogger(&out, slog.LevelInfo, telemetry.Source{}), telemetry.Summary{Method: text, Path: text, UserAgent: text, RemoteIP: text, RequestID: "r-1", Status: 500})
		fields := line(t, &out)
		if len(fields) != 10 || len(fields["httpRequest"].(map[string]any)) != 7 || fields["severity"] != "ERROR" {
			rt.Fatalf("fields %v", fields)
		}
	})
}
