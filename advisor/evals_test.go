package advisor

import (
	"os"
	"os/exec"
	"testing"
)

// The cases pass on the offline stand-in too, on which a delivery without a model
// evaluates them.
func TestEvaluationsOffline(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "run", "../cmd/eval", "-out", t.TempDir(), "evals/advisor.yaml")
	cmd.Env = append(os.Environ(), "GEMINI_API_KEY=", "GOOGLE_API_KEY=", "GOOGLE_GENAI_USE_VERTEXAI=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
