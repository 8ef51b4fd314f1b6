package version

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestChangelog holds the constant to the newest entry of CHANGELOG.md, and the
// entries to the form of Keep a Changelog, each with whether it touches users'
// code.
func TestChangelog(t *testing.T) {
	raw, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^## `).Split(string(raw), -1)
	heading := regexp.MustCompile(`^\[(\d+)\.(\d+)\.(\d+)\] - (unreleased|\d{4}-\d{2}-\d{2})\n`)
	sections := []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
	var previous []int
	for i, part := range parts[1:] {
		match := heading.FindStringSubmatch(part)
		if match == nil {
			t.Fatalf("not a version and a day: %.40q", part)
		}
		name := strings.Join(match[1:4], ".")
		if i == 0 && name != Version {
			t.Errorf("the newest entry is %s, the constant %s", name, Version)
		}
		if i > 0 && match[4] == "unreleased" {
			t.Errorf("%s is not released, and older than the newest entry", name)
		}
		var version []int
		for _, digits := range match[1:4] {
			n, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatal(err)
			}
			version = append(version, n)
		}
		if previous != nil && slices.CompareFunc(version, previous, cmp.Compare[int]) >= 0 {
			t.Errorf("%s comes after an older version", name)
		}
		previous = version
		bullets := 0
		for _, section := range strings.Split(part, "\n### ")[1:] {
			title, text, _ := strings.Cut(section, "\n")
			if !slices.Contains(sections, title) {
				t.Errorf("%s: the section %q is not one of %q", name, title, sections)
			}
			for _, entry := range strings.Split(text, "\n- ")[1:] {
				bullets++
				if !regexp.MustCompile(`Touches your code: (yes|no)\b`).MatchString(entry) {
					t.Errorf("%s: the entry does not say whether it touches users' code: %.60q", name, entry)
				}
			}
		}
		if bullets == 0 {
			t.Errorf("%s has no entries", name)
		}
	}
	if len(parts) < 3 {
		t.Errorf("%d versions", len(parts)-1)
	}
}
