package telemetry

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Each export to the console is JSON, one value after the other.
func TestConsole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	config := all()
	config.Console = &out
	config.Service = "gatehouse"
	o := observer(t, config, "OTEL_TRACES_EXPORTER", "console", "OTEL_METRICS_EXPORTER", "none")
	turn(o)
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := 0
	for d := json.NewDecoder(&out); d.More(); spans++ {
		var span struct{ Name string }
		if err := d.Decode(&span); err != nil || span.Name == "" {
			t.Fatalf("span %d: %v", spans, err)
		}
	}
	if spans != spansOfATurn {
		t.Errorf("%d spans", spans)
	}
}
