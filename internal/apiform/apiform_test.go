package apiform_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/apiform"
)

func decode(t *testing.T, raw string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDifferencesThatNoApplyRemoves(t *testing.T) {
	for _, c := range []struct {
		name, resource, written string
		want                    []string
	}{
		{"a tile at zero", "google_monitoring_dashboard", `{"dashboard_json": "{\"mosaicLayout\": {\"tiles\": [{\"xPos\": 0, \"width\": 4}]}}"}`, []string{"dashboard_json"}},
		{"a tile without its zero", "google_monitoring_dashboard", `{"dashboard_json": "{\"mosaicLayout\": {\"tiles\": [{\"width\": 4, \"widget\": {\"blank\": {}}}]}}"}`, nil},
		{"keys in another order", "google_monitoring_dashboard", `{"dashboard_json": "{\"b\": 1, \"a\": [2]}"}`, nil},
		{"an empty list in JSON", "google_monitoring_dashboard", `{"dashboard_json": "{\"labels\": []}"}`, []string{"dashboard_json"}},
		{"a container without a name", "google_cloud_run_v2_service", `{"name": "invoke", "template": [{"containers": [{"image": "i", "name": null}]}]}`, []string{"template.0.containers.0.name"}},
		{"a container with a name", "google_cloud_run_v2_service", `{"name": "invoke", "template": [{"containers": [{"image": "i", "name": "agent"}]}]}`, nil},
		{"a duration in minutes", "google_monitoring_alert_policy", `{"conditions": [{"condition_threshold": [{"duration": "5m"}]}]}`, []string{"conditions.0.condition_threshold.0.duration"}},
		{"a padded duration", "google_monitoring_alert_policy", `{"alert_strategy": [{"auto_close": "1800.0s"}]}`, []string{"alert_strategy.0.auto_close"}},
		{"a duration in seconds", "google_monitoring_alert_policy", `{"alert_strategy": [{"auto_close": "1800s", "x": "5m"}]}`, nil},
		{"zero values and none", "google_x", `{"a": "", "b": [], "c": false, "d": {}, "e": 0, "f": null}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			written := decode(t, c.written)
			if diff := cmp.Diff(c.want, apiform.Changes(written, apiform.Returned(c.resource, written))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(decode(t, c.written), written); diff != "" {
				t.Errorf("Returned changes its argument:\n%s", diff)
			}
		})
	}
}

func TestChangesArePaths(t *testing.T) {
	a := decode(t, `{"template": [{"timeout": "45s", "env": [{"name": "A"}]}], "labels": {"x": "1"}}`)
	b := decode(t, `{"template": [{"timeout": "60s", "env": [{"name": "A"}, {"name": "B"}]}], "labels": {"x": "1", "y": "2"}}`)
	want := []string{"labels.y", "template.0.env", "template.0.timeout"}
	got := apiform.Changes(a, b)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v := apiform.At(b, "template.0.timeout"); v != "60s" {
		t.Errorf("At is %v", v)
	}
}
