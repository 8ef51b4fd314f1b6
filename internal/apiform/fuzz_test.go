package apiform

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzForms checks that a planned resource of any form is read: the form of an API stays as
// it is, and a resource differs from itself nowhere.
func FuzzForms(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"name":"a","dashboard_json":"{\"a\":0,\"b\":{}}"}`, `{"name":"b"}`},
		{`{"template":[{"containers":[{"name":""},{"name":"x"}],"timeout":"90s"}]}`, `{"template":[]}`},
		{`{"template":[1],"retention":"3600s"}`, `{"template":[{"containers":"x"}]}`},
		{`{"a":[{"b":null}]}`, `{"a":[{"b":""},2]}`},
		{`{"x_json":"{","ttl":"-1s","duration":"1e9s"}`, `{}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var before, after map[string]any
		if json.Unmarshal([]byte(a), &before) != nil || json.Unmarshal([]byte(b), &after) != nil {
			return
		}
		for _, resource := range []string{"google_cloud_run_v2_service", "google_monitoring_dashboard"} {
			once := Returned(resource, before)
			if twice := Returned(resource, once); !reflect.DeepEqual(once, twice) {
				t.Errorf("%s returns %v, and for that %v", a, once, twice)
			}
		}
		if changed := Changes(before, before); len(changed) != 0 {
			t.Errorf("%s differs from itself in %v", a, changed)
		}
		for _, path := range Changes(before, after) {
			_, _ = At(before, path), At(after, path)
		}
	})
}
