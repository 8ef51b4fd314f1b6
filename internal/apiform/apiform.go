// Package apiform describes in which form Google's APIs return values that were
// written in another one, where the Terraform provider does not treat the two as
// equal. Each such value is a difference that no apply removes.
//
// The rules come from the provider's open issues and the mapping of protobuf to JSON.
// A test applies them to the plan of terraform/, and delivery/drift uses them to
// distinguish manual changes from those of an API.
package apiform

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Returned returns a resource as the API returns it, with attributes as Terraform
// stores them. It does not modify written.
func Returned(resource string, written map[string]any) map[string]any {
	returned, _ := form("", written).(map[string]any)
	if resource == "google_cloud_run_v2_service" {
		nameContainers(returned)
	}
	return returned
}

// nameContainers sets the name that Cloud Run assigns to a container without one. The
// provider treats the name as only configured, not computed.
func nameContainers(service map[string]any) {
	templates, _ := service["template"].([]any)
	for _, t := range templates {
		template, _ := t.(map[string]any)
		containers, _ := template["containers"].([]any)
		for i, c := range containers {
			if container, ok := c.(map[string]any); ok && zero(container["name"]) {
				container["name"] = fmt.Sprintf("%v-%d", service["name"], i+1)
			}
		}
	}
}

// form returns a copy of a value in the APIs' form; name is the attribute's name.
func form(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for key, value := range v {
			copied[key] = form(key, value)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, value := range v {
			copied[i] = form(name, value)
		}
		return copied
	case string:
		if object, ok := object(v); ok && strings.HasSuffix(name, "_json") {
			raw, err := json.Marshal(withoutZeros(object)) // sorts the keys
			if err != nil {
				return v
			}
			return string(raw)
		}
		if isDuration.MatchString(name) {
			return seconds(v)
		}
	}
	return v
}

// object decodes a string that contains a JSON object.
func object(s string) (map[string]any, bool) {
	if !strings.HasPrefix(strings.TrimSpace(s), "{") {
		return nil, false
	}
	var m map[string]any
	err := json.Unmarshal([]byte(s), &m)
	return m, err == nil
}

// withoutZeros removes the fields that protobuf's JSON omits: zero, false, the empty
// string and the empty list. An empty message stays. The provider compares the rest of
// a dashboard, and always reports the omitted fields as a difference
// (hashicorp/terraform-provider-google issues 16173 and 24650).
func withoutZeros(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for key, value := range v {
			if _, message := value.(map[string]any); !zero(value) || message {
				kept[key] = withoutZeros(value)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, value := range v {
			kept[i] = withoutZeros(value)
		}
		return kept
	}
	return v
}

var (
	isDuration = regexp.MustCompile(`(^|_)(duration|period|timeout|ttl|interval|older_than|auto_close|window)$`)
	unpadded   = regexp.MustCompile(`^\d+(\.\d*[1-9])?s$`)
)

// seconds returns a duration as protobuf's JSON writes it: in seconds.
func seconds(s string) string {
	if unpadded.MatchString(s) {
		return s
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return s
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// Changes returns the attributes in which two resources differ, as sorted paths such
// as template.0.timeout. Like the provider, it treats the zero value as no value, and
// compares JSON by content.
func Changes(a, b map[string]any) []string {
	var changed []string
	differ("", a, b, &changed)
	slices.Sort(changed)
	return changed
}

func differ(path string, a, b any, changed *[]string) {
	if zero(a) && zero(b) {
		return
	}
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && (bok || b == nil) || bok && a == nil {
		keys := maps.Clone(am)
		if keys == nil {
			keys = map[string]any{}
		}
		maps.Copy(keys, bm)
		for key := range keys {
			differ(join(key), am[key], bm[key], changed)
		}
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && len(al) == len(bl) {
		for i := range al {
			differ(join(strconv.Itoa(i)), al[i], bl[i], changed)
		}
		return
	}
	if as, ok := a.(string); ok {
		if bs, ok := b.(string); ok {
			ao, aok := object(as)
			bo, bok := object(bs)
			if aok && bok && reflect.DeepEqual(ao, bo) {
				return
			}
		}
	}
	if !reflect.DeepEqual(a, b) {
		*changed = append(*changed, path)
	}
}

// zero reports whether the provider treats a value as no value.
func zero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, value := range v {
			if !zero(value) {
				return false
			}
		}
		return true
	}
	return false
}

// At returns the value at a path of Changes, or nil.
func At(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(parent) {
				return nil
			}
			v = parent[i]
		default:
			return nil
		}
	}
	return v
}
