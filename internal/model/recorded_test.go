package model_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// recordings are real answers of the Gemini API, which lie beside the
// repository and are listed in index.json.
const recordings = "../../../shared/recorded"

type recording struct {
	File   string `json:"file"`
	Status int    `json:"status"`
	body   []byte
}

func (r recording) stream() bool { return filepath.Ext(r.File) == ".sse" }

// chunks are the answer's JSON objects: one, or a stream's.
func (r recording) chunks(t *testing.T) []map[string]any {
	t.Helper()
	texts := []string{string(r.body)}
	if r.stream() {
		texts = nil
		for line := range strings.Lines(string(r.body)) {
			if data, ok := strings.CutPrefix(line, "data:"); ok {
				texts = append(texts, data)
			}
		}
	}
	var chunks []map[string]any
	for _, text := range texts {
		var chunk map[string]any
		if err := json.Unmarshal([]byte(text), &chunk); err != nil {
			t.Fatalf("the recording: %v", err)
		}
		chunks = append(chunks, chunk)
	}
	if len(chunks) == 0 {
		t.Fatal("the recording has nothing in it")
	}
	return chunks
}

func readRecordings(t *testing.T) []recording {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(recordings, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("NOT TESTED: the recorded answers of the real API are not here; none was replayed")
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []recording
	if err := json.Unmarshal(index, &list); err != nil {
		t.Fatalf("index.json: %v", err)
	}
	if len(list) == 0 {
		t.Fatal("index.json lists nothing")
	}
	for i := range list {
		if list[i].body, err = os.ReadFile(filepath.Join(recordings, list[i].File)); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// expected is what an answer says, read out of its JSON and not by the SDK.
type expected struct {
	Text   string
	Model  string   // that says it is the one
	Pieces []string // of text, as a stream passes them on
	Finish string
	Usage  session.Usage
	Calls  []any
	Parts  []any // as they must be sent back
}

func expect(chunks []map[string]any) expected {
	e := expected{Usage: session.Usage{Source: session.Estimated}}
	for _, chunk := range chunks {
		if version, _ := chunk["modelVersion"].(string); version != "" {
			e.Model = version
		}
		if counts, ok := chunk["usageMetadata"].(map[string]any); ok {
			count := func(name string) int64 {
				n, _ := counts[name].(float64)
				return int64(n)
			}
			e.Usage = session.Usage{
				PromptTokens:     count("promptTokenCount") + count("toolUsePromptTokenCount"),
				CachedTokens:     count("cachedContentTokenCount"),
				ThoughtTokens:    count("thoughtsTokenCount"),
				CompletionTokens: count("candidatesTokenCount"),
				TotalTokens:      count("totalTokenCount"),
				Source:           session.Counted,
			}
		}
		candidates, _ := chunk["candidates"].([]any)
		if len(candidates) == 0 {
			continue
		}
		candidate, _ := candidates[0].(map[string]any)
		if finish, ok := candidate["finishReason"].(string); ok {
			e.Finish = finish
		}
		content, _ := candidate["content"].(map[string]any)
		parts, _ := content["parts"].([]any)
		for _, p := range parts {
			part, _ := p.(map[string]any)
			if text, _ := part["text"].(string); text != "" && part["thought"] != true {
				e.Text += text
				if strings.TrimSpace(strings.Join(e.Pieces, "")) == "" && len(e.Pieces) > 0 { // what is only white space waits for text
					text, e.Pieces = e.Pieces[0]+text, nil
				}
				e.Pieces = append(e.Pieces, text)
			}
			if call, ok := part["functionCall"]; ok {
				e.Calls = append(e.Calls, call)
			}
			if text, ok := part["text"]; ok && text == "" && part["thoughtSignature"] == nil {
				continue // says nothing
			}
			e.Parts = append(e.Parts, part)
		}
	}
	return e
}

func TestRecordedAnswersAreReadAndSentBackUnchanged(t *testing.T) {
	t.Parallel()
	for _, r := range readRecordings(t) {
		for _, backend := range backends {
			t.Run(r.File+"/"+backend.name, func(t *testing.T) {
				t.Parallel()
				if r.Status != http.StatusOK {
					replayError(t, r, backend.vertex)
					return
				}
				replay(t, r, backend.vertex)
			})
		}
	}
}

// replay asks for the recorded answer and then goes on with the conversation.
func replay(t *testing.T, r recording, vertex bool) {
	var next struct { // the second request's
		Contents []struct {
			Role  string `json:"role"`
			Parts []any  `json:"parts"`
		} `json:"contents"`
	}
	requests := 0
	url := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if requests++; requests == 2 {
			if err := json.NewDecoder(req.Body).Decode(&next); err != nil {
				t.Errorf("the second request: %v", err)
			}
			_, _ = w.Write([]byte(good("Well.")))
			return
		}
		if stream := strings.HasSuffix(req.URL.Path, ":streamGenerateContent"); stream != r.stream() {
			t.Errorf("the request for a stream is %t, at %s", stream, req.URL)
		}
		if r.stream() {
			w.Header().Set("Content-Type", "text/event-stream")
		} else {
			w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		}
		_, _ = w.Write(r.body)
	})
	c := client(t, url, vertex)
	request := question()
	var pieces []string
	var onText func(_, _ string) error
	if r.stream() {
		onText = func(_, text string) error { pieces = append(pieces, text); return nil }
	}
	answer, err := c.Generate(t.Context(), request, onText)
	if err != nil {
		t.Fatal(err)
	}
	want := expect(r.chunks(t))
	got := expected{
		Text: answer.Text(), Model: answer.Model, Pieces: want.Pieces, Finish: string(answer.Finish), Usage: answer.Usage,
		Calls: calls(t, answer), Parts: want.Parts,
	}
	if r.stream() {
		got.Pieces = pieces
	}
	if want.Model == "" {
		want.Model = request.Model
	}
	if got.Usage.EstimatedCostUSD == nil {
		t.Error("a recorded model has no price")
	}
	if got.Usage.EstimatedCostUSD = nil; want.Usage.Source == session.Estimated {
		got.Usage = session.Usage{Source: got.Usage.Source} // TestUsage has the estimates
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("the answer is not what was recorded (-got +want):\n%s", diff)
	}
	if answer.Asked != request.Model || answer.Substituted != (want.Model != request.Model) || answer.Attempts != 1 || answer.Blocked != "" {
		t.Errorf("asked %q, substituted %t, %d attempts, blocked %q", answer.Asked, answer.Substituted, answer.Attempts, answer.Blocked)
	}

	// Back as it came, and back as a session keeps it: as JSON.
	stored := throughJSON(t, answer.Content)
	user := genai.NewContentFromText("Go on.", genai.RoleUser)
	request.Contents = []*genai.Content{request.Contents[0], answer.Content, user, stored, user}
	if _, err := c.Generate(t.Context(), request, nil); err != nil {
		t.Fatal(err)
	}
	if len(next.Contents) != 5 {
		t.Fatalf("%d contents were sent, want 5", len(next.Contents))
	}
	for i, way := range map[int]string{1: "as it came", 3: "as it is stored"} {
		if next.Contents[i].Role != "model" {
			t.Errorf("%s: role %q", way, next.Contents[i].Role)
		}
		if diff := cmp.Diff(next.Contents[i].Parts, want.Parts); diff != "" {
			t.Errorf("%s: the parts sent back differ (-got +want):\n%s", way, diff)
		}
	}
}

func replayError(t *testing.T, r recording, vertex bool) {
	requests := 0
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(r.Status)
		_, _ = w.Write(r.body)
	})
	answer, err := client(t, url, vertex).Generate(t.Context(), question(), nil)
	kind, attempts := model.Failed, 1
	if r.Status == http.StatusRequestTimeout || r.Status == http.StatusTooManyRequests || r.Status >= 500 {
		kind, attempts = model.Unavailable, 3
	}
	checkFailure(t, err, kind)
	if requests != attempts || answer.Attempts != attempts {
		t.Errorf("%d requests, %d attempts, want %d", requests, answer.Attempts, attempts)
	}
}

// calls are the answer's function calls as their JSON reads. The SDK's own JSON
// leaves out arguments that are empty.
func calls(t *testing.T, answer model.Answer) []any {
	t.Helper()
	var list []any
	for _, call := range answer.Calls() {
		raw, err := json.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		var value map[string]any
		if err := json.Unmarshal(raw, &value); err != nil {
			t.Fatal(err)
		}
		if value["args"] == nil && call.Args != nil {
			value["args"] = map[string]any{}
		}
		list = append(list, value)
	}
	return list
}

func throughJSON(t *testing.T, c *genai.Content) *genai.Content {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out genai.Content
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// What no recording has, in the form the API documents.
func TestHandMadeAnswersAreSentBackUnchanged(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"a call without arguments":                      `{"functionCall":{"name":"now","args":{}}}`,
		"a signed empty text":                           `{"text":"","thoughtSignature":"c2lnbmVk"}`,
		"a signed empty thought":                        `{"text":"","thought":true,"thoughtSignature":"c2lnbmVk"}`,
		"a thought":                                     `{"text":"Let me see.","thought":true}`,
		"a signed call without arguments":               `{"functionCall":{"name":"now","args":{},"id":"7"},"thoughtSignature":"c2lnbmVk"}`,
		"arguments of every kind":                       `{"functionCall":{"name":"f","args":{"s":"","n":0,"b":false,"x":null,"l":[],"o":{},"big":1e300,"small":-0.5,"deep":{"a":[{"b":[1,2.5,"c"]}]}}}}`,
		"text of every plane, and what HTML is made of": `{"text":"é 漢 😀 <b>&amp;\u2028\u0000\"\\</b>"}`,
		"a signature of every byte":                     `{"text":"x","thoughtSignature":"` + everyByte + `"}`,
		"white space":                                   `{"text":"\n"}`,
		"code":                                          `{"executableCode":{"language":"PYTHON","code":"print(1)"}}`,
		"a code's output":                               `{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}}`,
		"inline data":                                   `{"inlineData":{"mimeType":"image/png","data":"AAEC"}}`,
	}
	for name, part := range tests {
		for _, backend := range backends {
			for _, form := range forms {
				t.Run(name+"/"+backend.name+"/"+form.name, func(t *testing.T) {
					t.Parallel()
					body := `{"candidates":[{"content":{"role":"model","parts":[` + part + `,{"text":"!"}]},"finishReason":"STOP"}]}`
					r := recording{File: "hand-made.json", body: []byte(body)}
					if form.stream {
						r = recording{File: "hand-made.sse", body: []byte(event(body))}
					}
					replay(t, r, backend.vertex)
				})
			}
		}
	}
}

// everyByte is the bytes 0 to 255 in base64.
var everyByte = func() string {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	raw, _ := json.Marshal(all)
	return strings.Trim(string(raw), `"`)
}()
