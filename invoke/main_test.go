package invoke

import (
	"os"
	"testing"

	"example.com/gatehouse/internal/gcp/emulator"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }
