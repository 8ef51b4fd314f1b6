package model_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the SDK writes there of streams that end badly
	// A variable of the machine's must not lead a test to another server.
	for _, name := range []string{"GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_CLOUD_PROJECT", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"} {
		_ = os.Unsetenv(name)
	}
	goleak.VerifyTestMain(m)
}

// apiKey must not be in any error.
const apiKey = "AIzaSyTheKeyThatNobodyMaySee"

// Both of Gemini's backends.
var backends = []struct {
	name   string
	vertex bool
}{
	{"Developer API", false},
	{"Vertex AI", true},
}

// client asks the server at url.
func client(t testing.TB, url string, vertex bool) *model.Client {
	t.Helper()
	return newClient(t, model.Config{
		APIKey: apiKey, VertexAI: vertex, Project: "a-project", Location: "europe-west4", BaseURL: url, Loopback: true,
	})
}

func newClient(t testing.TB, c model.Config) *model.Client {
	t.Helper()
	m, err := model.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// serve starts a server that lives as long as the test.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handlers that break connections
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// question is a request whose answer does not matter.
func question() model.Request {
	return model.Request{
		Model:     "gemini-2.5-flash",
		Contents:  []*genai.Content{genai.NewContentFromText("How are you?", genai.RoleUser)},
		MaxTokens: 100, PromptTokens: 3,
	}
}

// priced is u with what the question's model asks for it.
func priced(u session.Usage) session.Usage {
	u.EstimatedCostUSD = models.BuiltIn().Estimate(question().Model, models.Tokens{
		Prompt: u.PromptTokens, Cached: u.CachedTokens, Output: u.CompletionTokens + u.ThoughtTokens,
	}, time.Now())
	return u
}

// dropText takes the pieces of a stream that no test looks at.
func dropText(_, _ string) error { return nil }

// good is an answer's body, or a stream's one chunk.
func good(text string) string {
	encoded, _ := json.Marshal(text)
	return fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[{"text":%s}]},"finishReason":"STOP"}],`+
		`"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":5,"totalTokenCount":12}}`, encoded)
}

// event is a chunk of a stream on the wire.
func event(chunk string) string { return "data: " + chunk + "\n\n" }

// piece is a chunk with text that does not end the stream.
func piece(text string) string {
	return fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[{"text":%q}]}}]}`, text)
}

// failure is the API's error body.
func failure(code int, message string, details ...string) string {
	return fmt.Sprintf(`{"error":{"code":%d,"message":%q,"status":"STATUS","details":[%s]}}`, code, message, strings.Join(details, ","))
}

// checkFailure fails the test unless err is an Error of the kind that is short
// and contains none of the secrets.
func checkFailure(t testing.TB, err error, kind model.Kind, secrets ...string) *model.Error {
	t.Helper()
	failed, ok := errors.AsType[*model.Error](err)
	if !ok {
		t.Fatalf("error %T %.300v, want a *model.Error", err, err)
	}
	if failed.Kind != kind {
		t.Errorf("kind %d, want %d: %.300v", failed.Kind, kind, err)
	}
	checkText(t, err, secrets...)
	return failed
}

func checkText(t testing.TB, err error, secrets ...string) {
	t.Helper()
	text := err.Error()
	if len(text) > 2000 {
		t.Errorf("the error has %d bytes: %.300s…", len(text), text)
	}
	for _, secret := range append(secrets, apiKey) {
		if strings.Contains(text, secret) {
			t.Errorf("the error holds %.40q: %.300s", secret, text)
		}
	}
}

// A transport answers by a handler without a network, so that time can be a
// test's own.
type transport struct{ http.Handler }

func (h transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// A form is a way of asking.
type form struct {
	name   string
	stream bool
}

// ask asks r in this form.
func (f form) ask(ctx context.Context, c *model.Client, r model.Request) (model.Answer, error) {
	if f.stream {
		return c.Generate(ctx, r, dropText)
	}
	return c.Generate(ctx, r, nil)
}

// wire returns an answer's body as it comes in this form.
func (f form) wire(body string) string {
	if f.stream {
		return event(body)
	}
	return body
}

// generate asks the question, unary or as a stream.
func generate(ctx context.Context, c *model.Client, stream bool) (model.Answer, error) {
	return form{stream: stream}.ask(ctx, c, question())
}

// forms are the two ways of asking.
var forms = []form{
	{"unary", false},
	{"stream", true},
}
