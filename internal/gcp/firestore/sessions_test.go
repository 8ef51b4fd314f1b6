package firestore_test

import (
	"flag"
	"os"
	"testing"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The emulator answers in milliseconds where memory takes none: fewer random
	// sequences, unless the command asks for a number of them.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("15")
	}
	os.Exit(emulator.Main(m))
}

func TestSessions(t *testing.T) {
	slowtest.Skip(t, "the store's contract on the emulator")
	sessiontest.Run(t, func(t testing.TB, clock *sessiontest.Clock) session.Store {
		return firestore.NewSessions(emulator.Client(t), sessiontest.TTL, clock.Now)
	})
}
