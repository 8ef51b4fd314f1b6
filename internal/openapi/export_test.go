package openapi

import (
	"encoding/json"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
)

// Rebuild makes the document of routes.
func Rebuild(c *config.Config, routes []api.Route) error {
	_, err := json.Marshal(newDocument(c, nil, routes))
	return err
}
