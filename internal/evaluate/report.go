package evaluate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/trial"
	"example.com/gatehouse/internal/truncate"
)

// A Report is the outcome of an evaluation, the form of report.json.
type Report struct {
	Agent        string    `json:"agent"`
	Digest       string    `json:"digest,omitempty"` // of the agent's instruction, tools and settings
	Model        string    `json:"model"`
	Judge        string    `json:"judge,omitempty"` // the model
	Began        time.Time `json:"began"`
	Seconds      float64   `json:"seconds"`
	Cases        int       `json:"cases"`
	Passed       int       `json:"passed"`
	Threshold    float64   `json:"threshold"` // the share of cases that must pass
	Pass         bool      `json:"pass"`
	CostUSD      float64   `json:"cost_usd"` // of the turns, earlier questions included; what is unknown counts 0
	JudgeCostUSD float64   `json:"judge_cost_usd"`
	Results      []Result  `json:"results"`
}

// A Result is the outcome of one case.
type Result struct {
	Name      string   `json:"name"`
	Where     string   `json:"where"` // file:line, or the stored turn
	Before    []string `json:"before,omitempty"`
	Query     string   `json:"query"`
	Reference string   `json:"reference,omitempty"`
	Answer    string   `json:"answer"`
	Error     string   `json:"error,omitempty"` // the code
	Tools     []Tool   `json:"tools,omitempty"`
	Model     string   `json:"model,omitempty"`
	Warnings  []any    `json:"warnings,omitempty"`
	Seconds   float64  `json:"seconds"`
	CostUSD   *float64 `json:"cost_usd"` // of the last turn; null: unknown
	Pass      bool     `json:"pass"`
	Scores    []Score  `json:"scores"`
	NotJudged bool     `json:"not_judged,omitempty"` // it has a criterion, and there is no judge

	answers     []string // to Before
	instruction string
}

// A Tool is a tool call in a report.
type Tool struct {
	Name   string         `json:"name"`
	Args   map[string]any `json:"args"`
	OK     bool           `json:"ok"`
	Output map[string]any `json:"output"`
}

// newResult returns the result of c without its scores.
func newResult(c *Case, a *trial.Answer) Result {
	r := Result{
		Name: c.Name, Where: c.where, Before: c.Before, Query: c.Query, Reference: c.Reference,
		Answer: a.Text, Error: a.Error, Seconds: a.Took.Seconds(), CostUSD: costOf(a),
	}
	r.Model, _ = a.Data["model"].(string)
	r.Warnings, _ = a.Data["warnings"].([]any)
	for _, call := range a.Tools {
		r.Tools = append(r.Tools, Tool(call))
	}
	if len(a.Sent) > 0 {
		r.instruction = a.Sent[0].Instruction
	}
	return r
}

// sum completes the report with what its results add up to.
//
// No case at all is a failure: an empty file must not pass a pipeline.
func (r *Report) sum(judged float64, spent float64) {
	r.Cases, r.CostUSD, r.JudgeCostUSD = len(r.Results), spent, judged
	for _, result := range r.Results {
		if result.Pass {
			r.Passed++
		}
	}
	r.Pass = r.Cases > 0 && float64(r.Passed) >= r.Threshold*float64(r.Cases)
}

// write writes report.json, report.md and dataset.json into dir.
func (r *Report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// report.md is written last: who finds it finds the others.
	for name, value := range map[string]any{"report.json": r, "dataset.json": r.dataset()} {
		raw, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// Questions may be people's.
		if err := os.WriteFile(filepath.Join(dir, name), append(raw, '\n'), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "report.md"), []byte(r.markdown()), 0o600)
}

// cell returns text for a cell of a Markdown table.
//
// Answers and names are other people's text: without this, a | or a line break would end the
// cell, and < or [ would be markup where the report is shown.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer("|", `\|`, "`", "'", "<", "&lt;", "[", `\[`).Replace(truncate.Text(text, 200))
}

func (r *Report) markdown() string {
	var b strings.Builder
	verdict := "passed"
	if !r.Pass {
		verdict = "failed"
	}
	fmt.Fprintf(&b, "# Evaluation of %s: %s\n\n", cell(r.Agent), verdict)
	fmt.Fprintf(&b, "| | |\n|---|---|\n| cases passed | %d of %d; at least %.0f %% must pass |\n| model | %s |\n", r.Passed, r.Cases, 100*r.Threshold, cell(r.Model))
	if r.Digest != "" {
		fmt.Fprintf(&b, "| digest of the agent | `%s` |\n", r.Digest)
	}
	if r.Judge != "" {
		fmt.Fprintf(&b, "| judge | %s, $%.4f |\n", cell(r.Judge), r.JudgeCostUSD)
	}
	fmt.Fprintf(&b, "| cost | $%.4f |\n| began | %s |\n| took | %.1f s |\n\n", r.CostUSD, r.Began.UTC().Format(time.RFC3339), r.Seconds)
	b.WriteString("| case | passed | points | seconds | cost | problems |\n|---|---|---|---|---|---|\n")
	for _, result := range r.Results {
		passed, points, cost := "yes", "", "unknown"
		if !result.Pass {
			passed = "**no**"
		}
		if result.NotJudged {
			points = "not judged"
		}
		if result.CostUSD != nil {
			cost = fmt.Sprintf("$%.5f", *result.CostUSD)
		}
		var problems []string
		for _, s := range result.Scores {
			if s.Points > 0 {
				points = fmt.Sprint(s.Points)
			}
			if !s.Pass {
				problems = append(problems, s.Scorer+": "+s.Detail)
			}
		}
		fmt.Fprintf(&b, "| %s (%s) | %s | %s | %.2f | %s | %s |\n", cell(result.Name), cell(result.Where), passed, points, result.Seconds, cost, cell(strings.Join(problems, "; ")))
	}
	return b.String()
}

// An evaluationDataset is Google's EvaluationDataset in JSON, as
// vertexai.types.EvaluationDataset.model_validate_json of google-cloud-aiplatform reads
// it (the Gen AI evaluation service).
type evaluationDataset struct {
	Cases         []evalCase `json:"eval_cases"`
	CandidateName string     `json:"candidate_name"`
}

type evalCase struct {
	ID           string         `json:"eval_case_id"`
	Prompt       *genai.Content `json:"prompt"`
	Responses    []candidate    `json:"responses"`
	Reference    *candidate     `json:"reference,omitempty"`
	Instruction  *genai.Content `json:"system_instruction,omitempty"`
	History      []evalMessage  `json:"conversation_history,omitempty"`
	Intermediate []evalEvent    `json:"intermediate_events,omitempty"`
}

type candidate struct {
	Response *genai.Content `json:"response"`
}

type evalMessage struct {
	TurnID  string         `json:"turn_id"`
	Author  string         `json:"author"`
	Content *genai.Content `json:"content"`
}

type evalEvent struct {
	ID      string         `json:"event_id"`
	Author  string         `json:"author"`
	Content *genai.Content `json:"content"`
}

// dataset returns the cases that have an answer.
//
// A case that ended in an error is left out, since there is nothing to judge. The results of
// tools are contents of the user's role, as in the prompt.
func (r *Report) dataset() evaluationDataset {
	d := evaluationDataset{Cases: []evalCase{}, CandidateName: r.Agent}
	for _, result := range r.Results {
		if result.Error != "" {
			continue
		}
		c := evalCase{
			ID: result.Name, Prompt: genai.NewContentFromText(result.Query, genai.RoleUser),
			Responses: []candidate{{genai.NewContentFromText(result.Answer, genai.RoleModel)}},
		}
		if result.Reference != "" {
			c.Reference = &candidate{genai.NewContentFromText(result.Reference, genai.RoleModel)}
		}
		if result.instruction != "" {
			c.Instruction = &genai.Content{Parts: []*genai.Part{genai.NewPartFromText(result.instruction)}}
		}
		for i, before := range result.Before {
			c.History = append(c.History, evalMessage{fmt.Sprint(2 * i), genai.RoleUser, genai.NewContentFromText(before, genai.RoleUser)})
			if i < len(result.answers) {
				c.History = append(c.History, evalMessage{fmt.Sprint(2*i + 1), r.Agent, genai.NewContentFromText(result.answers[i], genai.RoleModel)})
			}
		}
		for _, t := range result.Tools {
			for _, content := range []*genai.Content{
				genai.NewContentFromFunctionCall(t.Name, t.Args, genai.RoleModel),
				genai.NewContentFromFunctionResponse(t.Name, t.Output, genai.RoleUser),
			} {
				c.Intermediate = append(c.Intermediate, evalEvent{fmt.Sprint(len(c.Intermediate)), r.Agent, content})
			}
		}
		d.Cases = append(d.Cases, c)
	}
	return d
}
