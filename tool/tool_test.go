package tool

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type searchIn struct {
	Query  string   `json:"query" jsonschema:"what to look for"`
	Limit  int      `json:"limit,omitempty" jsonschema:"how many results to return"`
	Since  *float64 `json:"since,omitzero"`
	Exact  bool     `json:"exact,omitempty"`
	Places []string `json:"places,omitempty"`
	Hidden string   `json:"-"`
}

func TestNewTellsTheModelTheTypesNames(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		tool Tool
		want string
	}{
		{
			name: "required and optional, described and not",
			tool: New("search", "Searches.", func(context.Context, searchIn) (int, error) { return 0, nil }),
			want: `{
				"type": "object",
				"properties": {
					"query": {"type": "string", "description": "what to look for"},
					"limit": {"type": "integer", "description": "how many results to return"},
					"since": {"type": ["null", "number"]},
					"exact": {"type": "boolean"},
					"places": {"type": ["null", "array"], "items": {"type": "string"}}
				},
				"required": ["query"],
				"additionalProperties": false
			}`,
		},
		{
			name: "an enum",
			tool: New("search", "Searches.", func(context.Context, struct {
				Place string `json:"place"`
			}) (int, error) {
				return 0, nil
			}, Enum("place", "here", "there")),
			want: `{
				"type": "object",
				"properties": {"place": {"type": "string", "enum": ["here", "there"]}},
				"required": ["place"],
				"additionalProperties": false
			}`,
		},
		{
			name: "no arguments",
			tool: New("now", "Tells the time.", func(context.Context, struct{}) (int, error) { return 0, nil }),
			want: `{"type": "object", "additionalProperties": false}`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			raw, err := json.Marshal(c.tool.Schema())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decode(t, c.want), decode(t, string(raw))); diff != "" {
				t.Errorf("schema (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewKeepsNameAndDescription(t *testing.T) {
	t.Parallel()
	tl := New("search", "Searches.", func(context.Context, struct{}) (int, error) { return 0, nil })
	if tl.Name() != "search" || tl.Description() != "Searches." {
		t.Errorf("Name() = %q, Description() = %q", tl.Name(), tl.Description())
	}
}

func TestNewPanicsAtWhatCannotBeDeclared(t *testing.T) {
	t.Parallel()
	none := func(context.Context, struct{}) (int, error) { return 0, nil }
	find := func(context.Context, searchIn) (int, error) { return 0, nil }
	cases := []struct {
		name string
		new  func()
	}{
		{"no name", func() { New("", "", none) }},
		{"a name with a space", func() { New("look up", "", none) }},
		{"a name that starts with a digit", func() { New("2nd", "", none) }},
		{"a name of 65 characters", func() { New(strings.Repeat("a", 65), "", none) }},
		{"an input that is a string", func() { New("f", "", func(context.Context, string) (int, error) { return 0, nil }) }},
		{"an input that is a list", func() { New("f", "", func(context.Context, []int) (int, error) { return 0, nil }) }},
		{"an input that is a pointer", func() { New("f", "", func(context.Context, *searchIn) (int, error) { return 0, nil }) }},
		{"an input with a function", func() { New("f", "", func(context.Context, struct{ F func() }) (int, error) { return 0, nil }) }},
		{"no function", func() { New[struct{}, int]("f", "", nil) }},
		{"no function of a raw tool", func() { Raw("f", "", json.RawMessage(`{"type":"object"}`), nil) }},
		{"a question about other arguments", func() { New("f", "", find, Confirm(func(struct{ Amount int }) string { return "" })) }},
		{"a reconcile of other arguments", func() {
			New("f", "", find, Effect(func(context.Context, struct{ Amount int }) (int, bool, error) { return 0, false, nil }))
		}},
		{"an enum of an argument that is not there", func() { New("f", "", none, Enum("place", "here")) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("New did not panic")
				}
			}()
			c.new()
		})
	}
}

// A question may look at some of the arguments only.
func TestNewAcceptsAQuestionAboutOneArgument(t *testing.T) {
	t.Parallel()
	f := New("f", "", func(context.Context, searchIn) (int, error) { return 0, nil },
		Confirm(func(in struct{ Query string }) string { return "Find " + in.Query + "?" }))
	if got, err := f.Question(map[string]any{"query": "apples"}); err != nil || got != "Find apples?" {
		t.Errorf("%q, %v", got, err)
	}
	raw := Raw("r", "", json.RawMessage(`{"type":"object"}`), func(context.Context, json.RawMessage) (any, error) { return nil, nil },
		Confirm(func(in struct{ Anything string }) string { return in.Anything }))
	if got, err := raw.Question(map[string]any{"Anything": "Sure?"}); err != nil || got != "Sure?" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNewAcceptsTheLongestName(t *testing.T) {
	t.Parallel()
	name := "_" + strings.Repeat("a", 59) + ".-9Z"
	if got := New(name, "", func(context.Context, struct{}) (int, error) { return 0, nil }).Name(); got != name {
		t.Errorf("Name() = %q, want %q", got, name)
	}
}

func TestCallGivesTheFunctionItsArguments(t *testing.T) {
	t.Parallel()
	since := 1.5
	cases := []struct {
		name string
		args map[string]any
		want searchIn
	}{
		{"only the required", map[string]any{"query": "go"}, searchIn{Query: "go"}},
		{"an integer that arrives as a float64", map[string]any{"query": "go", "limit": float64(3)}, searchIn{Query: "go", Limit: 3}},
		{"a large integer that arrives as a float64", map[string]any{"query": "go", "limit": float64(1 << 53)}, searchIn{Query: "go", Limit: 1 << 53}},
		{"null for a pointer", map[string]any{"query": "go", "since": nil}, searchIn{Query: "go"}},
		{
			"all of them",
			map[string]any{"query": "", "limit": -1.0, "since": 1.5, "exact": true, "places": []any{"here", "there"}},
			searchIn{Limit: -1, Since: &since, Exact: true, Places: []string{"here", "there"}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got searchIn
			search := New("search", "", func(_ context.Context, in searchIn) (string, error) {
				got = in
				return "", nil
			})
			if _, err := search.Call(t.Context(), c.args); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("input (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallRefusesArgumentsWithoutRunningTheFunction(t *testing.T) {
	t.Parallel()
	search := New("search", "", func(_ context.Context, in searchIn) (string, error) {
		t.Errorf("the function ran with %+v", in)
		return "", nil
	}, Enum("query", "go", "zig"))
	cases := []struct {
		name string
		args map[string]any
		says string
	}{
		{"no arguments", nil, "query"},
		{"a required one missing", map[string]any{"limit": 3.0}, "query"},
		{"null for a string", map[string]any{"query": nil}, "query"},
		{"a number for a string", map[string]any{"query": 1.0}, "query"},
		{"a string for an integer", map[string]any{"query": "go", "limit": "three"}, "limit"},
		{"a fraction for an integer", map[string]any{"query": "go", "limit": 1.5}, "limit"},
		{"an integer that no int holds", map[string]any{"query": "go", "limit": 1e30}, ""},
		{"a number that JSON cannot write", map[string]any{"query": "go", "since": math.Inf(1)}, ""},
		{"a string in place of a list", map[string]any{"query": "go", "places": "here"}, "places"},
		{"a wrong type within a list", map[string]any{"query": "go", "places": []any{"here", 2.0}}, "places"},
		{"an argument that is not declared", map[string]any{"query": "go", "page": 2.0}, "page"},
		{"a name in other letters", map[string]any{"query": "go", "Limit": 2.0}, "Limit"},
		{"a field that is no argument", map[string]any{"query": "go", "Hidden": "x"}, "Hidden"},
		{"a value that is not in the enum", map[string]any{"query": "rust"}, "query"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := search.Call(t.Context(), c.args)
			if !errors.Is(err, ErrArguments) {
				t.Fatalf("Call returned %v, %v, want ErrArguments", out, err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error %q does not name %q", err, c.says)
			}
		})
	}
}

func TestCallGivesAnObject(t *testing.T) {
	t.Parallel()
	type place struct {
		Name  string `json:"name"`
		Floor int    `json:"floor,omitempty"`
	}
	cases := []struct {
		name string
		out  any
		want map[string]any
	}{
		{"a struct as it is", place{Name: "hall", Floor: 2}, map[string]any{"name": "hall", "floor": 2.0}},
		{"a pointer to a struct as it is", &place{Name: "hall"}, map[string]any{"name": "hall"}},
		{"a map as it is", map[string]int{"floors": 3}, map[string]any{"floors": 3.0}},
		{"an empty struct as an empty object", struct{}{}, map[string]any{}},
		{"a string under output", "hall", map[string]any{"output": "hall"}},
		{"a string that looks like an object under output", `{"name": "hall"}`, map[string]any{"output": `{"name": "hall"}`}},
		{"a number under output", 3, map[string]any{"output": 3.0}},
		{"a list under output", []place{{Name: "hall"}}, map[string]any{"output": []any{map[string]any{"name": "hall"}}}},
		{"nothing under output", nil, map[string]any{"output": nil}},
		{"a map that is nil under output", map[string]int(nil), map[string]any{"output": nil}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := returning(c.out).Call(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallBoundsTheOutput(t *testing.T) {
	t.Parallel()
	// Two quotes make the rest of the JSON.
	longest := strings.Repeat("a", MaxOutputBytes-2)
	if got, err := returning(longest).Call(t.Context(), nil); err != nil || got["output"] != longest {
		t.Errorf("an output of MaxOutputBytes is refused: %v", err)
	}
	if _, err := returning(longest+"a").Call(t.Context(), nil); err == nil || errors.Is(err, ErrArguments) {
		t.Errorf("one byte more: error %v, want one that does not blame the arguments", err)
	}
}

func TestCallRefusesAnOutputThatJSONCannotWrite(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]any{"infinity": math.Inf(1), "a channel": make(chan int)} {
		if got, err := returning(out).Call(t.Context(), nil); err == nil || errors.Is(err, ErrArguments) {
			t.Errorf("%s: Call returned %v, %v, want an error that does not blame the arguments", name, got, err)
		}
	}
}

func TestCallPassesTheFunctionsError(t *testing.T) {
	t.Parallel()
	want := errors.New("nothing found")
	search := New("search", "", func(context.Context, struct{}) (string, error) { return "half an answer", want })
	got, err := search.Call(t.Context(), nil)
	if !errors.Is(err, want) || errors.Is(err, ErrArguments) || got != nil {
		t.Errorf("Call returned %v, %v, want no output and the function's error", got, err)
	}
}

func TestCallPassesTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wait := New("wait", "", func(ctx context.Context, _ struct{}) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	})
	if _, err := wait.Call(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestCallLeavesTheArgumentsAlone(t *testing.T) {
	t.Parallel()
	args := map[string]any{"query": "go", "places": []any{"here"}}
	search := New("search", "", func(_ context.Context, in searchIn) (string, error) {
		in.Places[0] = "there"
		return "", nil
	})
	if _, err := search.Call(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"query": "go", "places": []any{"here"}}, args); diff != "" {
		t.Errorf("arguments (-before +after):\n%s", diff)
	}
}

// returning makes a tool that takes nothing and returns out.
func returning(out any) Tool {
	return New("return", "", func(context.Context, struct{}) (any, error) { return out, nil })
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
