package terraform_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A setting that from-settings did not pass on would be refused as unknown, and one
// that it named alone would be refused by Terraform.
func TestEveryVariableIsASetting(t *testing.T) {
	var want []string
	for _, v := range blocks(t, "variables.tf", "variable") {
		if v.name != "project_id" && v.name != "image" {
			want = append(want, v.name)
		}
	}
	slices.Sort(want)
	source, err := os.ReadFile("from-settings/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		writeSettings(t, string(source))
		return
	}
	_, list, _ := strings.Cut(string(source), "  names = [\n")
	list, passed, _ := strings.Cut(list, "\n  ]")
	for what, m := range map[string][][]string{
		"named":  regexp.MustCompile(`"(\w+)",`).FindAllStringSubmatch(list, -1),
		"passed": regexp.MustCompile(`(?m)^  \w+ += local\.settings\.(\w+)$`).FindAllStringSubmatch(passed, -1),
	} {
		var got []string
		for _, name := range m {
			got = append(got, name[1])
		}
		slices.Sort(got)
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("from-settings/main.tf, what is %s (-got +want):\n%s", what, diff)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^  (\w+) += local\.settings\.(\w+)$`).FindAllStringSubmatch(passed, -1) {
		if m[1] != m[2] {
			t.Errorf("from-settings/main.tf passes %s as %s", m[2], m[1])
		}
	}
	// null stands for what is not set: a variable whose default is not null must take
	// it for the default.
	for _, v := range blocks(t, "variables.tf", "variable") {
		if v.fallback != "" && v.fallback != "null" && !strings.Contains(v.text, "nullable    = false") && !strings.Contains(v.text, "nullable = false") {
			t.Errorf("%s has a default and takes null", v.name)
		}
	}
}

// writeSettings writes the names of the module's variables into from-settings.
func writeSettings(t *testing.T, source string) {
	var names, passed []string
	longest := 0
	for _, v := range blocks(t, "variables.tf", "variable") {
		if v.name != "project_id" && v.name != "image" {
			names = append(names, v.name)
			longest = max(longest, len(v.name))
		}
	}
	for i, name := range names {
		passed = append(passed, fmt.Sprintf("  %-*s = local.settings.%s", longest, name, name))
		names[i] = fmt.Sprintf("    %q,", name)
	}
	source = regexp.MustCompile(`(?s)(  names = \[\n).*?(\n  \])`).ReplaceAllString(source, "${1}"+strings.Join(names, "\n")+"${2}")
	source = regexp.MustCompile(`(?s)(  image      = var\.image\n\n).*?(\n\})`).ReplaceAllString(source, "${1}"+strings.Join(passed, "\n")+"${2}")
	if err := os.WriteFile("from-settings/main.tf", []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
}
