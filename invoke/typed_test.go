package invoke_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/tool"
)

type price struct {
	Amount int64  `json:"amount"`
	Unit   string `json:"unit,omitempty"`
}

// What is asked once more counts with all that is sent for it.
func TestATypedAnswerThatMayPassItsBudget(t *testing.T) {
	t.Parallel()
	for budget, want := range map[int64]int{1000: http.StatusTooManyRequests, 10_000: http.StatusOK} {
		gemini := geminitest.Start(t)
		gemini.Enqueue(geminitest.Text(strings.Repeat("Five. ", 2000)), geminitest.Text(`{"amount": 5}`))
		server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", MaxTokens: 100, Output: agent.OutputOf[price]()}, func(c *invoke.Config) {
			c.Limits = limit.Limits{PerMinute: 100, CallerPerMinute: 100, PerDay: budget, CallerPerDay: budget}
			c.Limiter = limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
		})
		if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != want {
			t.Errorf("with a budget of %d: %d %s", budget, status, answer)
		}
	}
}

// An answer of a type is asked for, checked, and asked for once more.
func TestTypedAnswers(t *testing.T) {
	t.Parallel()
	call := geminitest.Calls(geminitest.FunctionCall{Name: "own"})
	const good, wrong, value = `{"amount": 5, "unit": "EUR"}`, `{"amount": "five"}`, `{"amount":5,"unit":"EUR"}`
	long := `{"amount":5,"unit":"` + strings.Repeat("E", 300<<10) + `"}`
	for _, tt := range []struct {
		name    string
		model   string
		tools   bool
		replies []geminitest.Reply
		schemas []bool // whether each call asks for JSON
		want    string // "": the error
		code    string
	}{
		{"at once", "gemini-2.5-flash", false, []geminitest.Reply{geminitest.Text(good[:9], good[9:])}, []bool{true}, value, ""},
		{"that takes most of the turn", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Text(long)}, []bool{true}, long, ""},
		{"beside tools", "gemini-3.8-flash", true, []geminitest.Reply{call, geminitest.Text(good)}, []bool{true, true}, value, ""},
		{"with text before a tool", "gemini-3.8-flash", true, []geminitest.Reply{geminitest.Parts(members{"text": "Let me look."}, members{"functionCall": members{"name": "own", "args": members{}}}), geminitest.Text(good)}, []bool{true, true}, value, ""},
		{"of a model that refuses both", "gemini-2.5-flash", true, []geminitest.Reply{call, geminitest.Text("It costs five euros."), geminitest.Text(good)}, []bool{false, false, true}, value, ""},
		{"of a model that nobody knows", "gemini-9", true, []geminitest.Reply{geminitest.Text("It costs five euros."), geminitest.Text(good)}, []bool{false, true}, value, ""},
		{"asked for once more", "gemini-3.8-flash", true, []geminitest.Reply{geminitest.Text(wrong), geminitest.Text(good)}, []bool{true, true}, value, ""},
		{"text, asked for once more", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Text("Five."), geminitest.Text("```json\n" + good + "\n```")}, []bool{true, true}, value, ""},
		{"that is cut, asked for once more", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Finish("MAX_TOKENS", `{"amount": 5`), geminitest.Text(good)}, []bool{true, true}, value, ""},
		{"that never fits", "gemini-3.8-flash", true, []geminitest.Reply{geminitest.Text(wrong), geminitest.Text(wrong)}, []bool{true, true}, "", "model_failed"},
		{"that never fits, of a model that refuses both", "gemini-2.5-flash", true, []geminitest.Reply{geminitest.Text("Five."), geminitest.Text(wrong), geminitest.Text("Five!")}, []bool{false, true, true}, "", "model_failed"},
		{"that is held back", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Blocked("SAFETY")}, []bool{true}, "", "content_blocked"},
		{"that is held back when asked again", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Text(wrong), geminitest.Finish("SAFETY", "")}, []bool{true, true}, "", "content_blocked"},
		{"that leaves the turn too little", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Text(`{"amount":5,"unit":"` + strings.Repeat("E", 430<<10) + `"}`)}, []bool{true}, "", "model_failed"},
		{"that does not fit in the turn", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Text(`{"amount": 5,` + strings.Repeat(" ", 450<<10) + `"unit": "EUR"}`)}, []bool{true}, "", "model_failed"},
		{"of a model that is gone when asked for the form", "gemini-2.5-flash", true, []geminitest.Reply{geminitest.Text("Five."), geminitest.Error(404, "no such model")}, []bool{false, true}, "", "not_ready"},
		{"of a model that is gone when asked again", "gemini-3.8-flash", false, []geminitest.Reply{geminitest.Text(wrong), geminitest.Error(404, "no such model")}, []bool{true, true}, "", "not_ready"},
	} {
		for _, form := range []string{"JSON", "stream", "page"} {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				gemini.Enqueue(tt.replies...)
				a := agent.Agent{Name: "agent", MaxTokens: 1000, Output: agent.OutputOf[price]()}
				if tt.tools {
					a.Tools = []tool.Tool{named("own", "mine")}
				}
				server, _ := serveAgent(t, newMemory(), gemini, a, func(c *invoke.Config) { c.ModelName = tt.model })
				const id = "0123456789abcdef"
				path, body := "/invoke", `{"query": "hello"}`
				switch form {
				case "stream":
					body = `{"query": "hello", "stream": true}`
				case "page":
					path, body = "/chat", `{"id": "`+id+`", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}]}`
				}
				_, text := ask(t, server, path, body)
				var schemas []bool
				for _, request := range gemini.Requests() {
					settings := request.Body["generationConfig"].(members)
					schemas = append(schemas, settings["responseJsonSchema"] != nil && settings["responseMimeType"] == "application/json")
				}
				if !slices.Equal(schemas, tt.schemas) {
					t.Errorf("asks for JSON: %v, want %v", schemas, tt.schemas)
				}
				if tt.want == "" {
					if !strings.Contains(text, tt.code) && form != "page" || strings.Contains(text, `"delta"`) {
						t.Errorf("%s", text)
					}
					return
				}
				session := id
				switch form {
				case "JSON":
					session = checkTyped(t, []byte(text), tt.want)
				case "stream":
					joined, response := deltas(t, text)
					_, data := eventsOf(t, text)
					done, _ := json.Marshal(data[len(data)-1])
					if session = checkTyped(t, done, tt.want); joined != tt.want || response != joined {
						t.Errorf("deltas %q, response %q", joined, response)
					}
				case "page":
					names, data := eventsOf(t, text)
					if said := data[slices.Index(names, "text-delta")]["delta"]; said != tt.want {
						t.Errorf("said %q", said)
					}
					if output, _ := json.Marshal(data[len(data)-1]["messageMetadata"].(members)["output"]); string(output) != tt.want {
						t.Errorf("output %s", output)
					}
				}
				turn := readData(t, server, "/sessions/"+session)["turns"].([]any)[0].(members)
				if output, _ := json.Marshal(turn["output"]); string(output) != tt.want || turn["response"] != tt.want {
					t.Errorf("stored %s, %s", output, turn["response"])
				}
				parts := turn["parts"].([]any)
				if last := parts[len(parts)-1].(members); last["type"] != "text" || last["text"] != tt.want {
					t.Errorf("parts %v", parts)
				}
				// What was said for the form is not in the history.
				gemini.Forget()
				gemini.Enqueue(geminitest.Text(good), geminitest.Text(good))
				if status, text := ask(t, server, "/invoke", `{"query": "again", "session_id": "`+session+`"}`); status != http.StatusOK {
					t.Fatal(text)
				}
				if raw := string(gemini.Requests()[0].Raw); strings.Contains(raw, "fits the schema") || strings.Contains(raw, "five") {
					t.Errorf("history %s", raw)
				}
			})
		}
	}
}

// What does not fit is content, too: the log has it only where it has that of all turns.
func TestAnAnswerThatNeverFitsIsNotLogged(t *testing.T) {
	t.Parallel()
	for _, content := range []bool{false, true} {
		for _, stream := range []string{"false", "true"} {
			gemini := geminitest.Start(t)
			const answer = `{"amount": "` + theSecret + `"}`
			gemini.Enqueue(geminitest.Text(answer), geminitest.Text(answer))
			server, log := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", Output: agent.OutputOf[price]()}, func(c *invoke.Config) { c.LogContent = content })
			_, text := ask(t, server, "/invoke", `{"query": "hello", "stream": `+stream+`}`)
			if !strings.Contains(text, "model_failed") || strings.Contains(text, theSecret) {
				t.Errorf("%s", text)
			}
			server.Close() // the log is written after the answer
			if logged := log.String(); !strings.Contains(logged, "the answer does not fit its type") || strings.Contains(logged, theSecret) != content {
				t.Errorf("with content %v: %s", content, logged)
			}
		}
	}
}

// checkTyped checks the envelope of a typed answer and returns the session's id.
func checkTyped(t *testing.T, envelope []byte, want string) string {
	t.Helper()
	var answered struct {
		Data struct {
			Response  string
			Output    json.RawMessage
			SessionID string `json:"session_id"`
		}
	}
	if err := json.Unmarshal(envelope, &answered); err != nil || answered.Data.Response != want || string(answered.Data.Output) != want {
		t.Errorf("%v: %s", err, envelope)
	}
	return answered.Data.SessionID
}

// An oddAmount decodes itself, in the agent's own code.
type oddAmount int

var released = make(chan struct{}, 1) // each send lets one that blocks go on

func (*oddAmount) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case "1":
		panic(theSecret)
	case "2":
		<-released
	}
	return nil
}

func TestATypeThatFailsToDecode(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() { released <- struct{}{} })
	for answer, want := range map[string]int{`{"amount":1}`: http.StatusInternalServerError, `{"amount":2}`: http.StatusGatewayTimeout} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			a := agent.Agent{Name: "agent", MaxTokens: 100, Output: agent.OutputOf[struct {
				Amount oddAmount `json:"amount"`
			}]()}
			server, written := serveFor(t, newMemory(), gemini, a, time.Second)
			gemini.Enqueue(geminitest.Text(answer))
			status, text := ask(t, server, "/invoke", `{"query":"how much?"}`)
			if status != want || strings.Contains(text, theSecret) {
				t.Errorf("%d %s, the log: %s", status, text, written)
			}
		})
	}
}
