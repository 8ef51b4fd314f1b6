package telemetry

import (
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// start is when the clocks of tests begin.
var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// observer makes an Observer by the pairs of an environment.
func observer(t testing.TB, c Config, pairs ...string) *Observer {
	t.Helper()
	s, err := Parse(env(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	if c.Console == nil {
		c.Console = io.Discard
	}
	o, err := New(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
