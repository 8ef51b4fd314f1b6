package openapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
)

// Patterns are those of the routes that there are entries for.
func Patterns() []string { return slices.Sorted(maps.Keys(operations)) }

// Rebuild makes the document of all routes that there are entries for.
func Rebuild(c *config.Config) error {
	var routes []api.Route
	for _, pattern := range Patterns() {
		method, path, _ := strings.Cut(pattern, " ")
		routes = append(routes, api.Route{Method: method, Path: path, Summary: http.StatusText(200)})
	}
	_, err := json.Marshal(newDocument(c, nil, routes))
	return err
}
