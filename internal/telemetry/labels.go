package telemetry

import (
	"net/http"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// What stands for a value that is not on its list. The conventions name the
// second for methods and error types.
const (
	other      = "other"
	otherError = "_OTHER"
)

// methods are those that the conventions know.
var methods = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead, http.MethodOptions,
	http.MethodPatch, http.MethodConnect, http.MethodTrace, "QUERY",
}

// labels are the values that may become labels. Each list maps a value to
// itself, so that no label holds on to a caller's text.
type labels struct {
	methods, routes, codes, models, tools map[string]string
}

// newLabels returns the values that are known when the process starts, so that no caller can
// make new series.
func newLabels(c Config) labels {
	l := labels{methods: set(methods), routes: set(nil), codes: set(c.Codes), models: set(c.Models), tools: set(c.Tools)}
	for _, pattern := range c.Routes {
		_, path, found := strings.Cut(pattern, " ")
		if !found {
			path = pattern
		}
		l.routes[pattern] = path
	}
	return l
}

func set(values []string) map[string]string {
	m := make(map[string]string, len(values))
	for _, v := range values {
		m[v] = v
	}
	return m
}

// pick is value if it is on the list, "" if it is empty, fallback otherwise.
func pick(list map[string]string, value, fallback string) string {
	if value == "" {
		return ""
	}
	if v, ok := list[value]; ok {
		return v
	}
	return fallback
}

// These return the label of a value: itself if it is known, else a common one.
func (l labels) method(name string) string   { return pick(l.methods, name, otherError) }
func (l labels) route(pattern string) string { return pick(l.routes, pattern, other) } // the path of it
func (l labels) model(name string) string    { return pick(l.models, name, other) }
func (l labels) tool(name string) string     { return pick(l.tools, name, other) }
func (l labels) code(code string) string     { return pick(l.codes, code, otherError) }

// statusOf is the status if HTTP knows it (499 is nginx's), 0 otherwise.
func statusOf(status int) int {
	if http.StatusText(status) == "" && status != 499 {
		return 0
	}
	return status
}

// A sets keeps each set of attributes once made, by the labels it is made of;
// they are bounded, so it is. It is safe for concurrent use.
type sets[K comparable] struct {
	mu   sync.RWMutex
	made map[K]options
	make func(K) []attribute.KeyValue
}

// options are one set for each kind of instrument, ready to be passed on.
type options struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

func newSets[K comparable](attrs func(K) []attribute.KeyValue) *sets[K] {
	return &sets[K]{made: make(map[K]options), make: attrs}
}

func (s *sets[K]) of(key K) options {
	s.mu.RLock()
	o, ok := s.made[key]
	s.mu.RUnlock()
	if ok {
		return o
	}
	attrs := metric.WithAttributeSet(attribute.NewSet(s.make(key)...))
	o = options{record: []metric.RecordOption{attrs}, add: []metric.AddOption{attrs}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[key] = o
	return o
}
