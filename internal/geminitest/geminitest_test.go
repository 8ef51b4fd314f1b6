package geminitest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/auth"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/geminitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bounded returns a context with a timeout for the test.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// client returns a client of the real SDK for one backend.
func client(t *testing.T, backend genai.Backend, address string) *genai.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	config := &genai.ClientConfig{
		Backend: backend, HTTPClient: &http.Client{Transport: transport},
		HTTPOptions: genai.HTTPOptions{BaseURL: address},
	}
	if backend == genai.BackendVertexAI {
		config.Project, config.Location = "p", "europe-west1"
		config.Credentials = auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: token{}})
	} else {
		config.APIKey = "key"
	}
	c, err := genai.NewClient(bounded(t), config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type token struct{}

func (token) Token(context.Context) (*auth.Token, error) { return &auth.Token{Value: "t"}, nil }

func TestBackends(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		backend genai.Backend
		prefix  string
	}{
		{"the Developer API", genai.BackendGeminiAPI, "/v1beta/models/gemini-2.5-flash:"},
		{"Vertex AI", genai.BackendVertexAI, "/v1beta1/projects/p/locations/europe-west1/publishers/google/models/gemini-2.5-flash:"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			gemini := geminitest.Start(t)
			models := client(t, test.backend, gemini.URL).Models
			gemini.Enqueue(
				geminitest.Text("It is ", "sunny.").WithUsage(geminitest.Usage{Prompt: 100, Cached: 20, Thoughts: 30, Output: 7}),
				geminitest.Text("It is ", "sunny."),
			)

			whole, err := models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Weather?"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := whole.Text(); got != "It is sunny." {
				t.Errorf("whole answer: %q", got)
			}
			if u := whole.UsageMetadata; u.PromptTokenCount != 100 || u.CachedContentTokenCount != 20 || u.ThoughtsTokenCount != 30 || u.CandidatesTokenCount != 7 || u.TotalTokenCount != 137 {
				t.Errorf("usage: %+v", u)
			}

			var pieces []string
			for chunk, err := range models.GenerateContentStream(ctx, "gemini-2.5-flash", genai.Text("Weather?"), nil) {
				if err != nil {
					t.Fatal(err)
				}
				pieces = append(pieces, chunk.Text())
			}
			if diff := cmp.Diff(pieces, []string{"It is ", "sunny."}); diff != "" {
				t.Errorf("chunks: %s", diff)
			}

			if _, err := models.Get(ctx, "gemini-2.5-flash", nil); err != nil || gemini.MetadataReads() != 1 {
				t.Errorf("metadata: %v, %d reads", err, gemini.MetadataReads())
			}
			requests := gemini.Requests()
			if len(requests) != 2 {
				t.Fatalf("%d requests kept, want 2", len(requests))
			}
			for i, method := range []string{"generateContent", "streamGenerateContent"} {
				r := requests[i]
				if r.Path != test.prefix+method || r.Stream != (i == 1) || r.Model != "gemini-2.5-flash" || r.Prompt() != "Weather?" || !r.Cancelled.IsZero() {
					t.Errorf("request %d: path %s, stream %v, model %s, prompt %q, cancelled %v", i, r.Path, r.Stream, r.Model, r.Prompt(), r.Cancelled)
				}
			}
		})
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	calls := geminitest.Calls(
		geminitest.FunctionCall{Name: "weather", Args: map[string]any{"city": "Bern"}, ThoughtSignature: "c2ln"},
		geminitest.FunctionCall{Name: "time", ID: "call-7"},
	).WithThought("Let me see.")
	tests := []struct {
		name  string
		reply geminitest.Reply
		check func(t *testing.T, response *genai.GenerateContentResponse, err error)
	}{
		{"function calls, a signature and a thought", calls, func(t *testing.T, response *genai.GenerateContentResponse, _ error) {
			got := response.FunctionCalls()
			if len(got) != 2 || got[0].Name != "weather" || got[0].Args["city"] != "Bern" || got[1].ID != "call-7" {
				t.Fatalf("calls: %+v", got)
			}
			parts := response.Candidates[0].Content.Parts
			if !parts[0].Thought || string(parts[1].ThoughtSignature) != "sig" {
				t.Errorf("parts: %+v", parts)
			}
		}},
		{"a blocked prompt", geminitest.Blocked("SAFETY"), func(t *testing.T, response *genai.GenerateContentResponse, _ error) {
			if len(response.Candidates) != 0 || response.PromptFeedback.BlockReason != genai.BlockedReasonSafety {
				t.Errorf("response: %+v", response)
			}
		}},
		{"an ending without text", geminitest.Finish("MAX_TOKENS", ""), func(t *testing.T, response *genai.GenerateContentResponse, _ error) {
			if response.Candidates[0].FinishReason != genai.FinishReasonMaxTokens || response.Text() != "" {
				t.Errorf("response: %+v", response)
			}
		}},
		{"an ending with text", geminitest.Finish("SAFETY", "Well"), func(t *testing.T, response *genai.GenerateContentResponse, _ error) {
			if response.Candidates[0].FinishReason != genai.FinishReasonSafety || response.Text() != "Well" {
				t.Errorf("response: %+v", response)
			}
		}},
		{"no counts, no ending", geminitest.Text("Well").WithoutUsage().Unfinished(), func(t *testing.T, response *genai.GenerateContentResponse, _ error) {
			if response.UsageMetadata != nil || response.Candidates[0].FinishReason != "" {
				t.Errorf("response: %+v", response)
			}
		}},
		{"an error", geminitest.Error(http.StatusTooManyRequests, "slow down").WithHeader("Retry-After", "1"), func(t *testing.T, _ *genai.GenerateContentResponse, err error) {
			var apiError genai.APIError
			if !errors.As(err, &apiError) || apiError.Code != http.StatusTooManyRequests || apiError.Status != "RESOURCE_EXHAUSTED" {
				t.Errorf("error: %v", err)
			}
		}},
		{"a page of a proxy", geminitest.Raw(http.StatusOK, "text/html", []byte("<html>")), func(t *testing.T, _ *genai.GenerateContentResponse, err error) {
			if err == nil {
				t.Error("no error")
			}
		}},
		{"a cut connection", geminitest.Cut(), func(t *testing.T, _ *genai.GenerateContentResponse, err error) {
			if err == nil {
				t.Error("no error")
			}
		}},
		{"a connection cut in the middle", geminitest.Text("one", "two").CutAfter(1), func(t *testing.T, _ *genai.GenerateContentResponse, err error) {
			if err == nil {
				t.Error("no error")
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			// The SDK retries a POST whose connection was closed before the response.
			gemini.Handle(func(geminitest.Request) geminitest.Reply { return test.reply })
			response, err := client(t, genai.BackendGeminiAPI, gemini.URL).Models.GenerateContent(bounded(t), "m", genai.Text("?"), nil)
			if response == nil && err == nil {
				t.Fatal("neither an answer nor an error")
			}
			test.check(t, response, err)
		})
	}
}

func TestStreamStops(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reply geminitest.Reply
		want  string
	}{
		{"cut after one chunk", geminitest.Text("one", "two").CutAfter(1), "one"},
		{"an error after all chunks", geminitest.Text("one", "two").FailAfter(http.StatusServiceUnavailable, "overloaded"), "onetwo"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			gemini.Enqueue(test.reply)
			text, failed := "", false
			for chunk, err := range client(t, genai.BackendGeminiAPI, gemini.URL).Models.GenerateContentStream(bounded(t), "m", genai.Text("?"), nil) {
				if err != nil {
					failed = true
					break
				}
				text += chunk.Text()
			}
			if text != test.want || !failed {
				t.Errorf("text %q, failed %v; want %q and a failure", text, failed, test.want)
			}
		})
	}
}

func TestGateHoldsAChunkBack(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("one", "two").WithGate(1, gate).WithDelay(time.Millisecond))
	var text strings.Builder
	for chunk, err := range client(t, genai.BackendGeminiAPI, gemini.URL).Models.GenerateContentStream(bounded(t), "m", genai.Text("?"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if text.Len() == 0 {
			close(gate) // the second chunk is sent now
		}
		text.WriteString(chunk.Text())
	}
	if text.String() != "onetwo" {
		t.Errorf("text %q", text.String())
	}
}

func TestClientGoes(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "a whole answer", true: "a stream after its first chunk"}[stream], func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			gemini := geminitest.Start(t)
			gemini.Enqueue(geminitest.Text("one", "two").SilentAfter(1))
			models := client(t, genai.BackendGeminiAPI, gemini.URL).Models
			calling, cancel := context.WithCancel(ctx)
			defer cancel()
			if stream {
				for range models.GenerateContentStream(calling, "m", genai.Text("?"), nil) {
					break
				}
				cancel()
			} else {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = models.GenerateContent(calling, "m", genai.Text("?"), nil)
				}()
				if _, err := gemini.Await(ctx, 1); err != nil {
					t.Fatal(err)
				}
				cancel()
				<-ended
			}
			request, err := gemini.AwaitCancelled(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			if request.Cancelled.Before(request.Time) {
				t.Errorf("cancelled at %v, came at %v", request.Cancelled, request.Time)
			}
		})
	}
}

func TestQuietKeepsNothing(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Quiet()
	if _, err := client(t, genai.BackendGeminiAPI, gemini.URL).Models.GenerateContent(bounded(t), "m", genai.Text("?"), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(gemini.Requests()); n != 0 {
		t.Errorf("%d requests kept", n)
	}
}

func TestSilenceEndsWithTheTest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	gemini := geminitest.Start(t)
	gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Silence() })
	if _, err := client(t, genai.BackendGeminiAPI, gemini.URL).Models.GenerateContent(ctx, "m", genai.Text("?"), nil); err == nil {
		t.Error("an answer from silence")
	}
}
