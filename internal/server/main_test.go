package server

import (
	"context"

	"example.com/gatehouse/agent"
)

// anAgent makes the least that is an agent.
func anAgent(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{Name: "an-agent", Instruction: "Answer."}, nil
}
