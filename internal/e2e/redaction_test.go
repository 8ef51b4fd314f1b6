package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	gcp "cloud.google.com/go/firestore"
	"google.golang.org/protobuf/encoding/protojson"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
	gatehouse "example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/tool"
)

// cardNumber is as in docs/your-agent.md, whose hooks redacting has.
var cardNumber = regexp.MustCompile(`\b\d(?:[ -]?\d){12,18}\b`)

func redact(text string) string { return cardNumber.ReplaceAllString(text, "[card number]") }

// redacting is an agent that sees no card number, whose model and tools know one.
func redacting(context.Context, agent.Env) (agent.Agent, error) {
	type account struct {
		Owner string           `json:"owner"`
		Card  string           `json:"card"`
		Cards []map[string]any `json:"cards"`
	}
	type in struct {
		Card any `json:"card,omitempty"`
	}
	return agent.Agent{
		Name: "redacting",
		Tools: []tool.Tool{
			tool.New("get_account", "Returns the account.", func(ctx context.Context, _ in) (account, error) {
				tool.Progress(ctx, "Looks for 5500-0000-0000-0004.")
				return account{"Ada", "5500 0000 0000 0004", []map[string]any{
					{"number": int64(5500000000000004), "5500000000000004": []any{"card 5500 0000 0000 0004", 5500000000000004.0}},
				}}, nil
			}, tool.Show()),
			tool.New("block", "Blocks a card.", func(context.Context, in) (string, error) {
				return "", errors.New("the card 5500 0000 0000 0004 is blocked already")
			}, tool.Show()),
		},
		Hooks: agent.Redaction(redact),
	}, nil
}

// No card number of a question, the name of its file, a tool's arguments, output, error or
// progress, a model, a comment, a reason or a title is in the store, its titles, the log with content,
// spans, metrics, prompts or answers: with JSON, a stream and a chat, keyed and replayed.
func TestRedaction(t *testing.T) {
	gemini, collector, log := geminitest.Start(t), telemetrytest.New(t), &testlog.Buffer{}
	project := emulator.Project()
	env := map[string]string{}
	for _, pair := range traced(collector, "SESSION_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+emulatorHost(t), "LOG_CONTENT=true",
		"AUTH=none", "ENVIRONMENT=development", "GOOGLE_GEMINI_BASE_URL="+gemini.URL, "GEMINI_API_KEY="+apiKey, "GOOGLE_CLOUD_PROJECT="+project) {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
		if strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value) // the SDK reads them itself
		}
	}
	s := gatehouse.New(gatehouse.Options{
		Agent: redacting, Log: log, Loopback: true,
		Lookup: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
	})
	if err := s.Ready(bounded(t)); err != nil {
		t.Fatal(err)
	}
	seen := ""
	ask := func(method, path, body string, headers ...string) string {
		t.Helper()
		r := httptest.NewRequestWithContext(bounded(t), method, "http://127.0.0.1"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.Both.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusNoContent {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		seen += w.Body.String()
		return w.Body.String()
	}
	const question = "My card 4111-1111-1111-1111 was stolen, and 4111111111111111 too"
	replies := []geminitest.Reply{
		geminitest.Parts(map[string]any{"text": "They mean 4111 1111 1111 1111.", "thought": true}, map[string]any{"text": "Let me see 4111 1111 1111 "}, map[string]any{"text": "1111."},
			map[string]any{"functionCall": map[string]any{"name": "get_account", "args": map[string]any{"card": 4111111111111111}}},
			map[string]any{"functionCall": map[string]any{"name": "block", "args": map[string]any{"card": []any{"4111 1111 1111 1111"}}}}),
		geminitest.Text("The card 5500 0000 ", "0000 0004 ", "is blocked."),
	}
	for _, body := range []string{fmt.Sprintf(`{"query": %q}`, question), fmt.Sprintf(`{"query": %q, "stream": true}`, question)} {
		gemini.Enqueue(replies...)
		ask(http.MethodPost, "/invoke", body, "Idempotency-Key", body[len(body)-6:])
		if answer := ask(http.MethodPost, "/invoke", body, "Idempotency-Key", body[len(body)-6:]); !strings.Contains(answer, "[card number]") {
			t.Errorf("the replay is %s", answer)
		}
	}
	gemini.Enqueue(replies...)
	chat := ask(http.MethodPost, "/chat", fmt.Sprintf(`{"id": "AAAAAAAAAAAAAAAAAAAAAA", "trigger": "submit-message", "messages": [{"role": "user", "parts": [{"type": "text", "text": %q},
		{"type": "file", "mediaType": "text/plain", "filename": "4111 1111 1111 1111.txt", "url": "data:text/plain;base64,SGVsbG8="}]}]}`, question))
	if !strings.Contains(chat, "is blocked.") {
		t.Errorf("the chat is %s", chat)
	}
	if list := ask(http.MethodGet, "/sessions", ""); strings.Count(list, `"title":"My card [card number] was stolen`) != 3 {
		t.Errorf("the sessions are %s", list)
	}
	ask(http.MethodPut, "/sessions/AAAAAAAAAAAAAAAAAAAAAA/turns/1/feedback", `{"score": -1, "comment": "It has said 4111 1111 1111 1111!"}`)
	if turn := ask(http.MethodGet, "/sessions/AAAAAAAAAAAAAAAAAAAAAA", ""); !strings.Contains(turn, "[card number].txt") || !strings.Contains(turn, "It has said [card number]!") {
		t.Errorf("the session is %s", turn)
	}
	ask(http.MethodPut, "/sessions/AAAAAAAAAAAAAAAAAAAAAA/title", `{"title": "The stolen 4111 1111 1111 1111"}`)
	if list := ask(http.MethodGet, "/sessions", ""); !strings.Contains(list, `"title":"The stolen [card number]"`) {
		t.Errorf("the sessions are %s", list)
	}
	gemini.Enqueue(geminitest.Text("Which one?"))
	ask(http.MethodPost, "/invoke", `{"query": "And the file?", "session_id": "AAAAAAAAAAAAAAAAAAAAAA"}`)
	if err := s.Drain(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if len(collector.Spans()) == 0 || len(collector.Metrics()) == 0 || !strings.Contains(log.String(), "Content of a turn.") || !strings.Contains(log.String(), "[card number]") {
		t.Error("no spans, no metrics, or no content in the log: the test would see nothing")
	}
	for _, shown := range []string{`"text":"Looks for [card number]."`, `"args":{"card":"[card number]"}`, `"args":{"card":["[card number]"]}`, `"error":"the card [card number] is blocked already"`} {
		if !strings.Contains(seen, shown) {
			t.Errorf("no answer has %s", shown)
		}
	}
	stored := dump(t, emulator.Connect(t, emulatorHost(t), project))
	if !strings.Contains(stored, "[card number]") {
		t.Errorf("the store is %s", stored)
	}
	places := map[string]string{"an answer": seen, "the log": log.String(), "the store": stored}
	for _, request := range gemini.Requests() {
		places["a prompt"] += string(request.Raw)
	}
	for _, span := range collector.Spans() {
		places["a span"] += measured.ReplaceAllString(protojson.Format(span), "")
	}
	for _, metric := range collector.Metrics() {
		places["a metric"] += measured.ReplaceAllString(protojson.Format(metric), "")
	}
	for place, text := range places {
		if at := leak.FindStringIndex(text); at != nil {
			t.Errorf("a card number is in %s: …%s…", place, text[max(0, at[0]-200):min(len(text), at[1]+60)])
		}
	}
}

// measured matches times and measured values, whose digits may be those of a card by chance.
var measured = regexp.MustCompile(`"(\w*UnixNano|sum|min|max|asDouble|asInt|count)":\s+"?[-+.0-9e]+"?`)

// leak matches digits of the test's cards, with or without what is between them.
var leak = regexp.MustCompile(`4111[ -]?1111|5500[ -]?0000`)

// dump returns all documents of a database.
func dump(t *testing.T, client *gcp.Client) string {
	t.Helper()
	var b bytes.Buffer
	for _, query := range []gcp.Query{
		client.Collection("sessions").Query, client.CollectionGroup("archive").Query, client.Collection("users").Query, client.Collection("runs").Query,
		client.Collection("limits").Query, client.Collection("figures").Query,
	} {
		documents, err := query.Documents(bounded(t)).GetAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents {
			fmt.Fprintf(&b, "%s: %s\n", d.Ref.Path, plain(d.Data()))
		}
	}
	return b.String()
}

// plain writes a document's data with bytes as text.
func plain(value any) string {
	switch v := value.(type) {
	case []byte:
		return string(v)
	case map[string]any:
		text := "{"
		for name, member := range v {
			text += name + ": " + plain(member) + " "
		}
		return text + "}"
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(encoded)
}
