package models

import (
	"slices"
	"strings"
)

// IsArmorTemplate reports whether name has the form of the name of a template of Model
// Armor, projects/PROJECT/locations/LOCATION/templates/TEMPLATE, which Vertex AI screens
// prompts or answers by.
func IsArmorTemplate(name string) bool {
	parts := strings.Split(name, "/")
	return len(parts) == 6 && parts[0] == "projects" && parts[2] == "locations" && parts[4] == "templates" && !slices.Contains(parts, "") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}
