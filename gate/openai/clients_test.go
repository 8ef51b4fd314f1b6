package openai_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/internal/pythontest"
	"example.com/gatehouse/internal/slowtest"
)

// npmPackage is OpenAI's own (https://www.npmjs.com/package/openai).
const npmPackage = "openai@7.57.0"

// useDoor runs a client's program against a service whose model always says echo.
func useDoor(t *testing.T, dir, program string, arguments ...string) {
	t.Helper()
	s := serveAgent(t, newAgent, []string{"RATE_LIMIT_PER_MINUTE=1000", "FILE_TYPES=image/png"}, doortest.Queue)
	for range 40 {
		s.Gemini.Enqueue(geminitest.Text("ec", "ho"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), "DOOR_URL="+s.URL+"/v1", "DOOR_KEY="+doortest.Key("ada"), "DOOR_OTHER_KEY="+doortest.Key("bob"))
	out, err := command.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPythonClients(t *testing.T) {
	slowtest.Skip(t, "OpenAI's Python package and LangChain")
	bin := pythontest.Environment(t, "testdata/requirements.txt", "OpenAI's Python package and LangChain")
	useDoor(t, "", filepath.Join(bin, "python"), "testdata/client.py")
}

func TestNodeClient(t *testing.T) {
	slowtest.Skip(t, "OpenAI's package of npm")
	dir := npmtest.InstallProgram(t, "OpenAI's package of npm", "testdata/client.mjs", npmPackage)
	useDoor(t, dir, "node", "client.mjs")
}
