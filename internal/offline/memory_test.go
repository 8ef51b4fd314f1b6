package offline_test

import (
	"strings"
	"testing"
)

const note = "*This answer comes from the offline stand-in, not from Gemini.*"

func TestTheSessionIsRemembered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		said  []string
		wants string // in the answer to the last
	}{
		{"a name", []string{"My name is Ada.", "What is my name?"}, "Your name is **Ada**"},
		{"a name said otherwise", []string{"I am called Grace Hopper and I like cats", "do you know who I am"}, "**Grace Hopper**"},
		{"a short name", []string{"Hi, I'm Ada", "What's my name?"}, "**Ada**"},
		{"the latest name", []string{"My name is Ada", "call me Bob", "who am i"}, "**Bob**"},
		{"a name beside a question", []string{"My name is Ada. How do I deploy to Cloud Run?", "What's my name?"}, "**Ada**"},
		{"a name in the same message", []string{"My name is Ada. What is my name?"}, "**Ada**"},
		{"no name", []string{"What is my name?"}, "You have not told me your name"},
		{"no name in what one does", []string{"I'm trying to deploy", "what is my name?"}, "You have not told me your name"},
		{"no name in what one feels", []string{"I'm Sorry.", "what is my name?"}, "You have not told me your name"},
		{"not this name", []string{"Don't call me Bob", "what is my name?"}, "You have not told me your name"},
		{"a colour, spelt otherwise", []string{"my favourite colour is blue", "what's my favorite color?"}, "Your favourite colour is **blue**"},
		{"no colour", []string{"what's my favourite colour?"}, "You have not told me your favourite colour"},
		{"two facts in a sentence", []string{"my name is Ada and my dog's name is Rex", "what is my dog's name?"}, "**Rex**"},
		{"an acknowledgement", []string{"my favourite colour is blue"}, "your favourite colour is **blue**"},
		{"something to remember", []string{"Remember that the launch code is 1234", "what is the launch code?"}, "**1234**"},
		{"where one lives", []string{"I live in Paris", "where do I live?"}, "I live in Paris"},
		{"all of it", []string{"my name is Ada", "remember to buy milk", "what did I tell you?"}, "- **Name:** Ada\n- “to buy milk”"},
		{"nothing of it", []string{"what did I tell you?"}, "not told me anything"},
		{"the first question", []string{"How do I secure it?", "thanks", "what did I ask first?"}, "“How do I secure it?”"},
		{"the last question", []string{"How do I secure it?", "What are my options?", "what was my last question?"}, "“What are my options?”"},
		{"the questions so far", []string{"How do I secure it?", "What are my options?", "what did I ask so far?"}, "- “How do I secure it?”\n- “What are my options?”"},
		{"no question", []string{"what did I ask before?"}, "first message of yours"},
		{"a long question in short", []string{strings.Repeat("lorem ipsum ", 500), "what did I ask before?"}, "ipsum…”"},
		{"a greeting by name", []string{"my name is Ada", "hello"}, "Hello, Ada!"},
		{"a greeting", []string{"Hello there!"}, "**Deployment options**: Lists the ways"},
		{"how it is", []string{"how are you doing?"}, "running"},
		{"thanks", []string{"Thank you very much for your help"}, "You are welcome"},
		{"thanks and a name", []string{"Thanks. My name is Ada", "and my name?"}, "**Ada**"},
		{"who it is", []string{"Are you Gemini?"}, "stand in for the model"},
		{"what it can do", []string{"what can you do?"}, "**Deployment status**"},
		{"help", []string{"help"}, "**Best practices**"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newChat(t, shipped...)
			var text string
			for _, said := range test.said {
				_, text = c.ask(t, said)
			}
			if !strings.Contains(text, test.wants) || strings.Count(text, note) != 1 || len(text) > 2000 {
				t.Errorf("got %q, want it to hold %q", text, test.wants)
			}
		})
	}
}
