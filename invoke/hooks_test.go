package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// hooked is an agent with hooks and a tool that says back what it is told.
func hooked(h agent.Hooks) agent.Agent {
	type echo struct {
		Text string `json:"text"`
	}
	return agent.Agent{Name: "hooked", Instruction: "Be brief.", MaxTokens: 100, Hooks: h, Tools: []tool.Tool{
		tool.New("echo", "It says back what it is told.", func(_ context.Context, in echo) (echo, error) { return in, nil }),
	}}
}

func echoCall(text string) geminitest.Reply {
	return geminitest.Calls(geminitest.FunctionCall{Name: "echo", Args: map[string]any{"text": text}})
}

func TestInstructions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		instruction  string
		instructions func(ctx context.Context) (string, error)
		want         string // what the model is told; "": the turn fails
	}{
		{"none", "Be brief.", nil, "Be brief."},
		{"after the instruction", "Be brief.", func(ctx context.Context) (string, error) { return "Answer in " + tool.From(ctx).Locale + ".", nil }, "Be brief.\n\nAnswer in de-CH."},
		{"alone", "", func(context.Context) (string, error) { return "Be long.", nil }, "Be long."},
		{"empty", "Be brief.", func(context.Context) (string, error) { return "", nil }, "Be brief."},
		{"the longest", "", func(context.Context) (string, error) { return strings.Repeat("x", 64<<10), nil }, strings.Repeat("x", 64<<10)},
		{"too long", "Be brief.", func(context.Context) (string, error) { return strings.Repeat("x", 64<<10+1), nil }, ""},
		{"an error", "Be brief.", func(context.Context) (string, error) { return "", errors.New(theSecret) }, ""},
		{"a panic", "Be brief.", func(context.Context) (string, error) { panic(theSecret) }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, written := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", Instruction: test.instruction, Instructions: test.instructions, MaxTokens: 100})
			gemini.Enqueue(geminitest.Text("Done."))
			status, answer := ask(t, server, "/invoke", `{"query": "hello"}`, "Accept-Language", "de-CH")
			if test.want == "" {
				if status != http.StatusInternalServerError || !strings.Contains(answer, `"error":"internal"`) || strings.Contains(answer, theSecret) {
					t.Errorf("%d %s", status, answer)
				}
				if len(gemini.Requests()) != 0 {
					t.Error("the model was asked")
				}
				server.Close() // the log is written after the answer
				if log := written.String(); !strings.Contains(log, "Instructions") && !strings.Contains(log, "hooks_test.go") {
					t.Errorf("the log does not name the cause: %s", log)
				}
				return
			}
			if status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			told, _ := gemini.Requests()[0].Body["systemInstruction"].(map[string]any)
			if got := geminitest.TextOf(told); got != test.want {
				t.Errorf("the model is told %.100q", got)
			}
		})
	}
}

// What each hook may do, in JSON and in a stream.
func TestHooks(t *testing.T) {
	t.Parallel()
	replace := strings.NewReplacer("4111", "[card]")
	tests := []struct {
		name    string
		hooks   agent.Hooks
		replies []geminitest.Reply
		want    string // the answer
		told    string // to the model, in some request
	}{
		{"Question changes what was asked", agent.Hooks{Question: func(ctx context.Context, q *agent.Question) error {
			in := tool.From(ctx)
			q.Text = fmt.Sprintf("%s %s %d", replace.Replace(q.Text), in.Caller.Subject, in.Turn)
			return nil
		}}, []geminitest.Reply{geminitest.Text("Done.")}, "Done.", `my [card] anonymous 1"`},
		{"Answer changes each step's text", agent.Hooks{Answer: func(_ context.Context, a *agent.Answer) error {
			a.Text = replace.Replace(a.Text)
			return nil
		}}, []geminitest.Reply{
			geminitest.Parts(map[string]any{"text": "a thought of 4111", "thought": true}, map[string]any{"text": "Wait for 4111."},
				map[string]any{"functionCall": map[string]any{"name": "echo", "args": map[string]any{"text": "x"}}}),
			geminitest.Parts(map[string]any{"text": "It is 41"}, map[string]any{"text": "11."}),
		}, "Wait for [card].\\n\\nIt is [card].", "Wait for [card]."},
		{"Tool changes arguments and output", agent.Hooks{Tool: func(_ context.Context, c *agent.ToolCall, next func() error) error {
			c.Args["text"] = strings.ToUpper(c.Args["text"].(string))
			if err := next(); err != nil {
				return err
			}
			c.Output["by"] = c.Name
			return nil
		}}, []geminitest.Reply{echoCall("loud"), geminitest.Text("Done.")}, "Done.", `{"by":"echo","text":"LOUD"}`},
		{"Tool refuses a call, and the model reads why", agent.Hooks{Tool: func(context.Context, *agent.ToolCall, func() error) error {
			return errors.New("not on Sundays")
		}}, []geminitest.Reply{echoCall("x"), geminitest.Text("Done.")}, "Done.", `{"error":"not on Sundays"}`},
		{"Tool refuses a call without a word", agent.Hooks{Tool: func(context.Context, *agent.ToolCall, func() error) error {
			return errors.New(" ")
		}}, []geminitest.Reply{echoCall("x"), geminitest.Text("Done.")}, "Done.", `{"error":"the tool failed"}`},
		{"Tool answers from a cache", agent.Hooks{Tool: func(_ context.Context, c *agent.ToolCall, _ func() error) error {
			c.Output = map[string]any{"cached": true}
			return nil
		}}, []geminitest.Reply{echoCall("x"), geminitest.Text("Done.")}, "Done.", `{"cached":true}`},
		{"Tool calls again", agent.Hooks{Tool: func(_ context.Context, c *agent.ToolCall, next func() error) error {
			_ = next()
			c.Args["text"] = "again"
			return next()
		}}, []geminitest.Reply{echoCall("x"), geminitest.Text("Done.")}, "Done.", `{"text":"again"}`},
		{"Tool leaves too much", agent.Hooks{Tool: func(_ context.Context, c *agent.ToolCall, _ func() error) error {
			c.Output = map[string]any{"x": strings.Repeat("x", tool.MaxOutputBytes)}
			return nil
		}}, []geminitest.Reply{echoCall("x"), geminitest.Text("Done.")}, "Done.", "more than the 65536 allowed"},
		{"Model changes instruction and answer", agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, next func() error) error {
			c.Instruction += " Be polite."
			if err := next(); err != nil {
				return err
			}
			c.Answer = genai.NewContentFromText(c.Answer.Parts[0].Text+" Please.", genai.RoleModel)
			return nil
		}}, []geminitest.Reply{geminitest.Text("Done.")}, "Done. Please.", "Be brief. Be polite."},
		{"Model answers from a cache", agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, _ func() error) error {
			c.Answer = genai.NewContentFromText("From the cache.", genai.RoleModel)
			return nil
		}}, nil, "From the cache.", ""},
		{"Model puts an answer in the place of a failure", agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, next func() error) error {
			if next() != nil {
				c.Answer = genai.NewContentFromText("Come back later.", genai.RoleModel)
			}
			return nil
		}}, []geminitest.Reply{geminitest.Error(403, "no")}, "Come back later.", ""},
	}
	for _, test := range tests {
		for _, body := range []string{`{"query": "my 4111"}`, `{"query": "my 4111", "stream": true}`} {
			t.Run(test.name+" "+body, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				server, _ := serveAgent(t, newMemory(), gemini, hooked(test.hooks))
				gemini.Enqueue(test.replies...)
				status, answer := ask(t, server, "/invoke", body)
				if status != http.StatusOK || !strings.Contains(answer, `"response":"`+test.want+`"`) {
					t.Fatalf("%d %s, want %s", status, answer, test.want)
				}
				if joined, response := deltas(t, answer); strings.Contains(body, "stream") && joined != response {
					t.Errorf("the deltas are %q, the answer %q", joined, response)
				}
				told := ""
				for _, r := range gemini.Requests() {
					told += string(r.Raw)
				}
				if !strings.Contains(told, test.told) {
					t.Errorf("the model is told %s, want %s", told, test.told)
				}
				if test.hooks.Question != nil && strings.Contains(told, "4111") || test.hooks.Answer != nil && strings.Contains(answer, "4111") {
					t.Errorf("what was to be redacted is there: %s %s", told, answer)
				}
			})
		}
	}
}

// A title that a person writes passes the hook Question before it is stored.
func TestATitlePassesTheHook(t *testing.T) {
	t.Parallel()
	leaves := func(text string) agent.Hooks {
		return agent.Hooks{Question: func(_ context.Context, q *agent.Question) error {
			if q.Of == "title" {
				q.Text = text
			}
			return nil
		}}
	}
	tests := []struct {
		name   string
		hooks  agent.Hooks
		status int
		want   string // the title, as JSON
	}{
		{"no hook", agent.Hooks{}, 204, `"title":"my 4111"`},
		{"redaction", agent.Redaction(func(text string) string { return strings.ReplaceAll(text, "4111", "[card]") }), 204, `"title":"my [card]"`},
		{"who has written it", agent.Hooks{Question: func(ctx context.Context, q *agent.Question) error {
			q.Text = tool.From(ctx).Caller.Subject
			return nil
		}}, 204, `"title":"anonymous"`},
		{"a title of several lines", leaves("a\nb"), 204, `"title":"a b"`},
		{"a title that is too long", leaves(strings.Repeat("ü", 81)), 204, `"title":"` + strings.Repeat("ü", 80) + `"`},
		{"no title", leaves(""), 500, `"title":"hello"`},
		{"a refusal", agent.Hooks{Question: func(_ context.Context, q *agent.Question) error {
			if q.Of == "title" {
				return agent.Refuse("Not so.")
			}
			return nil
		}}, 422, `"title":"hello"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, _ := serveAgent(t, newMemory(), gemini, hooked(test.hooks))
			gemini.Enqueue(geminitest.Text("Done."))
			_, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
			path := "/sessions/" + decodeAnswer(t, answer).Data.SessionID
			response, _ := fetch(t, server, http.MethodPut, path+"/title", `{"title": "my 4111"}`)
			if _, stored := fetch(t, server, http.MethodGet, path); response.StatusCode != test.status || !strings.Contains(stored, test.want) {
				t.Errorf("%d, the session is %s, want %s", response.StatusCode, stored, test.want)
			}
		})
	}
}

// A hook that changes an answer's text leaves what Gemini's own tools have done.
func TestAHookKeepsGeminisOwnTools(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a := hooked(agent.Redaction(strings.NewReplacer("4111", "[card]").Replace))
	a.Tools = []tool.Tool{tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})}
	server, _ := serveAgent(t, newMemory(), gemini, a)
	gemini.Enqueue(geminitest.Parts(
		map[string]any{"toolCall": map[string]any{"id": "s1", "toolType": "GOOGLE_SEARCH_WEB", "args": map[string]any{"q": "of 4111"}}},
		map[string]any{"toolResponse": map[string]any{"id": "s1", "toolType": "GOOGLE_SEARCH_WEB", "response": map[string]any{"found": "4111"}}},
		map[string]any{"text": "It is 41"}, map[string]any{"text": "11."}), geminitest.Text("Done."))
	_, answer := ask(t, server, "/invoke", `{"query":"hello"}`)
	if status, text := ask(t, server, "/invoke", `{"query":"and?","session_id":"`+decodeAnswer(t, answer).Data.SessionID+`"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	sent := string(gemini.Requests()[1].Raw)
	for _, want := range []string{`"q":"of [card]"`, `"found":"[card]"`, `It is [card].`} {
		if !strings.Contains(sent, want) {
			t.Errorf("the next prompt lacks %s: %s", want, sent)
		}
	}
	if strings.Contains(sent, ",{}") { // the API takes no empty part
		t.Errorf("the next prompt has a part that the hook has left empty: %s", sent)
	}
}

// What a hook leaves of a model call that nobody can send or store is the agent's fault, not
// the model's, and the log has what it is. No other hook makes an answer of it.
func TestAHookModelLeavesWhatCannotBe(t *testing.T) {
	t.Parallel()
	answer := func(parts ...*genai.Part) func(*agent.ModelCall, func() error) error {
		return func(c *agent.ModelCall, _ func() error) error {
			c.Answer = genai.NewContentFromParts(parts, genai.RoleModel)
			return nil
		}
	}
	tests := []struct {
		name string
		hook func(c *agent.ModelCall, next func() error) error
		log  string
	}{
		{"no answer", func(*agent.ModelCall, func() error) error { return nil }, "left no answer"},
		{"an empty text", answer(genai.NewPartFromText("")), "left an empty answer"},
		{"an empty part", answer(&genai.Part{}), "left an empty answer"},
		{"a nil part", answer(nil), "no nil parts"},
		{"arguments that are no JSON", answer(genai.NewPartFromFunctionCall("echo", map[string]any{"text": math.NaN()})), "unsupported value: NaN"},
		{"history that is no JSON", func(c *agent.ModelCall, next func() error) error {
			c.History = append(c.History, json.RawMessage("[{"))
			return next()
		}, "no list of contents, at 0"},
		{"a turn of nothing", func(c *agent.ModelCall, next func() error) error {
			c.History = []json.RawMessage{nil}
			return next()
		}, "no list of contents, at 0"},
		{"a nil content", func(c *agent.ModelCall, next func() error) error {
			c.Contents = append(slices.Clone(c.Contents), nil)
			return next()
		}, "put nil into Contents, at 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, written := serveAgent(t, newMemory(), gemini, hooked(agent.Hooks{
				Model:  func(_ context.Context, c *agent.ModelCall, next func() error) error { return tt.hook(c, next) },
				Answer: func(context.Context, *agent.Answer) error { return nil },
			}))
			status, text := ask(t, server, "/invoke", `{"query":"hello"}`)
			if status != http.StatusInternalServerError || !strings.Contains(text, `"error":"internal"`) {
				t.Fatalf("%d %s", status, text)
			}
			if _, err := written.Await(t.Context(), regexp.MustCompile(regexp.QuoteMeta(tt.log))); err != nil {
				t.Error(err)
			}
			if len(gemini.Requests()) > 0 {
				t.Error("the model was asked")
			}
		})
	}
}

// A hook's second model call that is not sent, as it may pass a budget, leaves no answer: not
// that of the first, which the hook has not put there.
func TestAHookWhoseSecondCallIsNotSent(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Enqueue(geminitest.Text("Done."))
	server, written := serveAgent(t, newMemory(), gemini, hooked(agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, next func() error) error {
		if err := next(); err != nil {
			return err
		}
		c.Instruction += strings.Repeat(" Be kind.", 1000)
		if err := next(); err == nil || c.Answer != nil {
			t.Errorf("next returns %v and leaves %+v", err, c.Answer)
		}
		return nil
	}}), func(c *invoke.Config) {
		c.Limits = limit.Limits{PerMinute: 100, CallerPerMinute: 100, PerDay: 1000, CallerPerDay: 1000}
		c.Limiter = limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
	})
	if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusInternalServerError || len(gemini.Requests()) != 1 {
		t.Fatalf("%d %s after %d model calls", status, answer, len(gemini.Requests()))
	}
	if _, err := written.Await(t.Context(), regexp.MustCompile("left no answer")); err != nil {
		t.Error(err)
	}
}

// A hook ends a turn: by an error, a refusal, a panic, or the deadline.
func TestAHookEndsATurn(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	ends := []struct {
		name, code string
		status     int
		end        func() error
	}{
		{"an error", "internal", http.StatusInternalServerError, func() error { return errors.New(theSecret) }},
		{"a refusal", "content_blocked", http.StatusUnprocessableEntity, func() error { return agent.Refuse("Ask something else.") }},
		{"a panic", "internal", http.StatusInternalServerError, func() error { panic(theSecret) }},
		{"one that blocks", "timeout", http.StatusGatewayTimeout, func() error { <-blocked; return nil }},
	}
	hooks := map[string]func(end func() error) agent.Hooks{
		"Question": func(end func() error) agent.Hooks {
			return agent.Hooks{Question: func(context.Context, *agent.Question) error { return end() }}
		},
		"Model": func(end func() error) agent.Hooks {
			return agent.Hooks{Model: func(context.Context, *agent.ModelCall, func() error) error { return end() }}
		},
		"Tool": func(end func() error) agent.Hooks {
			return agent.Hooks{Tool: func(_ context.Context, _ *agent.ToolCall, next func() error) error { _ = next(); return end() }}
		},
		"Answer": func(end func() error) agent.Hooks {
			return agent.Hooks{Answer: func(context.Context, *agent.Answer) error { return end() }}
		},
	}
	for hook, with := range hooks {
		for _, end := range ends {
			if hook == "Tool" && (end.name == "an error" || end.name == "a refusal") {
				continue // the model reads it
			}
			t.Run(hook+" "+end.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				store := newMemory()
				server, written := serveFor(t, store, gemini, hooked(with(end.end)), 2*time.Second)
				gemini.Enqueue(echoCall("x"), geminitest.Text("Done."))
				status, answer := ask(t, server, "/chat", chatBody("submit-message", "hello", 0), "Accept", "application/json")
				begun := strings.Contains(answer, `"type":"start"`) // the tool's event had gone out
				if !begun && (status != end.status || !strings.Contains(answer, `"error":"`+end.code+`"`)) || begun && !strings.Contains(answer, `"type":"error"`) {
					t.Errorf("%d %s", status, answer)
				}
				if strings.Contains(answer, theSecret) || strings.Contains(answer, "Done.") {
					t.Errorf("the answer has %s", answer)
				}
				if end.code == "content_blocked" && !begun && !strings.Contains(answer, "Ask something else.") {
					t.Errorf("the answer lacks the message: %s", answer)
				}
				server.Close() // the log is written after the answer
				if end.name == "a panic" && !strings.Contains(written.String(), "hooks_test.go") {
					t.Error("the log has no stack")
				}
				principal, _, err := (&auth.None{}).Authenticate(nil)
				if err != nil {
					t.Fatal(err)
				}
				if list, _, err := store.List(t.Context(), principal.Owner(), 10, ""); err != nil || len(list) > 0 {
					t.Errorf("there is a turn: %v, %v", list, err)
				}
			})
		}
	}
}

// A hook Question may rename the files of a question, and neither drop nor add any. The bound on
// its text is not that of what people send.
func TestAQuestionsFilesPassTheHook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		hook   func(q *agent.Question)
		status int
		logged string // of a 500
	}{
		{"another name", func(q *agent.Question) { q.Files[0].Name = "square.png" }, 200, ""},
		{"a name that is no file's", func(q *agent.Question) { q.Files[0].Name = "a\x00.png" }, 500, "left a name of 6 bytes"},
		{"no file", func(q *agent.Question) { q.Files = nil }, 500, "changed the number of files"},
		{"one more", func(q *agent.Question) { q.Files = append(q.Files, q.Files[0]) }, 500, "changed the number of files"},
		{"no text", func(q *agent.Question) { q.Text = " " }, 500, "left 0 bytes"},
		{"the longest text", func(q *agent.Question) { q.Text, q.Files[0].Name = strings.Repeat("x", 64<<10), "square.png" }, 200, ""},
		{"a text that is too long", func(q *agent.Question) { q.Text = strings.Repeat("x", 64<<10+1) }, 500, "left 65537 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, written := serveAgent(t, newMemory(), gemini, hooked(agent.Hooks{Question: func(_ context.Context, q *agent.Question) error {
				if len(q.Files) != 1 || q.Files[0].Type != "image/png" {
					t.Errorf("the hook sees %+v", q.Files)
				}
				tt.hook(q)
				return nil
			}}), withFiles(t, nil, false))
			gemini.Enqueue(geminitest.Text("A square."))
			body, _ := withPicture(t)
			status, answer, text := askFiles(t, server, "/invoke", body)
			if status != tt.status || status == 500 && (answer.Error != "internal" || len(gemini.Requests()) > 0) {
				t.Fatalf("%d %s", status, text)
			}
			if status != 200 {
				server.Close() // the log is written after the answer
				if !strings.Contains(written.String(), tt.logged) {
					t.Errorf("the log: %s", written)
				}
				return
			}
			if stored := get(t, server, "/sessions/"+answer.Data.SessionID); !strings.Contains(stored, `"files":[{"name":"square.png","type":"image/png"}]`) {
				t.Errorf("the session: %.300s", stored)
			}
		})
	}
}

// What a hook Model answers without a model call has nothing of the call before it: the size
// that the turn keeps is that of the prompt which the model has counted.
func TestAHookThatGivesAnAnswerItsForm(t *testing.T) {
	t.Parallel()
	prompt := func(output *agent.Output) session.Prompt {
		t.Helper()
		gemini, store, calls := geminitest.Start(t), newMemory(), 0
		a := hooked(agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, next func() error) error {
			if calls++; calls == 1 {
				return next()
			}
			c.Answer = genai.NewContentFromText(`{"amount": 5}`, genai.RoleModel)
			return nil
		}})
		a.Output = output
		gemini.Enqueue(geminitest.Text("Five."))
		return promptOf(t, asked(t, store, gemini, a), store)
	}
	if text, typed := prompt(nil), prompt(agent.OutputOf[price]()); text != typed || text.Tokens == 0 {
		t.Errorf("of a text %+v, and with a form from the hook %+v", text, typed)
	}
}

// What a hook Model puts in the place of a failure has none of the sources of an answer without
// text.
func TestAHookInThePlaceOfAnEmptyAnswer(t *testing.T) {
	t.Parallel()
	gemini, store := geminitest.Start(t), newMemory()
	gemini.Handle(func(geminitest.Request) geminitest.Reply {
		return geminitest.Finish("MAX_TOKENS", "").WithSearch([]string{"go speed"}, geminitest.Source{Title: "Go", URI: "https://go.dev/"})
	})
	s := asked(t, store, gemini, hooked(agent.Hooks{Model: func(_ context.Context, c *agent.ModelCall, next func() error) error {
		if next() == nil {
			t.Error("next returns no error")
		}
		c.Answer = genai.NewContentFromText("Come back later.", genai.RoleModel)
		return nil
	}}))
	response, err := s.Ask(ofCaller(t, "caller"), invoke.Request{Query: "hello"}, nil)
	if err != nil || response.Response != "Come back later." || len(response.Sources) != 0 {
		t.Errorf("%+v, %v", response, err)
	}
}

// promptOf asks s a question and returns what its turn keeps of the prompt.
func promptOf(t *testing.T, s *invoke.Service, store session.Store) session.Prompt {
	t.Helper()
	_, record := firstTurn(t, s, store)
	prompt, _ := record.Prompt()
	return prompt
}

// firstTurn asks s a question and returns its answer, and its turn as store has it.
func firstTurn(t *testing.T, s *invoke.Service, store session.Store) (*invoke.Response, session.Record) {
	t.Helper()
	response, err := s.Ask(ofCaller(t, "caller"), invoke.Request{Query: "hello"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, records, err := store.Turns(t.Context(), session.Key{Owner: session.OwnerOf("caller", ""), ID: response.SessionID}, 0, 1)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d turns, %v", len(records), err)
	}
	return response, records[0]
}

// A hook Tool that changes arguments in place changes what the tool gets, and not the model's
// call, which is shown and stored.
func TestAHookChangesArgumentsInPlace(t *testing.T) {
	t.Parallel()
	type list struct {
		Items []string `json:"items"`
	}
	a := agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("join", "It joins.", func(_ context.Context, in list) (string, error) { return strings.Join(in.Items, "+"), nil }),
	}}
	a.Hooks.Tool = func(_ context.Context, c *agent.ToolCall, next func() error) error {
		c.Args["items"].([]any)[0] = "changed"
		return next()
	}
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, a)
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "join", Args: map[string]any{"items": []string{"first", "second"}}}), geminitest.Text("Done."))
	_, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
	if told := output(t, gemini); !strings.Contains(told, "changed+second") {
		t.Errorf("the model is told %s", told)
	}
	if stored := get(t, server, "/sessions/"+decodeAnswer(t, answer).Data.SessionID); !strings.Contains(stored, `"args":{"items":["first","second"]}`) {
		t.Errorf("the session: %s", stored)
	}
}

// What a hook passes on of the model's answer or failure is the model's, and an answer of which
// a hook leaves nothing is held back.
func TestAHookThatPassesOn(t *testing.T) {
	t.Parallel()
	passesOn := agent.Hooks{Model: func(_ context.Context, _ *agent.ModelCall, next func() error) error { return next() }}
	for _, tt := range []struct {
		name   string
		hooks  agent.Hooks
		reply  geminitest.Reply
		status int
		want   string // in the answer
	}{
		{"the model's failure", passesOn, geminitest.Error(404, "no such model"), 503, `"error":"not_ready"`},
		{"an answer that is held back", passesOn, geminitest.Blocked("SAFETY"), 422, `"error":"content_blocked"`},
		{"an answer that was cut", passesOn, geminitest.Finish("MAX_TOKENS", "Do"), 200, `"finish_reason":"MAX_TOKENS"`},
		{"no text", agent.Hooks{Answer: func(_ context.Context, a *agent.Answer) error { a.Text = ""; return nil }}, geminitest.Text("Done."), 422, `"error":"content_blocked"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, _ := serveAgent(t, newMemory(), gemini, hooked(tt.hooks))
			gemini.Enqueue(tt.reply)
			if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != tt.status || !strings.Contains(answer, tt.want) || len(gemini.Requests()) != 1 {
				t.Errorf("%d %s after %d model calls", status, answer, len(gemini.Requests()))
			}
		})
	}
}
