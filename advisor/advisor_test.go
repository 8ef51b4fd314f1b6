package advisor

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

func TestSettingsAreWithinTheModelsRange(t *testing.T) {
	t.Parallel()
	a := shippedAgent(t)
	if a.Name == "" || a.Description == "" || a.Instruction == "" || len(a.Examples) == 0 {
		t.Errorf("name %q, description %q, instruction %q and examples %q must all be given", a.Name, a.Description, a.Instruction, a.Examples)
	}
	if a.Temperature != nil && (*a.Temperature < 0 || *a.Temperature > 2) {
		t.Errorf("Temperature = %v, want 0 to 2", *a.Temperature)
	}
	if a.MaxTokens < 0 {
		t.Errorf("MaxTokens = %d, want 0 or more", a.MaxTokens)
	}
	if a.ToolTimeout < 0 {
		t.Errorf("ToolTimeout = %v, want 0 or more", a.ToolTimeout)
	}
}

// The model chooses tools and arguments by their descriptions only. This holds
// for every tool, so it needs no edit when one is added.
func TestModelIsToldWhatEveryToolAndArgumentIsFor(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, tl := range shippedAgent(t).Tools {
		if seen[tl.Name()] {
			t.Errorf("there are two tools named %q", tl.Name())
		}
		seen[tl.Name()] = true
		if tl.Description() == "" {
			t.Errorf("%s has no description", tl.Name())
		}
		for name, property := range tl.Schema().Properties {
			if property.Description == "" {
				t.Errorf("%s: the argument %q has no description", tl.Name(), name)
			}
		}
	}
}

func shippedAgent(t *testing.T) agent.Agent {
	t.Helper()
	a, err := New(t.Context(), agent.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shipped returns the tool of the shipped agent that has the name.
func shipped(t *testing.T, name string) tool.Tool {
	t.Helper()
	for _, tl := range shippedAgent(t).Tools {
		if tl.Name() == name {
			return tl
		}
	}
	t.Fatalf("the agent has no tool named %q", name)
	return tool.Tool{}
}

// call calls the tool as the model would, and decodes what the model gets back.
func call[Out any](ctx context.Context, t *testing.T, tl tool.Tool, args map[string]any) Out {
	t.Helper()
	object, err := tl.Call(ctx, args)
	if err != nil {
		t.Fatalf("%s(%v): %v", tl.Name(), args, err)
	}
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > tool.MaxOutputBytes {
		t.Errorf("%s(%v): %d bytes, more than tool.MaxOutputBytes", tl.Name(), args, len(raw))
	}
	var out Out
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s(%v): %v", tl.Name(), args, err)
	}
	return out
}

// checkSchema compares the schema that the model is told about with want, JSON.
func checkSchema(t *testing.T, tl tool.Tool, want string) {
	t.Helper()
	raw, err := json.Marshal(tl.Schema())
	if err != nil {
		t.Fatal(err)
	}
	var gotValue, wantValue any
	if err := json.Unmarshal(raw, &gotValue); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &wantValue); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantValue, gotValue); diff != "" {
		t.Errorf("%s: schema (-want +got):\n%s", tl.Name(), diff)
	}
}
