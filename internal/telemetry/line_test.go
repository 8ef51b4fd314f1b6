package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/truncate"
)

// source is that of a process on Cloud Run, with a trace in every context.
var source = telemetry.Source{
	Service: "gatehouse", Version: "gatehouse-00042-abc", Labels: map[string]string{"environment": "production", "version": "1.2.3"},
	Trace: func(context.Context) (telemetry.Trace, bool) {
		return telemetry.Trace{Name: "projects/a-project-with-a-long-name-1/traces/0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331", Sampled: true}, true
	},
}

func TestEveryLineFindsItsTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewLogger(&out, slog.LevelInfo, source).InfoContext(t.Context(), "x")
	got := map[string]any{}
	for name, value := range line(t, &out) {
		if name != "time" && name != "logging.googleapis.com/sourceLocation" {
			got[name] = value
		}
	}
	want := map[string]any{
		"severity": "INFO", "message": "x",
		"logging.googleapis.com/trace":         "projects/a-project-with-a-long-name-1/traces/0af7651916cd43dd8448eb211c80319c",
		"logging.googleapis.com/spanId":        "b7ad6b7169203331",
		"logging.googleapis.com/trace_sampled": true,
		"logging.googleapis.com/labels":        map[string]any{"environment": "production", "version": "1.2.3"},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestFailuresOfOursAreForErrorReporting(t *testing.T) {
	t.Parallel()
	failure := api.Fail("a_code", nil)
	tests := []struct {
		name            string
		status          int
		panicked, stack bool
	}{
		{"a success", 200, false, false},
		{"a mistake of the client's", 422, false, false},
		{"a client that left", 499, false, false},
		{"an internal error", 500, false, true},
		{"a model that is away", 503, false, true},
		{"a panic, which has a line of its own", 500, true, false},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.Fail(ctx, failure)
		if tt.panicked {
			telemetry.Panicked(ctx, telemetry.Discard(), "x")
		}
		record.Log(ctx, telemetry.NewLogger(&out, nil, source), telemetry.Summary{Status: tt.status})
		fields := line(t, &out)
		if !tt.stack {
			if fields["stack_trace"] != nil || fields["serviceContext"] != nil {
				t.Errorf("%s: %v", tt.name, fields)
			}
			continue
		}
		if got, want := fields["stack_trace"], truncate.Text("a_code\n\n"+failure.Stack(), 250); got != want || !strings.Contains(want, "goroutine 1 [running]:\ntelemetry_test.TestFailuresOfOursAreForErrorReporting(...)\n\ttelemetry/line_test.go:") {
			t.Errorf("%s: stack %q, want %q", tt.name, got, want)
		}
		if diff := cmp.Diff(fields["serviceContext"], map[string]any{"service": "gatehouse", "version": "gatehouse-00042-abc"}); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// The line is as long as it can get: every field there is, every value at its
// longest and made of what grows when it is quoted.
func TestTheLongestLineIsBelow2KiB(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x", "\"", "\\", "\n", "\x00", "\u2028", "é", "😀", "\xff", "<"} {
		long := strings.Repeat(text, 64<<10/len(text))
		var out bytes.Buffer
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.SetRoute(ctx, "PUT /sessions/{id}/turns/{turn}/feedback")
		telemetry.Note(ctx, slog.String("principal", strings.Repeat("p", 43)))
		telemetry.SetTurn(ctx, func(turn *telemetry.Turn) {
			*turn = telemetry.Turn{
				Session: strings.Repeat("s", 43), Number: 1 << 30, Model: long, Attempts: 99, Tokens: 1 << 40, Replayed: true,
				ModelTime: time.Hour, StoreTime: time.Hour,
			}
		})
		var failure *api.Error
		var deep func(int)
		deep = func(depth int) {
			if failure = api.Fail(api.SessionStoreUnavailable, errors.New(long)); depth > 0 {
				deep(depth - 1)
			}
		}
		deep(100)
		telemetry.Fail(ctx, failure)
		record.Log(ctx, telemetry.NewLogger(&out, nil, source), telemetry.Summary{
			Method: long, Path: long, UserAgent: long, RemoteIP: long, RequestID: strings.Repeat("r", 128), Status: 503, Bytes: 1 << 40, Latency: time.Hour,
		})
		if out.Len() >= 2048 {
			t.Errorf("of %q: %d bytes", text, out.Len())
		}
		line(t, &out)
	}
}

func ExampleRecord() {
	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(context.Background(), record)
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Number = 2 })
	fmt.Println(record.Turn().Number)
	// Output: 2
}

// On /chat a response is a sentence for the person in front of the page. The developer of the
// page finds in the log which field was wrong.
func TestDetailsOfWhatWasWrong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		failure *api.Error
		want    any
	}{
		"one field":                      {api.Invalid("files[0].type", "is not accepted"), "files[0].type is not accepted"},
		"two fields":                     {&api.Error{Code: api.ValidationFailed, Details: []api.Detail{{Field: "a", Issue: "must be set"}, {Field: "b", Issue: "must be left out"}}}, "a must be set; b must be left out"},
		"a name that the client made up": {&api.Error{Code: api.ValidationFailed, Details: []api.Detail{{Field: "my number is 4111", Issue: "unexpected property"}, {Field: "b", Issue: "unexpected property"}}}, "body unexpected property"},
		"a very long name":               {api.Invalid(strings.Repeat("a", 1000), "is unknown"), strings.Repeat("a", 200) + "…"},
		"no field":                       {api.Fail(api.RateLimited, nil), nil},
	} {
		var out bytes.Buffer
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.Fail(ctx, tt.failure)
		record.Log(ctx, telemetry.NewLogger(&out, nil, source), telemetry.Summary{Status: 422})
		if got := line(t, &out)["details"]; got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
