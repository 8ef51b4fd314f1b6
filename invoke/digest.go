package invoke

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/model"
)

// AgentDigest returns what identifies the agent's instruction, tools and settings, as
// turns hold it.
func (s *Service) AgentDigest() string { return s.digest }

// digest returns what identifies an agent's instruction, tools and settings: turns with
// the same were made in the same way, as far as the agent's own code is declared to the
// model. It has 64 bits, enough for the agents of a project to differ.
func digest(a agent.Agent, tools model.Tools) string { return digestOf(a, tools, 0) }

// digestOf is digest for an agent that is a tool, depth below the turn's own. The depth is
// bounded as in a turn: what lies deeper than [agent.MaxDepth] is never asked.
func digestOf(a agent.Agent, tools model.Tools, depth int) string {
	made := struct {
		Instruction string                       `json:"instruction"`
		Temperature *float64                     `json:"temperature"`
		MaxTokens   int                          `json:"max_tokens"`
		Model       *genai.GenerateContentConfig `json:"model"`
		Tools       json.RawMessage              `json:"tools"`
		Output      any                          `json:"output"`
		Agents      []string                     `json:"agents,omitempty"` // that are tools
		Loop        string                       `json:"loop,omitempty"`
	}{a.Instruction, a.Temperature, a.MaxTokens, a.Model, tools.JSON, nil, nil, ""}
	if a.Loop != nil {
		made.Loop = a.Loop.Form
	}
	for _, t := range a.Tools {
		if sub := agent.Of(t); sub != nil && depth < agent.MaxDepth {
			made.Agents = append(made.Agents, digestOf(*sub, newToolset(sub.Tools).declarations, depth+1))
		}
	}
	if a.Output != nil {
		made.Output = a.Output.Schema()
	}
	raw, err := json.Marshal(made)
	if err != nil { // such as NaN, which is refused at start
		raw = fmt.Append(nil, a)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}
