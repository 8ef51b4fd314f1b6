package agent_test

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

var cardNumber = regexp.MustCompile(`\b\d(?:[ -]?\d){12,18}\b`)

func redact(text string) string { return cardNumber.ReplaceAllString(text, "[card number]") }

var redaction = agent.Hooks{
	Question: func(_ context.Context, q *agent.Question) error {
		q.Text = redact(q.Text)
		return nil
	},
	Tool: func(_ context.Context, c *agent.ToolCall, next func() error) error {
		if err := next(); err != nil {
			return err
		}
		for name, value := range c.Output {
			if text, ok := value.(string); ok {
				c.Output[name] = redact(text)
			}
		}
		return nil
	},
	Answer: func(_ context.Context, a *agent.Answer) error {
		a.Text = redact(a.Text)
		return nil
	},
}

// Hooks that keep card numbers out of everything: store, log, prompts, answers.
func ExampleHooks() {
	q := &agent.Question{Text: "Why was 4111 1111 1111 1111 charged?"}
	if err := redaction.Question(context.Background(), q); err != nil {
		panic(err)
	}
	fmt.Println(q.Text)
	// Output: Why was [card number] charged?
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
