package offline_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genai"
)

// tell gives the answer to a question whose tool returned the JSON object.
func tell(t testing.TB, question, response string) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(response), &object); err != nil {
		t.Fatal(err)
	}
	c := newChat(t)
	c.contents = []*genai.Content{
		genai.NewContentFromText(question, genai.RoleUser),
		genai.NewContentFromFunctionCall("list_things", map[string]any{}, genai.RoleModel),
		genai.NewContentFromFunctionResponse("list_things", object, genai.RoleUser),
	}
	res, err := c.client.Models.GenerateContent(t.Context(), "any", c.contents, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.Text()
}

func TestAnyJSONBecomesMarkdown(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, response, want string }{
		{"a number", `{"output":17}`, "Here are the things:\n\n17"},
		{"a word list", `{"output":["a","b"]}`, "- a\n- b"},
		{"nothing", `{}`, "The result is empty."},
		{"values", `{"ready":true,"session_store":"memory","latencyMs":3,"note":null}`, "- **Latency ms:** 3\n- **Note:** none\n- **Ready:** yes\n- **Session store:** memory"},
		{"a list of objects", `{"orders":[{"id":"A1","total":3},{"id":"A2","total":4}]}`, "### A1\n\n- **Total:** 3\n\n### A2\n\n- **Total:** 4"},
		{"objects without a name", `{"rows":[{"x":1},{"x":2}]}`, "### Item 1\n\n- **X:** 1\n\n### Item 2"},
		{"a list within", `{"groups":[{"name":"one_two","members":["a","b"],"open":true}]}`, "### One Two\n\n- **Open:** yes\n\n**Members:**\n\n- a\n- b"},
		{"objects within", `{"groups":[{"name":"g","members":[{"name":"Ada","why":"first"}]}]}`, "### G\n\n- **Ada**: first"},
		{"code of several lines", `{"command":"a\nb","x":1}`, "```\na\nb\n```"},
		{"a failure", `{"error":"disk full"}`, "The tool “things” failed: disk full"},
		{"a failure as an object", `{"error":{"message":"disk full"}}`, "failed: disk full"},
		{"an error among other values", `{"status":"down","error":"refused"}`, "- **Status:** down\n- **Error:** refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := tell(t, "What are the things?", test.response); !strings.Contains(got, test.want) || !strings.HasSuffix(got, note) {
				t.Errorf("got\n%s\nwant it to hold\n%s", got, test.want)
			}
		})
	}
}

func TestLargeAndDeepResultsAreBounded(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":[`, 2000) + "1" + strings.Repeat(`]}`, 2000)
	tests := map[string]string{
		"long text":    fmt.Sprintf(`{"output":%q}`, strings.Repeat("ä", 60_000)),
		"many entries": `{"output":[` + strings.Repeat(`"entry",`, 9999) + `"last"]}`,
		"many objects": `{"output":[` + strings.Repeat(`{"name":"n","d":{"e":[1,2,{"f":"g"}]}},`, 2000) + `{"name":"last"}]}`,
		"long values":  `{"output":{` + strings.Repeat(fmt.Sprintf(`"k%s":%q,`, "x", strings.Repeat("v", 900)), 3) + `"z":[` + strings.Repeat(fmt.Sprintf("%q,", strings.Repeat("w ", 450)), 50) + `1]}}`,
		"deep":         `{"output":` + deep + `}`,
	}
	for name, response := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tell(t, "compare them", response)
			if len(got) > 13<<10 || !utf8.ValidString(got) || !strings.HasSuffix(got, note) {
				t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-100):])
			}
		})
	}
}
