package agenttest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
)

// Golden runs the conversations in the files that match pattern, each as a subtest with
// a separate service, started as [Start] does. A file is a YAML list, one entry for
// each turn: the question, what the model does with it, and what is expected.
//
//   - user: What is a euro worth?
//     model: # its replies, in order; without any, the offline stand-in answers
//   - call: get_exchange_rate
//     args: {from: EUR}
//   - say: 1.25 dollars.
//     tools: # from here on written with update
//   - name: get_exchange_rate
//     args: {from: EUR}
//     output: {from: EUR, rate: 1.25}
//     answer: 1.25 dollars.
//
// A reply of the model can also be `calls`, a list of several at once, or `fail`, an
// HTTP status. With text or calls go `think`, a summary of thoughts, `search` with its
// `sources`, and `finish`, how it ends. Instead of an answer, `error` expects an error's code.
// With update the files are rewritten with what was observed, for the reviewer to read; of
// comments only those at the file's beginning are kept. Tests usually have a flag for it:
//
//	var update = flag.Bool("update", false, "write the golden conversations")
func Golden(t *testing.T, newAgent agent.NewFunc, pattern string, update bool, env ...string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("agenttest: no file matches %q: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) {
			golden(t, newAgent, file, update, env)
		})
	}
}

// A goldenTurn is one entry of a file.
type goldenTurn struct {
	User  string        `yaml:"user"`
	Model []goldenReply `yaml:"model,omitempty"`

	Tools    []goldenTool `yaml:"tools,omitempty"`
	Answer   string       `yaml:"answer,omitempty"`
	Output   any          `yaml:"output,omitempty"`
	Sources  []string     `yaml:"sources,omitempty"` // their addresses
	Warnings []any        `yaml:"warnings,omitempty,flow"`
	Error    string       `yaml:"error,omitempty"`
}

type goldenReply struct {
	Say   string         `yaml:"say,omitempty"`
	Call  string         `yaml:"call,omitempty"`
	Args  map[string]any `yaml:"args,omitempty"`
	Calls []goldenCall   `yaml:"calls,omitempty"`
	Fail  int            `yaml:"fail,omitempty"`

	Think   string         `yaml:"think,omitempty"`
	Search  string         `yaml:"search,omitempty"`
	Sources []goldenSource `yaml:"sources,omitempty"`
	Finish  string         `yaml:"finish,omitempty"`
}

type goldenSource struct {
	Title string `yaml:"title,omitempty"`
	URI   string `yaml:"uri"`
	Text  string `yaml:"text,omitempty"`
}

type goldenCall struct {
	Name string         `yaml:"name"`
	Args map[string]any `yaml:"args,omitempty"`
}

type goldenTool struct {
	Name   string         `yaml:"name"`
	Args   map[string]any `yaml:"args,omitempty"`
	Failed bool           `yaml:"failed,omitempty"`
	Output map[string]any `yaml:"output,omitempty"`
}

// reply returns r as the script's.
func (r goldenReply) reply() (Reply, error) {
	kinds := 0
	for _, set := range []bool{r.Say != "", r.Call != "", len(r.Calls) > 0, r.Fail != 0} {
		if set {
			kinds++
		}
	}
	beside := r.Think != "" || r.Search != "" || len(r.Sources) > 0 || r.Finish != ""
	switch {
	case kinds != 1 || r.Fail != 0 && (r.Fail < 400 || r.Fail >= 600):
		return Reply{}, errors.New("a reply of the model needs one of say, call, calls and fail, an HTTP status from 400")
	case r.Fail != 0 && beside, len(r.Sources) > 0 && r.Search == "":
		return Reply{}, errors.New("think, search and finish go with say, call or calls, and sources with search")
	case r.Fail != 0:
		return Fail(r.Fail, "scripted"), nil
	}
	var reply Reply
	switch {
	case r.Say != "":
		reply = Say(r.Say)
	case r.Call != "":
		reply = Call(r.Call, r.Args)
	default:
		reply = Call(r.Calls[0].Name, r.Calls[0].Args)
		for _, call := range r.Calls[1:] {
			reply = reply.And(call.Name, call.Args)
		}
	}
	if r.Think != "" {
		reply = reply.Think(r.Think)
	}
	if r.Search != "" {
		sources := make([]Source, len(r.Sources))
		for i, source := range r.Sources {
			sources[i] = Source(source)
		}
		reply = reply.Search(r.Search, sources...)
	}
	if r.Finish != "" {
		reply = reply.Finish(genai.FinishReason(r.Finish))
	}
	return reply, nil
}

// readGolden returns the turns of a file, and the comments at its beginning.
func readGolden(raw []byte) (turns []goldenTurn, head string, err error) {
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "#") && strings.TrimSpace(line) != "" {
			break
		}
		head += line
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&turns); err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	if len(turns) == 0 {
		return nil, "", errors.New("the conversation has no turns")
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, "", errors.New("more than one document")
	}
	return turns, head, nil
}

// golden runs the conversation of one file.
func golden(t *testing.T, newAgent agent.NewFunc, file string, update bool, env []string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, head, err := readGolden(raw)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	s := Start(t, newAgent, env...)
	got, sessionID := make([]goldenTurn, len(want)), ""
	for i, turn := range want {
		if got[i], err = s.golden(turn, &sessionID); err != nil {
			t.Fatalf("%s: turn %d: %v", file, i+1, err)
		}
	}
	text := func(turns []goldenTurn) string {
		var b strings.Builder
		e := yaml.NewEncoder(&b)
		e.SetIndent(2)
		if err := errors.Join(e.Encode(turns), e.Close()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return b.String()
	}
	if update {
		if err := os.WriteFile(file, []byte(head+text(got)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(text(want), text(got)); diff != "" {
		t.Errorf("%s is not what happens (-file +observed); update it if the change is meant:\n%s", file, diff)
	}
}

// golden has the turn happen and returns it as it was observed.
func (s *Service) golden(turn goldenTurn, sessionID *string) (goldenTurn, error) {
	seen := goldenTurn{User: turn.User, Model: turn.Model}
	_, before := s.model.counts()
	for _, r := range turn.Model {
		reply, err := r.reply()
		if err != nil {
			return seen, err
		}
		s.Model(reply)
	}
	a := s.Do(Request{Query: turn.User, SessionID: *sessionID})
	left, beyond := s.model.counts()
	switch {
	case left > 0:
		return seen, fmt.Errorf("the model was not asked for the last %d of its replies; the answer: %s", left, cmp.Or(a.Text, a.Message))
	case len(turn.Model) > 0 && beyond > before:
		return seen, fmt.Errorf("the model was asked %d times more than it has replies", beyond-before)
	}
	if seen.Error = a.Error; a.Error == "" {
		*sessionID = a.SessionID
		seen.Answer = a.Text
		seen.Output = a.Data["output"]
		for _, source := range a.Sources {
			seen.Sources = append(seen.Sources, source.URI)
		}
		seen.Warnings, _ = a.Data["warnings"].([]any)
	}
	for _, call := range a.Tools {
		seen.Tools = append(seen.Tools, goldenTool{Name: call.Name, Args: call.Args, Failed: !call.OK, Output: call.Output})
	}
	return seen, nil
}
