package docs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whoever reads the audit finds each action of a route in observability.md.
func TestAuditActions(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "observability.md"), "\n| `action` |")
	table, _, _ = strings.Cut(table, "\n\n")
	action := regexp.MustCompile(`(?:\b(?:Audit|Action)\b[^"\n]*|\b[aA]udit[A-Z]\w* += +)"([a-z_]+\.[a-z_]+)"`)
	found := map[string]bool{}
	for _, pattern := range []string{"../invoke/*.go", "../gate/*/*.go", "../internal/api/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, match := range action.FindAllStringSubmatch(read(t, name), -1) {
				found[match[1]] = true
				if !strings.Contains(table, "`"+match[1]+"`") {
					t.Errorf("the action %s is not in the table", match[1])
				}
			}
		}
	}
	if len(found) < 15 {
		t.Errorf("only %d actions found: %v", len(found), found)
	}
}
