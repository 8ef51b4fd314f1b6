package advisor_test

import (
	"context"
	"fmt"

	"example.com/gatehouse/advisor"
	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// A tool is a function with typed input and output. In the project it has a
// file of its own and a line in [advisor.New]; here it is added to the shipped
// agent, and called as the model would call it.
func Example_addTool() {
	type in struct {
		Service string `json:"service" jsonschema:"the service's name, such as billing"`
	}
	type out struct {
		Team string `json:"team"`
	}
	teams := map[string]string{"billing": "payments", "search": "discovery"}
	owner := tool.New("get_service_owner", "Tells which team owns a service.",
		func(_ context.Context, in in) (out, error) {
			team, ok := teams[in.Service]
			if !ok {
				return out{}, fmt.Errorf("there is no service %q", in.Service)
			}
			return out{Team: team}, nil
		})

	a, err := advisor.New(context.Background(), agent.Env{})
	if err != nil {
		panic(err)
	}
	a.Tools = append(a.Tools, owner)
	last := a.Tools[len(a.Tools)-1]
	fmt.Println(last.Name())
	fmt.Println(last.Call(context.Background(), map[string]any{"service": "billing"}))
	fmt.Println(last.Call(context.Background(), map[string]any{"service": "shipping"}))
	// Output:
	// get_service_owner
	// map[team:payments] <nil>
	// map[] there is no service "shipping"
}
