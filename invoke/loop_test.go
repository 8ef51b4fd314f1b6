package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/invoke"
)

// looped makes an agent whose turns answer answers. The module adk tests a whole framework.
func looped(answer func(context.Context, loop.Turn) error) agent.NewFunc {
	return func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "looped", Loop: &loop.Loop{Answer: answer, Form: "a test"}}, nil
	}
}

func TestALoopAnswers(t *testing.T) {
	t.Parallel()
	var kept []string
	late := make(chan loop.Turn, 2)
	s := agenttest.Start(t, looped(func(ctx context.Context, turn loop.Turn) error {
		var prompt []*genai.Content
		for _, past := range turn.Past() {
			var contents []*genai.Content
			if err := json.Unmarshal(past.Contents, &contents); err != nil {
				return err
			}
			prompt, kept = append(prompt, contents...), append(kept, string(past.Kept))
		}
		prompt = append(prompt, turn.Question())
		config := &genai.GenerateContentConfig{SystemInstruction: genai.NewContentFromText("Be brief.", genai.RoleUser)}
		got, err := turn.Generate(ctx, prompt, config, nil)
		if err != nil {
			return err
		}
		late <- turn
		return errors.Join(turn.Keep(json.RawMessage(`{"a": 1}`)), turn.Add(got.Candidates[0].Content, false))
	}))
	s.Model(agenttest.Say("One."), agenttest.Say("Two."))
	first := s.Ask("1?")
	second := s.Do(agenttest.Request{Query: "2?", SessionID: first.SessionID, Stream: true})
	if first.Text != "One." || second.Text != "Two." || second.Turn != 2 || second.Sent[0].Instruction != "Be brief." || len(second.Sent[0].Contents) != 3 {
		t.Errorf("%+v\n%+v", first, second)
	}
	if strings.Join(kept, " ") != `{"a":1}` {
		t.Errorf("kept: %q", kept)
	}
	turn := <-late
	if _, err := turn.Generate(t.Context(), nil, nil, nil); !errors.Is(err, loop.ErrOver) {
		t.Errorf("a model call after the turn: %v", err)
	}
	if err := errors.Join(turn.Say("more"), turn.Keep(nil), turn.Add(first.Sent[0].Contents[0], false)); !errors.Is(err, loop.ErrOver) {
		t.Errorf("after the turn: %v", err)
	}
}

// A Loop's answer has the sources of its model call, and where they belong if the text is the
// model's.
func TestTheSourcesOfALoop(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(string) string
		want   string
	}{
		"as the model wrote it": {func(text string) string { return text }, `{"title":"Go","uri":"https://go.dev/","positions":[{"start":10,"end":21}]}`},
		"changed":               {strings.ToUpper, `{"title":"Go","uri":"https://go.dev/"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			gemini.Enqueue(geminitest.Text("Go is fast.").WithSearch([]string{"go speed"}, geminitest.Source{Title: "Go", URI: "https://go.dev/", Text: "Go is fast."}))
			server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "looped", MaxTokens: 100, Loop: &loop.Loop{Answer: func(ctx context.Context, turn loop.Turn) error {
				if err := turn.Add(genai.NewContentFromText("Größe: 1", genai.RoleModel), false); err != nil {
					return err
				}
				got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, nil, nil)
				if err != nil {
					return err
				}
				return turn.Add(genai.NewContentFromText(tt.change(got.Text()), genai.RoleModel), false)
			}}})
			if _, answer := ask(t, server, "/invoke", `{"query": "1?"}`); !strings.Contains(answer, `"sources":[`+tt.want+`]`) {
				t.Errorf("%s", answer)
			}
		})
	}
}

// A Loop's model call is measured like any: the next turn's history is cut by its count.
func TestTheSizeOfALoopsPrompt(t *testing.T) {
	t.Parallel()
	store, gemini := newMemory(), geminitest.Start(t)
	s := asked(t, store, gemini, agent.Agent{Loop: &loop.Loop{Form: "a test", Answer: func(ctx context.Context, turn loop.Turn) error {
		config := &genai.GenerateContentConfig{SystemInstruction: genai.NewContentFromText("Be brief.", genai.RoleUser)}
		got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, config, nil)
		if err != nil {
			return err
		}
		return turn.Add(got.Candidates[0].Content, false)
	}}})
	gemini.Enqueue(geminitest.Text("One.").WithUsage(geminitest.Usage{Prompt: 7, Output: 1}))
	got := promptOf(t, s, store)
	if least := int64(len("Be brief.") + len("hello")); got.Tokens != 7 || got.Bytes < least || got.Bytes > least+16 {
		t.Errorf("%+v", got)
	}
}

// An answer that another model has given in a Loop has its warning, too.
func TestAStandInOfALoop(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	s := asked(t, newMemory(), gemini, agent.Agent{Loop: &loop.Loop{Form: "a test", Answer: func(ctx context.Context, turn loop.Turn) error {
		got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, nil, nil)
		if err != nil {
			return err
		}
		return turn.Add(got.Candidates[0].Content, false)
	}}}, withStandIn(t, gemini))
	response, err := s.Ask(ofCaller(t, "caller"), invoke.Request{Query: "hello"}, nil)
	if err != nil || response.Response != "Done." || !slices.Contains(response.Warnings, "fallback_model") {
		t.Errorf("%+v, %v", response, err)
	}
}

// A Loop can ask a person where an answer can come.
func TestWhenALoopCanAsk(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		o    invoke.Options
		want bool
	}{"a turn": {invoke.Options{}, true}, "without a session": {invoke.Options{Sessionless: true}, false}, "nobody": {invoke.Options{NobodyToAsk: true}, false}} {
		s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{Loop: &loop.Loop{Answer: func(_ context.Context, turn loop.Turn) error {
			if turn.CanAsk() != tt.want {
				t.Errorf("%s: it can ask: %t", name, !tt.want)
			}
			return turn.Say("Well.")
		}}})
		if _, err := s.Ask(ofCaller(t, "ada"), invoke.Request{Query: "1?", Options: tt.o}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a Loop adds while calls are open stands behind their results, and only the calls that
// asked have an answer.
func TestAContentThatComesBeforeResults(t *testing.T) {
	t.Parallel()
	var past []loop.Past
	var answers int
	s := agenttest.Start(t, looped(func(_ context.Context, turn loop.Turn) error {
		said := func(text string) error { return turn.Add(genai.NewContentFromText(text, genai.RoleModel), false) }
		result := func(id string) *genai.FunctionResponse {
			return &genai.FunctionResponse{ID: id, Name: "look", Response: map[string]any{"seen": id}}
		}
		if past = turn.Past(); len(past) > 0 {
			return said("Yes.")
		}
		if resumed := turn.Resumed(); resumed != nil {
			answers = len(resumed.Answers)
			return errors.Join(said("Meanwhile."), turn.Add(&genai.Content{Role: genai.RoleUser, Parts: []*genai.Part{{FunctionResponse: result("a")}}}, false), said("Done."))
		}
		calls := &genai.Content{Role: genai.RoleModel, Parts: []*genai.Part{{FunctionCall: &genai.FunctionCall{ID: "a", Name: "look"}}, {FunctionCall: &genai.FunctionCall{ID: "b", Name: "look"}}}}
		return errors.Join(turn.Add(calls, false), turn.Wait([]loop.Question{{ID: "a", Name: "look", Text: "Look?"}}, []*genai.FunctionResponse{result("b")}))
	}))
	waits := s.Ask("Look.")
	if rest := s.Approve(waits, agenttest.Decision{}); rest.Text != "Meanwhile.\n\nDone." || answers != 1 {
		t.Fatalf("%d answers, %+v", answers, rest)
	}
	s.Do(agenttest.Request{Query: "Did you?", SessionID: waits.SessionID})
	var contents []*genai.Content
	if len(past) != 1 || json.Unmarshal(past[0].Contents, &contents) != nil || len(contents) != 5 || len(contents[2].Parts) != 2 || contents[3].Parts[0].Text != "Meanwhile." || contents[4].Parts[0].Text != "Done." {
		t.Errorf("the next turn reads %+v", past)
	}
}

// A Loop's result that is an error is shown as one.
func TestALoopsToolThatFails(t *testing.T) {
	t.Parallel()
	server, _ := serveAgent(t, newMemory(), geminitest.Start(t), agent.Agent{Name: "looped", MaxTokens: 100, Loop: &loop.Loop{Answer: func(_ context.Context, turn loop.Turn) error {
		calls, results := &genai.Content{Role: genai.RoleModel}, &genai.Content{Role: genai.RoleUser}
		for id, response := range []map[string]any{{"error": "the disk is full"}, {"seen": 1}} {
			calls.Parts = append(calls.Parts, &genai.Part{FunctionCall: &genai.FunctionCall{ID: fmt.Sprint(id), Name: "look"}})
			results.Parts = append(results.Parts, &genai.Part{FunctionResponse: &genai.FunctionResponse{ID: fmt.Sprint(id), Name: "look", Response: response}})
		}
		return errors.Join(turn.Add(calls, false), turn.Add(results, false), turn.Add(genai.NewContentFromText("Well.", genai.RoleModel), false))
	}}})
	_, body := ask(t, server, "/invoke", `{"query": "1?"}`)
	if got := decodeAnswer(t, body).Data.ToolCalls; len(got) != 2 || got[0].OK || !got[1].OK {
		t.Errorf("%+v: %s", got, body)
	}
}

// A model that calls tools although it has none any more is heard for its text.
func TestALoopsModelThatCallsToolsItHasNoneOf(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	call := geminitest.Parts(members{"text": "Well."}, members{"functionCall": members{"name": "look", "args": members{}}})
	gemini.Enqueue(call, call)
	var calls []int
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "looped", MaxTokens: 100, Loop: &loop.Loop{Answer: func(ctx context.Context, turn loop.Turn) error {
		for range 2 {
			got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, nil, nil)
			if err != nil {
				return err
			}
			calls = append(calls, len(got.FunctionCalls()))
		}
		return turn.Add(genai.NewContentFromText("Well.", genai.RoleModel), false)
	}}}, func(c *invoke.Config) { c.MaxToolRounds = 1 })
	if status, answer := ask(t, server, "/invoke", `{"query": "1?"}`); status != http.StatusOK || !slices.Equal(calls, []int{1, 0}) {
		t.Errorf("%d %s, calls %v", status, answer, calls)
	}
}

// What a framework has kept of a turn is the owner's, too.
func TestAnExportHasWhatALoopHasKept(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Enqueue(geminitest.Text("One."))
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "looped", MaxTokens: 100, Loop: &loop.Loop{Form: "a test", Answer: func(ctx context.Context, turn loop.Turn) error {
		got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, &genai.GenerateContentConfig{}, nil)
		if err != nil {
			return err
		}
		return errors.Join(turn.Keep(json.RawMessage(`{"events": ["kept"]}`)), turn.Add(got.Candidates[0].Content, false))
	}}})
	if status, answer := ask(t, server, "/invoke", `{"query": "1?"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	if exported := get(t, server, "/export"); strings.Count(exported, `"loop":{"events":["kept"]}`) != 1 {
		t.Errorf("%s", exported)
	}
}

// An approved call that has ended without a result does not run again either.
func TestAnApprovedCallWithoutAResultRunsOnce(t *testing.T) {
	t.Parallel()
	var ran []bool
	s := agenttest.Start(t, looped(func(ctx context.Context, turn loop.Turn) error {
		if turn.Resumed() == nil {
			call := &genai.Content{Role: genai.RoleModel, Parts: []*genai.Part{{FunctionCall: &genai.FunctionCall{ID: "own", Name: "pay"}}}}
			return errors.Join(turn.Add(call, false), turn.Wait([]loop.Question{{ID: "own", Name: "pay", Text: "Pay?"}}, nil))
		}
		for range 2 {
			done, err := turn.Began("own", "pay")
			if err != nil {
				return err
			}
			if ran = append(ran, done == nil); done == nil {
				err = turn.Ended("own", loop.End{})
			}
			if err != nil {
				return err
			}
		}
		result := &genai.FunctionResponse{ID: "own", Name: "pay", Response: map[string]any{}}
		return errors.Join(turn.Add(&genai.Content{Role: genai.RoleUser, Parts: []*genai.Part{{FunctionResponse: result}}}, false),
			turn.Add(genai.NewContentFromText("Paid.", genai.RoleModel), false))
	}))
	rest := s.Approve(s.Ask("Pay."), agenttest.Decision{})
	if rest.Text != "Paid." || !slices.Equal(ran, []bool{true, false}) {
		t.Errorf("ran: %v; %+v", ran, rest)
	}
}

// A Loop may ask the model between an approval and the call, and before its result is added:
// the call is the same effect, which the turn knows that then fails.
func TestModelCallsAroundAnApprovedCall(t *testing.T) {
	t.Parallel()
	var past []loop.Past
	s := agenttest.Start(t, looped(func(ctx context.Context, turn loop.Turn) error {
		ask := func() error {
			_, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, nil, nil)
			return err
		}
		switch past = turn.Past(); {
		case len(past) > 0:
			return turn.Add(genai.NewContentFromText("Yes.", genai.RoleModel), false)
		case turn.Resumed() == nil:
			call := &genai.Content{Role: genai.RoleModel, Parts: []*genai.Part{{FunctionCall: &genai.FunctionCall{ID: "own", Name: "pay"}}}}
			return errors.Join(turn.Add(call, false), turn.Wait([]loop.Question{{ID: "own", Name: "pay", Text: "Pay?"}}, nil))
		}
		if err := ask(); err != nil {
			return err
		}
		if _, err := turn.Began("own", "pay"); err != nil {
			return err
		}
		return errors.Join(turn.Ended("own", loop.End{Result: map[string]any{"paid": true}}), ask(), errors.New("and then it fails"))
	}))
	waits := s.Ask("Pay.")
	s.Model(agenttest.Say("Well."), agenttest.Say("Well."))
	if rest := s.Approve(waits, agenttest.Decision{}); rest.Data["finish_reason"] != "FAILED" || strings.Contains(fmt.Sprint(rest.Data["warnings"]), "effect_unknown") {
		t.Fatalf("%+v", rest)
	}
	s.Do(agenttest.Request{Query: "Did you?", SessionID: waits.SessionID})
	if len(past) != 1 || !strings.Contains(string(past[0].Contents), `"response":{"paid":true}`) {
		t.Errorf("the next turn reads %+v", past)
	}
}

// What a Loop kept when its turn waited is not kept of a turn that ends without it: later
// turns read the contents, which have the call's result.
func TestWhatALoopKeptBeforeItsTurnWasCut(t *testing.T) {
	t.Parallel()
	var past []loop.Past
	s := agenttest.Start(t, looped(func(ctx context.Context, turn loop.Turn) error {
		if turn.Resumed() != nil {
			result := &genai.FunctionResponse{ID: "own", Name: "pay", Response: map[string]any{"paid": true}}
			return errors.Join(turn.Add(&genai.Content{Role: genai.RoleUser, Parts: []*genai.Part{{FunctionResponse: result}}}, false),
				turn.Add(genai.NewContentFromText("Paid, and", genai.RoleModel), false), loop.ErrRounds)
		}
		past = turn.Past()
		got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, nil, nil)
		if err != nil {
			return err
		}
		content := got.Candidates[0].Content
		call := content.Parts[0].FunctionCall
		if call == nil {
			return turn.Add(content, false)
		}
		call.ID = "own"
		return errors.Join(turn.Add(content, false), turn.Keep(json.RawMessage(`{"waits": 1}`)),
			turn.Wait([]loop.Question{{ID: "own", Name: "pay", Text: "Pay?"}}, nil))
	}))
	s.Model(agenttest.Call("pay", nil))
	waits := s.Ask("Pay.")
	if rest := s.Approve(waits, agenttest.Decision{}); rest.Text != "Paid, and" {
		t.Fatalf("%+v", rest)
	}
	s.Model(agenttest.Say("Yes."))
	s.Do(agenttest.Request{Query: "Did you?", SessionID: waits.SessionID})
	if len(past) != 1 || past[0].Kept != nil || !strings.Contains(string(past[0].Contents), `"paid":true`) {
		t.Errorf("the next turn reads %+v", past)
	}
}

// A framework's settings reach the model as far as they lead it past no bound of the
// service's: neither to another server nor to more answers, tokens or cost.
func TestALoopsSettings(t *testing.T) {
	t.Parallel()
	s := agenttest.Start(t, looped(func(ctx context.Context, turn loop.Turn) error {
		got, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, &genai.GenerateContentConfig{
			TopP: new(float32(0.5)), StopSequences: []string{"END"}, Temperature: new(float32(0.25)), MaxOutputTokens: 1 << 30, CandidateCount: 3,
			CachedContent: "cachedContents/of-another", HTTPOptions: &genai.HTTPOptions{BaseURL: "http://127.0.0.1:1", Headers: map[string][]string{"X-A": {"b"}}}, ServiceTier: "priority",
			ToolConfig: &genai.ToolConfig{FunctionCallingConfig: &genai.FunctionCallingConfig{Mode: genai.FunctionCallingConfigModeAny}},
		}, nil)
		if err != nil {
			return err
		}
		return turn.Add(got.Candidates[0].Content, false)
	}))
	s.Model(agenttest.Say("One."))
	answer := s.Ask("1?")
	if answer.Text != "One." || len(answer.Sent) != 1 {
		t.Fatalf("%+v", answer)
	}
	body, err := json.Marshal(answer.Sent[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, sent := range []string{`"topP":0.5`, `"stopSequences":["END"]`, `"temperature":0.25`} {
		if !strings.Contains(string(body), sent) {
			t.Errorf("%s is missing in %s", sent, body)
		}
	}
	for _, kept := range []string{"cachedContent", "1073741824", "candidateCount", "serviceTier", "toolConfig"} {
		if strings.Contains(string(body), kept) {
			t.Errorf("%s is in %s", kept, body)
		}
	}
}

// After a call whose end nobody knows no other begins, and the turn states that it is unknown,
// though the framework passes over the error.
func TestNothingBeginsAfterAnUnknownEnd(t *testing.T) {
	t.Parallel()
	errs := make(chan error, 3)
	got := agenttest.Start(t, looped(func(_ context.Context, turn loop.Turn) error {
		calls := &genai.Content{Role: genai.RoleModel, Parts: []*genai.Part{
			{FunctionCall: &genai.FunctionCall{ID: "a", Name: "pay"}}, {FunctionCall: &genai.FunctionCall{ID: "b", Name: "pay"}},
		}}
		if err := turn.Add(calls, false); err != nil {
			return err
		}
		for _, id := range []string{"a", "a", "b"} {
			_, err := turn.Began(id, "pay")
			errs <- err
		}
		return turn.Add(genai.NewContentFromText("Paid.", genai.RoleModel), false)
	})).Ask("pay")
	if first, again, other := <-errs, <-errs, <-errs; first != nil || again == nil || other == nil {
		t.Errorf("%v; %v; %v", first, again, other)
	}
	if got.Data["finish_reason"] != "FAILED" || !strings.Contains(fmt.Sprint(got.Data["warnings"]), "effect_unknown") {
		t.Errorf("%+v", got)
	}
}

func TestLoopsThatGoWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer func(context.Context, loop.Turn) error
		code   string
	}{
		"it panics":           {func(context.Context, loop.Turn) error { panic("oh") }, "internal"},
		"it returns an error": {func(context.Context, loop.Turn) error { return errors.New("a secret") }, "internal"},
		"it refuses":          {func(context.Context, loop.Turn) error { return agent.Refuse("Ask otherwise.") }, "content_blocked"},
		"it says nothing":     {func(context.Context, loop.Turn) error { return nil }, "model_failed"},
		"it waits for a call that nobody made": {func(_ context.Context, turn loop.Turn) error {
			return turn.Wait([]loop.Question{{ID: "x", Name: "pay"}}, nil)
		}, "internal"},
		"it asks on and on": {func(ctx context.Context, turn loop.Turn) error {
			for {
				if _, err := turn.Generate(ctx, []*genai.Content{turn.Question()}, nil, nil); err != nil {
					return err
				}
			}
		}, "model_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := agenttest.Start(t, looped(test.answer), "MAX_TOOL_ROUNDS=2").Ask("hello")
			if got.Error != test.code || strings.Contains(got.Message, "secret") || len(got.Sent) > 2+4 {
				t.Errorf("%d model calls, %+v", len(got.Sent), got)
			}
		})
	}
}
