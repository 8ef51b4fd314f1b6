package firesession_test

import (
	"os"
	"testing"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firesession"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

func TestStore(t *testing.T) {
	sessiontest.Run(t, func(t testing.TB, clock *sessiontest.Clock) session.Store {
		return firesession.New(emulator.Client(t), sessiontest.TTL, clock.Now)
	})
}
