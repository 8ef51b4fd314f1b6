package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/tool"
)

type cart struct {
	Items []cartItem     `json:"items,omitempty"`
	Note  string         `json:"note,omitempty"`
	Sum   float64        `json:"sum"`
	Tags  map[string]int `json:"tags,omitempty"`
}

type cartItem struct {
	Name string `json:"name"`
}

func stateContext(t *testing.T, stored string) (context.Context, tool.States) {
	states := tool.MemoryStates()
	if stored != "" {
		err := states.UpdateState(t.Context(), false, "cart", func(json.RawMessage) (json.RawMessage, error) { return json.RawMessage(stored), nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	return tool.WithStates(t.Context(), states), states
}

func TestState(t *testing.T) {
	t.Parallel()
	carts, profile := tool.SessionState[cart]("cart"), tool.UserState[string]("cart")
	ctx, _ := stateContext(t, "")
	if got, err := carts.Get(ctx); err != nil || got.Items != nil {
		t.Errorf("nothing yet: %+v, %v", got, err)
	}
	add := func(name string) func(*cart) error {
		return func(c *cart) error { c.Items = append(c.Items, cartItem{name}); return nil }
	}
	for _, name := range []string{"apple", "pear"} {
		if err := carts.Update(ctx, add(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := profile.Update(ctx, func(s *string) error { *s = "ada"; return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := carts.Get(ctx); err != nil || len(got.Items) != 2 || got.Items[1].Name != "pear" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := profile.Get(ctx); err != nil || got != "ada" {
		t.Errorf("the user's of the same name: %q, %v", got, err)
	}
	refused := errors.New("refused")
	if err := carts.Update(ctx, func(c *cart) error { c.Items = nil; return refused }); !errors.Is(err, refused) {
		t.Errorf("a function that fails: %v", err)
	}
	if err := carts.Update(ctx, func(c *cart) error { c.Sum = math.NaN(); return nil }); err == nil {
		t.Error("NaN is taken")
	}
	if got, _ := carts.Get(ctx); len(got.Items) != 2 {
		t.Errorf("after updates that failed: %+v", got)
	}
	if err := carts.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := carts.Get(ctx); err != nil || got.Items != nil {
		t.Errorf("after a deletion: %+v, %v", got, err)
	}
	if _, err := carts.Get(t.Context()); err == nil {
		t.Error("outside of a turn there is a state")
	}
	if err := carts.Update(t.Context(), add("x")); err == nil {
		t.Error("outside of a turn a state is changed")
	}
}

func TestStateOfAnotherVersion(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, stored string
		want         string // after the note is set; "": ErrStateForm
		unreadable   bool
	}{
		{"nothing more", `{"items":[{"name":"a"}],"sum":1}`, `{"items":[{"name":"a"}],"note":"n","sum":1}`, false},
		{"another member", `{"sum":1,"coupon":{"code":"x","n":12345678901234567890}}`, `{"coupon":{"code":"x","n":12345678901234567890},"note":"n","sum":1}`, false},
		{"what omitempty leaves out", `{"items":[],"note":"","sum":0}`, `{"items":[],"note":"n","sum":0}`, false},
		{"another member that is zero", `{"sum":1,"agreed":false}`, `{"agreed":false,"note":"n","sum":1}`, false},
		{"a name in another case", `{"Note":"old","SUM":1}`, `{"note":"n","sum":1}`, false},
		{"more digits than the type holds", `{"sum":9007199254740993}`, "", false},
		{"a number written otherwise", `{"sum":1.50e2}`, `{"note":"n","sum":150}`, false},
		{"another member in a list", `{"items":[{"name":"a","color":"red"}],"sum":1}`, "", false},
		{"another type of a member", `{"sum":"1"}`, "", true},
		{"no object", `[1]`, "", true},
		{"no JSON", `{`, "", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, states := stateContext(t, c.stored)
			carts := tool.SessionState[cart]("cart")
			if _, err := carts.Get(ctx); (err != nil) != c.unreadable || err != nil && !errors.Is(err, tool.ErrStateForm) {
				t.Errorf("Get: %v", err)
			}
			err := carts.Update(ctx, func(c *cart) error { c.Note = "n"; return nil })
			got, _ := states.LoadState(ctx, false, "cart")
			switch {
			case c.want == "" && (!errors.Is(err, tool.ErrStateForm) || string(got) != c.stored):
				t.Errorf("Update: %v, stored %s", err, got)
			case c.want != "" && (err != nil || string(got) != c.want):
				t.Errorf("Update: %v, stored %s, want %s", err, got, c.want)
			}
			if err := carts.Delete(ctx); err != nil {
				t.Errorf("Delete: %v", err)
			}
		})
	}
}

// A deployment may change how a member is tagged while states with the old form are stored.
func TestStateOfAnotherTag(t *testing.T) {
	t.Parallel()
	type visit struct {
		At   time.Time `json:"at,omitzero"`
		Name string    `json:"Name"`
	}
	visits := tool.SessionState[visit]("cart")
	ctx, _ := stateContext(t, `{"at":"0001-01-01T00:00:00Z","name":"Ada"}`) // as stored without omitzero
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	if err := visits.Update(ctx, func(v *visit) error { v.At, v.Name = now, "Bob"; return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := visits.Get(ctx); err != nil || !got.At.Equal(now) || got.Name != "Bob" {
		t.Errorf("after the update: %+v, %v", got, err)
	}
}

func TestDigitsOfAStateOfAnyType(t *testing.T) {
	t.Parallel()
	const stored = `{"id":9007199254740993}`
	ctx, states := stateContext(t, stored)
	err := tool.SessionState[map[string]any]("cart").Update(ctx, func(m *map[string]any) error { (*m)["note"] = "n"; return nil })
	got, _ := states.LoadState(ctx, false, "cart")
	if !errors.Is(err, tool.ErrStateForm) || string(got) != stored {
		t.Errorf("Update: %v, stored %s", err, got)
	}
	ctx, states = stateContext(t, stored)
	if err := tool.SessionState[map[string]json.Number]("cart").Update(ctx, func(m *map[string]json.Number) error { (*m)["n"] = "1"; return nil }); err != nil {
		t.Error(err)
	}
	if got, _ := states.LoadState(ctx, false, "cart"); string(got) != `{"id":9007199254740993,"n":1}` {
		t.Errorf("stored %s", got)
	}
}

func TestStateNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "1a", "a b", "a.b", "__x__", "ä", strings.Repeat("a", 41)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the name %q is taken", name)
				}
			}()
			tool.UserState[int](name)
		}()
	}
	tool.UserState[int](strings.Repeat("a", 40))
}
