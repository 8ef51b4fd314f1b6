package trial

import (
	"testing"

	"google.golang.org/genai"
)

// A hook may send the model less than there is, even a call and its result only.
func TestToolContentsOfAHistoryWithoutItsQuestion(t *testing.T) {
	call := &genai.Content{Role: genai.RoleModel, Parts: []*genai.Part{{FunctionCall: &genai.FunctionCall{Name: "look"}}}}
	result := &genai.Content{Role: genai.RoleUser, Parts: []*genai.Part{{FunctionResponse: &genai.FunctionResponse{Name: "look"}}}}
	for name, contents := range map[string][]*genai.Content{"a call and its result": {call, result}, "a result": {result}, "two steps": {call, result, call, result}} {
		t.Run(name, func(t *testing.T) {
			a := Answer{Sent: []Sent{{Contents: contents}}}
			if made := a.toolContents(); len(made) > 1 {
				t.Errorf("%d calls", len(made))
			}
		})
	}
}
