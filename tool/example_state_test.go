package tool_test

import (
	"context"
	"fmt"

	"example.com/gatehouse/tool"
)

var items = tool.SessionState[[]string]("items")

type profile struct {
	Currency string `json:"currency"`
}

var profiles = tool.UserState[profile]("profile")

type addIn struct {
	Item string `json:"item" jsonschema:"what to put into the cart"`
}

func add(ctx context.Context, in addIn) ([]string, error) {
	err := items.Update(ctx, func(list *[]string) error {
		*list = append(*list, in.Item)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return items.Get(ctx)
}

// Tools keep a session's cart and a user's profile. In a test, MemoryStates keeps them.
func ExampleSessionState() {
	ctx := tool.WithStates(context.Background(), tool.MemoryStates())
	addTool := tool.New("add_to_cart", "Puts an item into the cart.", add)
	for _, item := range []string{"a lamp", "a chair"} {
		if _, err := addTool.Call(ctx, map[string]any{"item": item}); err != nil {
			panic(err)
		}
	}
	err := profiles.Update(ctx, func(p *profile) error {
		p.Currency = "CHF"
		return nil
	})
	fmt.Println(items.Get(ctx))
	fmt.Println(profiles.Get(ctx))
	fmt.Println(err)
	// Output:
	// [a lamp a chair] <nil>
	// {CHF} <nil>
	// <nil>
}
