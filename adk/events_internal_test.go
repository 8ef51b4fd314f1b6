package adk

import (
	"encoding/json"
	"strings"
	"testing"

	"example.com/gatehouse/internal/loop"
)

// A float would make another order of an id of 19 digits.
func TestEarlierTurnsKeepTheDigitsOfIntegers(t *testing.T) {
	const id = "9007199254740993"
	past := loop.Past{ID: "t", Contents: json.RawMessage(`[{"role":"user","parts":[{"text":"Where is my order?"}]},` +
		`{"role":"model","parts":[{"functionCall":{"name":"find","args":{"order":` + id + `}}}]},` +
		`{"role":"user","parts":[{"functionResponse":{"name":"find","response":{"order":` + id + `}}}]}]`)}
	events, err := eventsOf(0, past, "root")
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v; want 3", len(events), err)
	}
	for _, e := range events[1:] {
		sent, err := json.Marshal(e.Content)
		if err != nil || !strings.Contains(string(sent), `"order":`+id) {
			t.Errorf("the model is sent %s, %v; want the order %s", sent, err, id)
		}
	}
}
