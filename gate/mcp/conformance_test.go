package mcp_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/tool"
)

// conformant makes an agent with the tools that the suite calls by name, as far as a tool
// of an agent's can be what it wants.
func conformant(context.Context, agent.Env) (agent.Agent, error) {
	text := func(name, description, output string) tool.Tool {
		return tool.New(name, description, func(context.Context, struct{}) (string, error) {
			if output == "" {
				return "", errors.New("This tool intentionally returns an error for testing") //nolint:staticcheck // the suite's words
			}
			return output, nil
		})
	}
	return agent.Agent{Name: "conformant", Tools: []tool.Tool{
		text("test_simple_text", "Returns a text.", "This is a simple text response for testing."),
		text("test_error_handling", "Fails.", ""),
	}}, nil
}

// untested skips a test whose program is missing, which CI must have.
func untested(t *testing.T, what string, err error, out []byte) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
	t.Skipf("NOT TESTED: %s: %v", what, err)
}

// The official suite, for what the spec 2026-07-28 requires of a server. The baseline
// names what does not apply, or fails, with the reason; what it names and passes fails
// too.
func TestConformance(t *testing.T) {
	slowtest.Skip(t, "MCP's conformance suite")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/conformance")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		untested(t, "MCP's conformance suite; npm ci", err, out)
	}
	s := startAgent(t, conformant, "MCP_TOOLS=true", "RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000")
	suite := exec.CommandContext(ctx, filepath.Join(dir, "node_modules/.bin/node"), filepath.Join(dir, "node_modules/@modelcontextprotocol/conformance/dist/index.js"),
		"server", "--url", s.URL+"/mcp", "--requirements", "2026-07-28", "--expected-failures", "baseline.yml", "--output-dir", "results")
	suite.Dir = dir
	out, err := suite.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
