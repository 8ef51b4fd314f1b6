package invoke_test

import (
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A client of chat completions names neither its turns nor its messages. Who asks for another
// answer is told from who asks the same again by the history that comes along: that ends with
// the answer, or does not. Each case is what the client sends, U a question and A an answer,
// after the turns of the session.
func TestRegenerationsAndQuestionsThatAreAskedAgain(t *testing.T) {
	t.Parallel()
	const none = "no session"
	for name, c := range map[string]struct {
		turns []string // question and answer of each
		sent  []string // in turns: the user's, the agent's
		want  string   // the session's turns
	}{
		"another answer to the only question":     {[]string{"ping", "one"}, []string{"ping"}, "ping=new"},
		"another answer to the last question":     {[]string{"hi", "hello", "ping", "one"}, []string{"hi", "hello", "ping"}, "hi=hello ping=new"},
		"the same again":                          {[]string{"ping", "one"}, []string{"ping", "one", "ping"}, "ping=one ping=new"},
		"the same again, with the same answer":    {[]string{"ping", "new"}, []string{"ping", "new", "ping"}, "ping=new ping=new"},
		"the same for the third time":             {[]string{"ping", "one", "ping", "two"}, []string{"ping", "one", "ping", "two", "ping"}, "ping=one ping=two ping=new"},
		"another answer to what was asked twice":  {[]string{"ping", "one", "ping", "two"}, []string{"ping", "one", "ping"}, "ping=one ping=new"},
		"the same again, the oldest left out":     {[]string{"hi", "hello", "ping", "one"}, []string{"ping", "one", "ping"}, "hi=hello ping=one ping=new"},
		"for the third time, the oldest left out": {[]string{"ping", "one", "ping", "two"}, []string{"ping", "two", "ping"}, "ping=one ping=two ping=new"},
		"another answer, all of them the same":    {[]string{"ping", "pong", "ping", "pong"}, []string{"ping", "pong", "ping"}, "ping=pong ping=new"},
		"the same again, a turn in the middle removed": {
			[]string{"a", "1", "b", "2", "c", "3"}, []string{"a", "1", "c", "3", "c"}, "a=1 b=2 c=3 c=new",
		},
		"the same again, the oldest left out, all answers the same": {
			[]string{"hi", "pong", "ping", "pong"}, []string{"ping", "pong", "ping"}, "hi=pong ping=pong ping=new",
		},
		"another question, the oldest left out": {[]string{"hi", "hello", "ping", "one"}, []string{"ping", "one", "pong"}, none},
		"the last question edited":              {[]string{"hi", "hello", "ping", "one"}, []string{"hi", "hello", "pong"}, none},
		"more than the session has":             {[]string{"ping", "one"}, []string{"ping", "one", "hi", "hello", "ping"}, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini, ctx, store := geminitest.Start(t), ofCaller(t, "caller"), newMemory()
			s := asked(t, store, gemini, agent.Agent{Name: "agent", MaxTokens: 100})
			ask := func(sent []string, answer string) *invoke.Response {
				t.Helper()
				var messages []invoke.Message
				for i, text := range sent {
					messages = append(messages, invoke.Message{User: i%2 == 0, Text: text})
				}
				question, history, err := invoke.Conversation(messages)
				if err != nil {
					t.Fatal(err)
				}
				req := completion("", question)
				req.Options.History = history
				if err := s.Continue(ctx, &req, conversation, true); err != nil {
					t.Fatal(err)
				}
				gemini.Enqueue(geminitest.Text(answer))
				got, err := s.Ask(ctx, req, nil)
				if err != nil || got.Response != answer {
					t.Fatalf("%+v, %v", got, err)
				}
				return got
			}
			for i := 0; i < len(c.turns); i += 2 {
				ask(c.turns[:i+1], c.turns[i+1])
			}
			got := ask(c.sent, "new")
			if (got.SessionID == conversation) == (c.want == none) {
				t.Errorf("it went to the session %q", got.SessionID)
			}
			current, err := store.Load(ctx, session.Key{Owner: session.OwnerOf("caller", ""), ID: conversation})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, r := range current.Recent {
				turn, err := r.Turn()
				if err != nil {
					t.Fatal(err)
				}
				question, answer := turn.Texts()
				all = append(all, question+"="+answer)
			}
			want := c.want
			if want == none {
				all, want = all[:], ""
				for i := 0; i < len(c.turns); i += 2 {
					want += " " + c.turns[i] + "=" + c.turns[i+1]
				}
				want = want[1:]
			}
			if strings.Join(all, " ") != want {
				t.Errorf("the session has %q, want %q", all, want)
			}
		})
	}
}
