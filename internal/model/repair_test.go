package model_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/model"
)

// What a session holds may be anything that a model once returned, and another model
// refuses: each of these histories is answered in the first form that is taken.
func TestNoHistoryIsRefusedForEver(t *testing.T) {
	t.Parallel()
	const (
		asked     = `{"role":"user","parts":[{"text":"What is the weather?"}]}`
		said      = `{"role":"model","parts":[{"text":"Grey."}]}`
		responded = `{"role":"user","parts":[{"functionResponse":{"name":"weather","response":{"id":9007199254740993,"sky":"<grey>"}}}]}`
		unsigned  = `{"role":"model","parts":[{"functionCall":{"name":"weather","args":{"city":"Köln","id":1234567890123456789}}}]}`
	)
	// refuses returns a model that answers 400 to a body that holds any of these.
	holds := func(texts ...string) func(string) bool {
		return func(body string) bool {
			return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(body, text) })
		}
	}
	tests := []struct {
		name    string
		history string
		refused func(body string) bool
		asked   int
		sent    []string // what the body holds that is taken
	}{
		{"nothing is refused", asked + "," + unsigned + "," + responded + "," + said, holds("never"), 1, []string{`"id":1234567890123456789`, `"id":9007199254740993`}},
		{
			"an unsigned call", asked + "," + unsigned + "," + responded + "," + said,
			func(body string) bool {
				return !strings.Contains(body, `"thoughtSignature":"skip_thought_signature_validator"`)
			}, 2,
			[]string{`"id":1234567890123456789`, `"id":9007199254740993`},
		},
		{
			"an unsigned call, the bypass in base64", asked + "," + unsigned + "," + responded + "," + said,
			func(body string) bool {
				return !strings.Contains(body, `"thoughtSignature":"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="`)
			}, 3, nil,
		},
		{
			"no call at all", asked + "," + unsigned + "," + responded + "," + said, holds(`"functionCall"`, `"functionResponse"`), 4,
			[]string{`"text":"[called weather with {\"city\":\"Köln\",\"id\":1234567890123456789}]"`, `[weather gave {\"id\":9007199254740993,\"sky\":\"\u003cgrey\u003e\"}]`, `"text":"Grey."`},
		},
		{
			"a nameless call", asked + `,{"role":"model","parts":[{"functionCall":{"args":{}}}]},{"role":"user","parts":[{"functionResponse":{"response":{}}}]},` + said,
			func(body string) bool { return strings.Count(body, `"name":"unnamed"`) != 2 }, 2, nil,
		},
		{
			"a nameless call, and no call at all", asked + `,{"role":"model","parts":[{"functionCall":{"args":{}}}]},{"role":"user","parts":[{"functionResponse":{"response":{}}}]},` + said,
			holds(`"functionCall"`, `"functionResponse"`), 4, []string{`[called unnamed with {}]`, `[unnamed gave {}]`},
		},
		{"a file", `{"role":"user","parts":[{"text":"See."},{"inlineData":{"mimeType":"image/tiff","data":"AAAA"}}]},` + said, holds("inlineData"), 4, []string{`[a file of the type image/tiff]`}},
		{"code that ran", asked + `,{"role":"model","parts":[{"executableCode":{"language":"PYTHON","code":"1+1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2"}},{"text":"2"}]}`, holds("executableCode"), 4, []string{`[ran 1+1]`, `[which gave 2]`}},
		{"a thought", asked + `,{"role":"model","parts":[{"text":"hm","thought":true},{"text":"Grey."}]}`, holds(`"thought"`), 4, []string{`"text":"Grey."`}},
		{"a text alone, which has no other form", asked + "," + said, holds("weather"), 1, nil},
	}
	for _, tt := range tests {
		for i, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				requests, last := 0, ""
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					requests, last = requests+1, string(body)
					if tt.refused(last) {
						answer(400, failure(400, "Request contains an invalid argument.", `{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INVALID"}`))(w, r)
						return
					}
					both("Fine.")(w, r)
				}))
				defer server.Close()
				client, err := model.New(t.Context(), model.Config{APIKey: "key", BaseURL: server.URL, Models: []string{first}, BreakerFailures: 1})
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				r := question()
				r.History = []json.RawMessage{json.RawMessage("[" + tt.history + "]")}
				r.Exact = i == 1 // which holds only until it is refused
				a, err := form.ask(t.Context(), client, r)
				if requests != tt.asked {
					t.Errorf("asked %d times, want %d; last: %s", requests, tt.asked, last)
				}
				if tt.sent == nil && tt.asked == 1 {
					checkFailure(t, err, model.Failed)
					return
				}
				if err != nil || a.Text() != "Fine." {
					t.Errorf("%q, %v", a.Text(), err)
				}
				for _, want := range tt.sent {
					if !strings.Contains(last, want) {
						t.Errorf("%s was not sent: %s", want, last)
					}
				}
				if !strings.Contains(last, "How are you?") {
					t.Errorf("the question was not sent: %s", last)
				}
			})
		}
	}
}

// Integers of 64 bits pass through unchanged, which the SDK by itself prevents.
func TestArgumentsKeepTheirDigits(t *testing.T) {
	t.Parallel()
	call := func(args string) string {
		return `{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"pay","args":` + args + `}}]},"finishReason":"STOP"}],` +
			`"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":5,"totalTokenCount":12}}`
	}
	text := `{"candidates":[{"content":{"role":"model","parts":[{"text":"say \"functionCall\""}]}}]}`
	one, two := `{"amount":1234567890123456789,"list":[9007199254740993,-9223372036854775808],"rate":1.0}`, `{"amount":18446744073709551615,"deep":{"of":[{"n":9007199254740993}]}}`
	tests := []struct {
		name   string
		body   string
		stream bool
		want   []string
	}{
		{"whole", call(one), false, []string{one}},
		{"whole, over lines", strings.ReplaceAll(call(one), ",", ",\n"), false, []string{one}},
		{"a stream's only chunk", event(call(one)), true, []string{one}},
		{"chunks after text", event(text) + event(call(one)) + event(text) + event(call(two)), true, []string{one, two}},
		{"a stream with carriage returns", "data: " + call(two) + "\r\n\r\n", true, []string{two}},
		{"a stream that ends without a line's end", event(text) + "data: " + call(two), true, []string{two}},
		{"two calls of one name", strings.Replace(call(one), `]},"finish`, `,{"functionCall":{"name":"pay","args":`+two+`}}]},"finish`, 1), false, []string{one, two}},
		{"numbers that nothing holds", call(`{"amount":1e400,"list":[-1e999,1e-400,123456789012345678901234567890]}`), false, []string{`{"amount":"1e400","list":["-1e999",1e-400,123456789012345678901234567890]}`}},
		{"arguments that look like a call", call(`{"functionCall":{"args":{"n":1}}}`), false, []string{`{"functionCall":{"args":{"n":1}}}`}},
		{"arguments by a name in another case", strings.Replace(call(`{"city":"Oslo"}`), `"args"`, `"Args"`, 1), false, []string{`{"city":"Oslo"}`}},
		{"no arguments", strings.Replace(call("{}"), `,"args":{}`, "", 1), false, []string{"null"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if tt.stream {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				for i := 0; i < len(tt.body); i += 7 { // in pieces that end anywhere
					_, _ = io.WriteString(w, tt.body[i:min(i+7, len(tt.body))])
					_ = http.NewResponseController(w).Flush()
				}
			}))
			defer server.Close()
			client, err := model.New(t.Context(), model.Config{APIKey: "key", BaseURL: server.URL, Models: []string{first}, BreakerFailures: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			a, err := generate(t.Context(), client, tt.stream)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range a.Calls() {
				args, _ := json.Marshal(c.Args)
				got = append(got, string(args))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("arguments %s, want %s", got, tt.want)
			}
			// Sent back, they are as they came.
			stored, err := json.Marshal([]*genai.Content{a.Content})
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range tt.want {
				if args != "null" && !strings.Contains(string(stored), args) {
					t.Errorf("stored as %s", stored)
				}
			}
		})
	}
}
