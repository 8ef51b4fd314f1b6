package invoke

import (
	"os"
	"testing"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/slowtest"
)

func TestMain(m *testing.M) {
	slowtest.AtOnce(8)
	os.Exit(emulator.Main(m))
}
