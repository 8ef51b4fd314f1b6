package a2a_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/pythontest"
	"example.com/gatehouse/internal/slowtest"
)

// The SDK of PyPI is a client, in both versions.
func TestPythonClient(t *testing.T) {
	slowtest.Skip(t, "A2A's Python SDK")
	bin := pythontest.Environment(t, "testdata/requirements.txt", "A2A's Python SDK")
	s := start(t, "RATE_LIMIT_PER_MINUTE=1000")
	for range 8 {
		s.gemini.Enqueue(geminitest.Text("ec", "ho"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(bin, "python"), "testdata/client.py")
	command.Env = append(os.Environ(), "DOOR_URL="+s.url, "DOOR_KEY=key-of-ada-0123456789", "DOOR_OTHER_KEY=key-of-bob-0123456789")
	out, err := command.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}
