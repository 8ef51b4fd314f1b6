package agent_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

var cardNumber = regexp.MustCompile(`\b\d(?:[ -]?\d){12,18}\b`)

func redact(text string) string { return cardNumber.ReplaceAllString(text, "[card number]") }

// Hooks that keep card numbers out of everything: store, log, prompts, answers.
func ExampleRedaction() {
	support := agent.Agent{
		Hooks: agent.Redaction(redact),
	}
	q := &agent.Question{Text: "Why was 4111 1111 1111 1111 charged?", Files: []agent.QuestionFile{{Name: "4111111111111111.pdf"}}}
	if err := support.Hooks.Question(context.Background(), q); err != nil {
		panic(err)
	}
	fmt.Println(q.Text, q.Files[0].Name)
	// Output: Why was [card number] charged? [card number].pdf
}

// A hook that lets nobody ask for another's orders.
func ExampleHooks() {
	hooks := agent.Hooks{
		Tool: func(ctx context.Context, c *agent.ToolCall, next func() error) error {
			if c.Args["customer"] != tool.From(ctx).EndUser {
				return errors.New("these are somebody else's orders")
			}
			return next()
		},
	}
	ctx := tool.NewContext(context.Background(), tool.Context{EndUser: "ada"})
	fmt.Println(hooks.Tool(ctx, &agent.ToolCall{Name: "orders", Args: map[string]any{"customer": "bob"}}, func() error { return nil }))
	// Output: these are somebody else's orders
}

// What depends on the turn comes after the instruction.
func ExampleAgent_instructions() {
	a := agent.Agent{
		Name:        "rates",
		Instruction: "You help the finance team with exchange rates.",
		Instructions: func(ctx context.Context) (string, error) {
			return "Today is " + time.Now().Format(time.DateOnly) + ". Answer in " + tool.From(ctx).Locale + ".", nil
		},
	}
	fmt.Println(a.Name)
	// Output: rates
}

// An agent is a tool of another one.
func ExampleAsTool() {
	library := agent.Agent{
		Name:        "library",
		Description: "Answers questions about the team's documents.",
		Instruction: "You search the team's documents.",
	}
	desk := agent.Agent{
		Name:  "desk",
		Tools: []tool.Tool{agent.AsTool(library, tool.Timeout(20*time.Second))},
	}
	fmt.Println(desk.Tools[0].Name(), desk.Tools[0].Description())
	// Output: library Answers questions about the team's documents.
}
