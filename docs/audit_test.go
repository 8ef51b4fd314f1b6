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
	files, err := filepath.Glob("../invoke/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		for _, match := range regexp.MustCompile(`\bAudit: +"([^"]+)"`).FindAllStringSubmatch(read(t, name), -1) {
			found++
			if !strings.Contains(table, "`"+match[1]+"`") {
				t.Errorf("the action %s is not in the table", match[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d actions found", found)
	}
}
