package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/tool"
)

func TestFrom(t *testing.T) {
	t.Parallel()
	if got := tool.From(t.Context()); got != (tool.Context{}) {
		t.Errorf("without a service: %+v", got)
	}
	want := tool.Context{Caller: tool.Caller{Method: "oidc", Subject: "ada"}, EndUser: "bob", Turn: 2, Locale: "de-CH"}
	who := tool.New("who", "Returns who is calling.", func(ctx context.Context, _ struct{}) (tool.Context, error) {
		if got := tool.From(ctx); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		return tool.From(ctx), nil
	})
	if _, err := who.Call(tool.NewContext(t.Context(), want), nil); err != nil {
		t.Error(err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	none := func(context.Context, struct{}) (string, error) { return "", nil }
	if got := tool.New("f", "", none).Timeout(); got != 0 {
		t.Errorf("without: %v", got)
	}
	if got := tool.New("f", "", none, tool.Timeout(3*time.Second)).Timeout(); got != 3*time.Second {
		t.Errorf("%v, want 3s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a timeout of 0 is taken")
		}
	}()
	tool.New("f", "", none, tool.Timeout(0))
}

func TestRaw(t *testing.T) {
	t.Parallel()
	schema := json.RawMessage(`{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}`)
	weather := tool.Raw("weather", "Returns the weather.", schema, func(_ context.Context, args json.RawMessage) (any, error) {
		return map[string]string{"asked": string(args)}, nil
	})
	got, err := weather.Call(t.Context(), map[string]any{"city": "Bern"})
	if err != nil || got["asked"] != `{"city":"Bern"}` {
		t.Errorf("%v, %v", got, err)
	}
	for name, args := range map[string]map[string]any{
		"nothing": nil, "another type": {"city": 1.0}, "more than is declared": {"city": "Bern", "x": true},
	} {
		if _, err := weather.Call(t.Context(), args); !errors.Is(err, tool.ErrArguments) {
			t.Errorf("%s: %v, want ErrArguments", name, err)
		}
	}
	for name, schema := range map[string]string{"no JSON": "{", "no object": `{"type": "string"}`, "a reference to nothing": `{"type": "object", "$ref": "#/$defs/x"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if p := recover(); p == nil {
					t.Error("Raw did not panic")
				} else if fmt.Sprint(p)[:10] != "tool weath" {
					t.Errorf("the panic does not name the tool: %v", p)
				}
			}()
			tool.Raw("weather", "", json.RawMessage(schema), func(context.Context, json.RawMessage) (any, error) { return nil, nil })
		})
	}
}

func TestCallerToken(t *testing.T) {
	t.Parallel()
	ctx := tool.NewContext(t.Context(), tool.Context{EndUser: "bob"})
	if got := tool.CallerToken(ctx); got != "" {
		t.Errorf("without a token: %q", got)
	}
	ctx = tool.WithCallerToken(ctx, "token-1")
	if got := tool.CallerToken(ctx); got != "token-1" {
		t.Errorf("%q", got)
	}
	if shown := fmt.Sprintf("%+v", tool.From(ctx)); strings.Contains(shown, "token-1") {
		t.Errorf("the description of the call shows the token: %s", shown)
	}
}
