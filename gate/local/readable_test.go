package local

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
)

// written is what people see of a request.
func written(t *testing.T, color bool, status int, failure *api.Error) string {
	t.Helper()
	var out bytes.Buffer
	log := telemetry.NewLogger(&readable{out: &out, color: color}, slog.LevelInfo, telemetry.Source{Service: "s"})
	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(context.Background(), record)
	telemetry.SetRoute(ctx, "POST /invoke")
	telemetry.SetTurn(ctx, func(turn *telemetry.Turn) { turn.Model, turn.Number, turn.Tokens, turn.Attempts = "gemini", 2, 545, 1 })
	telemetry.Fail(ctx, failure)
	record.Log(ctx, log, telemetry.Summary{Method: "POST", RequestID: "r-1", Status: status, Latency: 123456 * time.Microsecond})
	return out.String()
}

func TestPeopleReadOneLineARequest(t *testing.T) {
	t.Parallel()
	got := written(t, false, 200, nil)
	clock, rest, _ := strings.Cut(got, " ")
	if _, err := time.Parse(time.TimeOnly, clock); err != nil {
		t.Errorf("%q: %v", got, err)
	}
	if want := "info  POST /invoke 200 OK in 123.5ms tokens=545 model=gemini attempts=1 model_ms=0 store_ms=0 turn=2\n"; rest != want {
		t.Errorf("%q, want %q", rest, want)
	}
}

func TestPeopleReadWhatWentWrong(t *testing.T) {
	t.Parallel()
	got := written(t, false, 503, api.Fail(api.ModelUnavailable, errors.New("no \"answer\" from it")))
	for _, want := range []string{"error POST /invoke 503", "code=model_unavailable", `error="no 'answer' from it"`, "request_id=r-1", "\n    goroutine 1 [running]:\n    local.TestPeopleReadWhatWentWrong(...)\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

func TestColorsAreForTerminals(t *testing.T) {
	t.Parallel()
	if got := written(t, false, 500, nil); strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	if got := written(t, true, 500, nil); !strings.Contains(got, "\x1b[31merror\x1b[0m") {
		t.Errorf("%q", got)
	}
}

func TestOtherLinesGoThrough(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"Serving function: \"\"\n":           "Serving function: \"\"\n",
		"\n":                                 "\n",
		`{"not":"a line of the log"}` + "\n": `{"not":"a line of the log"}` + "\n",
		`{"severity":"NOTICE","audit":true,"action":"x"}` + "\n": "",
	} {
		var out bytes.Buffer
		if n, err := (&readable{out: &out}).Write([]byte(line)); n != len(line) || err != nil || out.String() != want {
			t.Errorf("%q: %d %v %q, want %q", line, n, err, &out, want)
		}
	}
}

// What callers and upstreams write cannot draw on the terminal.
func TestNoTextDrawsOnTheTerminal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		cause := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("\x1b[2J\a\b\r\u202e\"x")))).Draw(rt, "cause")
		got := written(t, false, 400, &api.Error{Code: "internal", Cause: errors.New(cause)})
		if strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\a\b\r\u202e") {
			rt.Fatalf("%q", got)
		}
	})
}
