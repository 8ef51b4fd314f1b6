package terraform_test

import (
	"encoding/json"
	"os"
	"testing"

	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/terraformtest"
)

// TestAlertConditions counts what cmd/cost bills: each condition costs something.
func TestAlertConditions(t *testing.T) {
	slowtest.Skip(t, "the number of conditions that a plan makes")
	raw, err := os.ReadFile("../cmd/cost/measured.json")
	if err != nil {
		t.Fatal(err)
	}
	var measured struct {
		Figures map[string]struct{ Value float64 } `json:"figures"`
	}
	if err := json.Unmarshal(raw, &measured); err != nil {
		t.Fatal(err)
	}
	counted := false
	for name, changes := range plans(t) {
		n := 0
		for _, c := range changes {
			if c.Type == "google_monitoring_alert_policy" {
				n += len(list(terraformtest.Dig(c.Change.After, "conditions")))
			}
		}
		t.Logf("%s: %d conditions", name, n)
		counted = counted || name == "small"
		if name == "small" && float64(n) != measured.Figures["alert_conditions"].Value {
			t.Errorf("%s: %d conditions are planned, and %v are billed by cmd/cost/measured.json", name, n, measured.Figures["alert_conditions"].Value)
		}
	}
	if !counted {
		t.Error("no plan is of a small deployment")
	}
}
