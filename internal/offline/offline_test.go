package offline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/offline"
)

func TestStreamIsTheUnaryAnswerInPieces(t *testing.T) {
	t.Parallel()
	c := newChat(t, plans...)
	for _, question := range []string{"hello", "Which plans are there?", strings.Repeat("🙂", 1000)} {
		contents := genai.Text(question)
		whole, err := c.client.Models.GenerateContent(t.Context(), offline.Model, contents, &c.config)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		var last *genai.GenerateContentResponse
		chunks := 0
		for res, err := range c.client.Models.GenerateContentStream(t.Context(), offline.Model, contents, &c.config) {
			if err != nil {
				t.Fatal(err)
			}
			if last != nil && last.Candidates[0].FinishReason != "" {
				t.Errorf("%.20q: a chunk after the finish", question)
			}
			text.WriteString(res.Text())
			last = res
			chunks++
		}
		if diff := cmp.Diff(whole.Text(), text.String()); diff != "" {
			t.Errorf("%.20q (-unary +stream):\n%s", question, diff)
		}
		if diff := cmp.Diff(whole.FunctionCalls(), last.FunctionCalls()); diff != "" {
			t.Errorf("%.20q (-unary +stream):\n%s", question, diff)
		}
		if diff := cmp.Diff(whole.UsageMetadata, last.UsageMetadata); diff != "" {
			t.Errorf("%.20q (-unary +stream):\n%s", question, diff)
		}
		if len(whole.FunctionCalls()) == 0 && chunks < 10 {
			t.Errorf("%.20q: only %d chunks", question, chunks)
		}
		if last.Candidates[0].FinishReason != genai.FinishReasonStop || last.ModelVersion != offline.Model || last.ResponseID == "" || last.ResponseID == whole.ResponseID {
			t.Errorf("%.20q: ends with %+v", question, last)
		}
	}
}

func TestTokensAreCountedAndLimited(t *testing.T) {
	t.Parallel()
	c := newChat(t, plans...)
	ask := func(question string, limit int32) *genai.GenerateContentResponse {
		config := c.config
		config.MaxOutputTokens = limit
		res, err := c.client.Models.GenerateContent(t.Context(), offline.Model, genai.Text(question), &config)
		if err != nil {
			t.Fatal(err)
		}
		u := res.UsageMetadata
		if u.PromptTokenCount < 1 || u.CandidatesTokenCount < 1 || u.TotalTokenCount != u.PromptTokenCount+u.CandidatesTokenCount || limit > 0 && u.CandidatesTokenCount > limit {
			t.Errorf("%.20q within %d: %+v", question, limit, u)
		}
		return res
	}
	whole := ask("hello", 0)
	for limit := int32(1); limit < whole.UsageMetadata.CandidatesTokenCount; limit++ {
		res := ask("hello", limit)
		text := res.Text()
		if res.Candidates[0].FinishReason != genai.FinishReasonMaxTokens || text == "" || !strings.HasPrefix(whole.Text(), text) {
			t.Errorf("within %d: %s %q", limit, res.Candidates[0].FinishReason, text)
		}
	}
	if res := ask("Which plans are there?", 1); len(res.FunctionCalls()) != 1 || res.Candidates[0].FinishReason != genai.FinishReasonStop {
		t.Errorf("a call was cut: %+v", res.Candidates[0])
	}
	short, long := ask("hello", 0), ask(strings.Repeat("x", 4000), 0)
	if d := long.UsageMetadata.PromptTokenCount - short.UsageMetadata.PromptTokenCount; d < 900 || d > 1100 {
		t.Errorf("4000 bytes more are %d tokens", d)
	}
}

func TestSameRequestSameAnswer(t *testing.T) {
	t.Parallel()
	var first string
	for range 20 {
		c := newChat(t, slices.Concat(weather, orders, rates, plans)...)
		calls, text := c.ask(t, "Compare the free tier and the team plan, and how do I secure them?")
		if got := fmt.Sprint(calls, text); first == "" {
			first = got
		} else if diff := cmp.Diff(first, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			name := fmt.Sprintf("N%d", i)
			contents := []*genai.Content{genai.NewContentFromText("My name is "+name, genai.RoleUser), genai.NewContentFromText("What is my name?", genai.RoleUser)}
			var text strings.Builder
			for res, err := range client.Models.GenerateContentStream(t.Context(), offline.Model, contents, nil) {
				if err != nil {
					t.Error(err)
					return
				}
				text.WriteString(res.Text())
			}
			if !strings.Contains(text.String(), "**"+name+"**") {
				t.Errorf("%s was told %q", name, text.String())
			}
		})
	}
	wg.Wait()
}

func TestStreamMayBeLeftEarly(t *testing.T) {
	t.Parallel()
	for range newClient(t).Models.GenerateContentStream(t.Context(), offline.Model, genai.Text("hello"), nil) {
		break // what is left behind, goleak finds
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got error
	for _, err := range newClient(t).Models.GenerateContentStream(ctx, offline.Model, genai.Text("hello"), nil) {
		got = err
		cancel()
	}
	if !errors.Is(got, context.Canceled) {
		t.Errorf("got %v", got)
	}
	if _, err := newClient(t).Models.GenerateContent(ctx, offline.Model, genai.Text("hello"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestModelMetadata(t *testing.T) {
	t.Parallel()
	m, err := newClient(t).Models.Get(t.Context(), "gemini-2.5-flash", nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "models/gemini-2.5-flash" || m.DisplayName == "" || m.InputTokenLimit < 1 || m.OutputTokenLimit < 1 {
		t.Errorf("got %+v", m)
	}
}

func TestBadRequestsGetGooglesErrors(t *testing.T) {
	t.Parallel()
	const generate = "/v1beta/models/offline:generateContent"
	tests := []struct {
		name, method, path string
		body               io.Reader
		code               int
		status             string
	}{
		{"no JSON", "POST", generate, strings.NewReader("{"), 400, "INVALID_ARGUMENT"},
		{"a wrong type", "POST", generate, strings.NewReader(`{"contents":"hi"}`), 400, "INVALID_ARGUMENT"},
		{"no contents", "POST", generate, strings.NewReader(`null`), 400, "INVALID_ARGUMENT"},
		{"no body", "POST", generate, nil, 400, "INVALID_ARGUMENT"},
		{"two values", "POST", generate, strings.NewReader(`{"contents":[{}]} {}`), 400, "INVALID_ARGUMENT"},
		{"too large", "POST", generate, bytes.NewReader(make([]byte, 33<<20)), 400, "INVALID_ARGUMENT"},
		{"a stream of no JSON", "POST", "/v1beta/models/offline:streamGenerateContent?alt=sse", strings.NewReader("x"), 400, "INVALID_ARGUMENT"},
		{"another method", "GET", generate, nil, 404, "NOT_FOUND"},
		{"another verb", "POST", "/v1beta/models/offline:embedContent", strings.NewReader("{}"), 404, "NOT_FOUND"},
		{"another path", "GET", "/v1beta/files", nil, 404, "NOT_FOUND"},
		{"a model without a name", "GET", "/v1beta/models/", nil, 404, "NOT_FOUND"},
		{"no path", "GET", "", nil, 404, "NOT_FOUND"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), test.method, "https://generativelanguage.googleapis.com"+test.path, test.body)
			if err != nil {
				t.Fatal(err)
			}
			res, err := offline.New().RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != test.code || !bytes.Contains(body, []byte(`"status":"`+test.status+`"`)) || !bytes.Contains(body, fmt.Appendf(nil, `"code":%d`, test.code)) {
				t.Errorf("got %s %s", res.Status, body)
			}
		})
	}
}
