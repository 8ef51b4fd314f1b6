package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestEachDifferenceHasACause(t *testing.T) {
	const address, service = "google_cloud_run_v2_service.function", "google_cloud_run_v2_service"
	change := func(kind, actions, before, after string) string {
		return fmt.Sprintf(`{"address": %q, "type": %q, "change": {"actions": [%s], "before": %s, "after": %s, "after_unknown": {"uri": true}}}`, address, kind, actions, before, after)
	}
	const tile, noTile = `{"dashboard_json": "{\"tiles\": [{\"xPos\": 0}]}"}`, `{"dashboard_json": "{\"tiles\": [{}]}"}`
	for _, c := range []struct {
		name, drift, changes string
		code                 int
		want                 string
	}{
		{"nothing", "", change(service, `"no-op"`, `{"a": 1}`, `{"a": 1}`), 0, "nothing to apply"},
		{"the commit makes a resource", "", change(service, `"create"`, `null`, `{"a": 1}`), 3, "asked for: create " + address},
		{"the commit replaces one", "", change(service, `"delete", "create"`, `{"a": 1}`, `{"a": 2}`), 3, "asked for: delete and create"},
		{"the commit changes an attribute", "", change(service, `"update"`, `{"t": "45s"}`, `{"t": "60s", "uri": null}`), 3, "asked for: " + address + ": t"},
		{"somebody changed it", change(service, `"update"`, `{"t": "45s"}`, `{"t": "90s"}`), change(service, `"update"`, `{"t": "90s"}`, `{"t": "45s"}`), 4, "by hand: somebody changed " + address + ": t"},
		{"somebody deleted it", change(service, `"delete"`, `{"t": "45s"}`, `null`), change(service, `"create"`, `null`, `{"t": "45s"}`), 4, "by hand: somebody deleted"},
		{"the API drops a zero", "", change("google_monitoring_dashboard", `"update"`, noTile, tile), 0, "by the API: " + address + ": dashboard_json"},
		{"the API names a container", "", change(service, `"update"`, `{"name": "invoke", "template": [{"containers": [{"name": "invoke-1"}]}]}`,
			`{"name": "invoke", "template": [{"containers": [{"name": null}]}]}`), 0, "by the API: " + address + ": template.0.containers.0.name"},
		{"somebody moved a tile", change("google_monitoring_dashboard", `"update"`, noTile, `{"dashboard_json": "{\"tiles\": [{\"xPos\": 3}]}"}`),
			change("google_monitoring_dashboard", `"update"`, `{"dashboard_json": "{\"tiles\": [{\"xPos\": 3}]}"}`, noTile), 4, "by hand"},
		{"both somebody and the commit", change(service, `"update"`, `{"a": "1", "t": "45s"}`, `{"a": "1", "t": "90s"}`),
			change(service, `"update"`, `{"a": "1", "t": "90s"}`, `{"a": "2", "t": "45s"}`), 4, "asked for: " + address + ": a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			code, err := report([]byte(`{"format_version": "1.2", "resource_drift": [`+c.drift+`], "resource_changes": [`+c.changes+`]}`), &out)
			if err != nil || code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("code %d, want %d with %q: %v\n%s", code, c.code, c.want, err, out.String())
			}
			for _, value := range []string{"45s", "60s", "90s", "invoke-1"} {
				if strings.Contains(out.String(), value) {
					t.Errorf("it prints the value %s:\n%s", value, out.String())
				}
			}
		})
	}
	for _, raw := range []string{"", "{}", "[]"} {
		if _, err := report([]byte(raw), &strings.Builder{}); err == nil {
			t.Errorf("%q passes for a plan", raw)
		}
	}
}
