package offline

import (
	"maps"
	"slices"
	"strings"
)

// An item is one of the objects that a result lists.
type item struct {
	id     string // as programs call it
	title  string
	fields map[string]any // without the title
}

// titleFields are where an object's title is looked for, in this order. The
// singular of its list's name comes before the last of them.
var titleFields = []string{"title", "display_name", "displayName", "name", "label", "heading", "subject"}

const maxTitleBytes = 160

func itemOf(object map[string]any, list string) item {
	candidates := append(slices.Clone(titleFields), singular(list), "category", "key", "id")
	it := item{fields: maps.Clone(object)}
	for _, key := range candidates {
		value, ok := object[key].(string)
		if value = strings.TrimSpace(value); !ok || value == "" || len(value) > maxTitleBytes || strings.Contains(value, "\n") {
			continue
		}
		delete(it.fields, key)
		it.id, it.title = value, value
		if isIdentifier(value) {
			it.title = title(value)
		}
		break
	}
	// Beside a title, a name for programs tells people nothing.
	if name, ok := object["name"].(string); ok && isIdentifier(name) {
		it.id = name
		delete(it.fields, "name")
	}
	return it
}

// itemsOf gives the objects that a result consists of: those of a list, or of
// the only field of an object that is one.
func itemsOf(v any, name string) ([]item, bool) {
	if object, ok := v.(map[string]any); ok && len(object) == 1 {
		for key, only := range object {
			return itemsOf(only, key)
		}
	}
	list, ok := objects(v)
	if !ok {
		return nil, false
	}
	out := make([]item, len(list))
	for i, o := range list {
		out[i] = itemOf(o, name)
	}
	return out, true
}

// objects is v as a list of objects, when it is one and not empty.
func objects(v any) ([]map[string]any, bool) {
	list, _ := v.([]any)
	out := make([]map[string]any, 0, len(list))
	for _, e := range list {
		o, ok := e.(map[string]any)
		if !ok {
			return nil, false
		}
		out = append(out, o)
	}
	return out, len(out) > 0
}

var ordinal = lazy(`(?i)\b(first|second|third|fourth|fifth|last|1st|2nd|3rd|4th|5th)(?: (?:one|option|item|choice|entry|way|practice|category|of (?:them|these|those))\b|\W*$)|(?:\boption|\bnumber|\bitem|#) ?([1-9])\b`)

// earlierItem finds the item of the previous results that the question points
// at by its place, as in "tell me more about the first one".
func earlierItem(c conversation) (item, bool) {
	at := ordinal().FindStringSubmatch(c.question)
	if at == nil || len(c.question) > 200 {
		return item{}, false
	}
	place := strings.ToLower(at[1] + at[2])
	for _, results := range slices.Backward(c.previous) {
		var items []item
		for _, r := range results {
			payload, failure := outcome(r.response)
			if list, ok := itemsOf(payload, ""); ok && failure == "" {
				items = append(items, list...)
			}
		}
		i := len(items) - 1
		if place != "last" {
			i = slices.IndexFunc(places, func(names string) bool { return strings.Contains(names, place) })
		}
		// One item alone was the answer to a question about it, not a list.
		if len(items) > 1 && i >= 0 && i < len(items) {
			return items[i], true
		}
	}
	return item{}, false
}

var places = []string{"first 1st 1", "second 2nd 2", "third 3rd 3", "fourth 4th 4", "fifth 5th 5", "6", "7", "8", "9"}
