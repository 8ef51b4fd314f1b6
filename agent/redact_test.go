package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
)

// Nothing of an output is lost, even if several of its names are the same without the
// secret in them.
func TestRedactionKeepsEveryMember(t *testing.T) {
	t.Parallel()
	hooks := agent.Redaction(strings.NewReplacer("4111", "[card]", "5500", "[card]").Replace)
	c := &agent.ToolCall{}
	err := hooks.Tool(context.Background(), c, func() error {
		c.Output = map[string]any{"5500": 2.0, "4111": 1.0, "in": map[string]any{"4111": "4111", "[card]": []any{4111.0}}}
		return nil
	})
	want := map[string]any{"[card]": 1.0, "[card] (2)": 2.0, "in": map[string]any{"[card]": "[card]", "[card] (2)": []any{"[card]"}}}
	if diff := cmp.Diff(want, c.Output); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// A model may write thousands of names that are the same without their secret.
func TestRedactionOfManyNames(t *testing.T) {
	t.Parallel()
	const names = 2000
	replaced := 0
	hooks := agent.Redaction(func(string) string { replaced++; return "[card]" })
	c := &agent.ToolCall{}
	err := hooks.Tool(context.Background(), c, func() error {
		c.Output = map[string]any{}
		for i := range names {
			c.Output[fmt.Sprint(i)] = true
		}
		return nil
	})
	if err != nil || len(c.Output) != names || c.Output[fmt.Sprintf("[card] (%d)", names)] != true {
		t.Errorf("%v, %d names", err, len(c.Output))
	}
	if replaced > names {
		t.Errorf("%d names were replaced %d times", names, replaced)
	}
}
