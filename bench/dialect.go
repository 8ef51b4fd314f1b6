package main

import (
	"fmt"
	"strings"

	"example.com/gatehouse/bench/internal/answer"
)

// A dialect is how a server is asked and how it answers.
type dialect struct {
	live    string                                   // path that answers GET as soon as the process does
	create  string                                   // path to POST to before a session's first turn, with %s for its id; "" for none
	path    func(stream bool) string                 // of a turn
	body    func(c conversation, stream bool) string // of a turn
	text    string                                   // the member of an answer that has its text
	piece   string                                   // the member of a stream's events that has theirs
	named   bool                                     // the client chooses a session's id
	carried bool                                     // the client sends the whole conversation
	repeats bool                                     // a stream's last text is the whole answer once more
}

// A conversation is what a turn continues.
type conversation struct {
	session string // "" begins one
	turns   int    // before this one
}

const question = "Which deployment option suits a small service, and why?"

// functions are asked as this project's is, with a member for the question.
func functions(query string) dialect {
	return dialect{
		live: "/health/live", path: func(bool) string { return "/" }, text: "response", piece: "text",
		body: func(c conversation, _ bool) string {
			if c.session == "" {
				return fmt.Sprintf(`{%q: %q}`, query, question)
			}
			return fmt.Sprintf(`{%q: %q, "session_id": %q}`, query, question, c.session)
		},
	}
}

var (
	invoke = functions("query")

	// flow is a flow of Genkit's.
	flow = func() dialect {
		d := functions("data")
		d.text, d.piece, d.repeats = "result", "message", true
		return d
	}()

	// adkGo is the REST server of ADK for Go, which wants sessions created.
	adkGo = func() dialect {
		d := adk("/api")
		d.create = "/api/apps/assistant/users/bench/sessions/%s"
		return d
	}()

	// adkPython is that of ADK for Python, which creates them itself when told to.
	adkPython = adk("")

	// chatCompletions is OpenAI's, whose clients send the whole conversation.
	chatCompletions = dialect{
		live: "/health/liveliness", carried: true, path: func(bool) string { return "/v1/chat/completions" }, text: "content", piece: "content",
		body: func(c conversation, stream bool) string {
			var past strings.Builder
			for range c.turns {
				fmt.Fprintf(&past, `{"role": "user", "content": %q}, {"role": "assistant", "content": %q}, `, question, answer.Text)
			}
			return fmt.Sprintf(`{"model": "assistant", "stream": %t, "messages": [%s{"role": "user", "content": %q}]}`, stream, &past, question)
		},
	}

	// gemini is the model's own.
	gemini = dialect{
		live: "/", text: "text",
		path: func(bool) string { return "/v1beta/models/gemini-2.5-flash:generateContent" },
		body: func(conversation, bool) string {
			return fmt.Sprintf(`{"contents": [{"role": "user", "parts": [{"text": %q}]}]}`, question)
		},
	}
)

func adk(prefix string) dialect {
	return dialect{
		live: prefix + "/list-apps", text: "text", piece: "text", named: true, repeats: true,
		path: func(stream bool) string {
			if stream {
				return prefix + "/run_sse"
			}
			return prefix + "/run"
		},
		body: func(c conversation, stream bool) string {
			return fmt.Sprintf(`{"appName": "assistant", "userId": "bench", "sessionId": %q, "streaming": %t, "newMessage": {"role": "user", "parts": [{"text": %q}]}}`,
				c.session, stream, question)
		},
	}
}

// alive asks whether the process answers at all.
func (t target) alive() []byte {
	return []byte("GET " + t.dialect.live + " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
}

const (
	acceptJSON   = "application/json"
	acceptStream = "text/event-stream"
)

// turn is the request of one turn.
func (t target) turn(accept string, c conversation, headers ...string) []byte {
	stream := accept == acceptStream
	return t.post(t.dialect.path(stream), accept, t.dialect.body(c, stream), headers...)
}

// creation is the request that creates a session, or nil where its first turn does.
func (t target) creation(session string) []byte {
	if t.dialect.create == "" {
		return nil
	}
	return t.post(fmt.Sprintf(t.dialect.create, session), acceptJSON, "{}")
}

func (t target) post(path, accept, body string, headers ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		path, accept, len(body))
	for _, header := range append(headers, t.headers...) {
		b.WriteString(header + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}
