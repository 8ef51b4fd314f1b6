package terraform_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/terraformtest"
)

var update = flag.Bool("update", false, "update README.md's tables")

// A block is a variable or an output. Its text is as terraform fmt writes it,
// which the checks demand, so that lines and indentation say what belongs to what.
type block struct{ name, description, typ, fallback, text string }

func blocks(t *testing.T, file, kind string) []block {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, m := range regexp.MustCompile(`(?ms)^`+kind+` "(\w+)" \{\n(.*?)^\}`).FindAllStringSubmatch(string(source), -1) {
		b := block{name: m[1], text: m[2]}
		b.description = strings.ReplaceAll(strings.Trim(attribute(m[2], "description"), `"`), `\"`, `"`)
		b.typ, b.fallback = attribute(m[2], "type"), attribute(m[2], "default")
		all = append(all, b)
	}
	return all
}

// attribute is an attribute's expression: the rest of its line, and what is
// indented below it.
func attribute(text, name string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		rest, ok := strings.CutPrefix(line, "  "+name)
		if rest = strings.TrimLeft(rest, " "); !ok || !strings.HasPrefix(rest, "= ") {
			continue
		}
		value := []string{rest[2:]}
		for _, next := range lines[i+1:] {
			if !strings.HasPrefix(next, "   ") && !strings.HasPrefix(next, "  }") && !strings.HasPrefix(next, "  ]") {
				break
			}
			value = append(value, strings.TrimSpace(next))
		}
		return regexp.MustCompile(`\s+`).ReplaceAllString(strings.Join(value, " "), " ")
	}
	return ""
}

func TestReadme(t *testing.T) {
	variables, outputs := blocks(t, "variables.tf", "variable"), blocks(t, "outputs.tf", "output")
	if len(variables) < 30 || len(outputs) < 8 {
		t.Fatalf("%d variables, %d outputs", len(variables), len(outputs))
	}
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	tables := map[string]*strings.Builder{"plans": {}, "variables": {}, "outputs": {}}
	fmt.Fprintln(tables["variables"], "| variable | type | default | meaning |\n|---|---|---|---|")
	for _, v := range variables {
		fallback := "**required**"
		if v.fallback != "" {
			fallback = "`" + v.fallback + "`"
		}
		fmt.Fprintf(tables["variables"], "| `%s` | `%s` | %s | %s |\n", v.name, cell(v.typ), cell(fallback), cell(v.description))
	}
	fmt.Fprintln(tables["outputs"], "| output | meaning |\n|---|---|")
	for _, o := range outputs {
		fmt.Fprintf(tables["outputs"], "| `%s` | %s |\n", o.name, cell(o.description))
	}
	fmt.Fprintln(tables["plans"], "| deployment | resources | of them IAM bindings |\n|---|---|---|")
	all := plans(t)
	for _, name := range []string{"private", "application", "iap", "small", "serious"} {
		bindings := 0
		for _, c := range all[name] {
			if strings.HasSuffix(c.Type, "_iam_member") {
				bindings++
			}
		}
		label := "`web_access = \"" + name + "\"`"
		if name == "small" || name == "serious" {
			label = "`environments/" + name + ".tfvars`"
		}
		fmt.Fprintf(tables["plans"], "| %s | %d | %d |\n", label, len(all[name]), bindings)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := string(readme)
	for name, table := range tables {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, ok := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("README.md has no place for %s", name)
		}
		want = before + begin + table.String() + end + after
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(readme), want); diff != "" {
		t.Errorf("README.md is not as the code: go test ./terraform -update (-got +want):\n%s", diff)
	}
}

func TestEveryVariableIsWhole(t *testing.T) {
	var tested strings.Builder
	for _, r := range refused {
		tested.WriteString("; " + r.variables)
	}
	message := regexp.MustCompile(`error_message = "(.*)"`)
	for _, v := range blocks(t, "variables.tf", "variable") {
		if v.typ == "" || !strings.HasSuffix(v.description, ".") && !strings.HasSuffix(v.description, "REPOSITORIES") {
			t.Errorf("%s: type %q, description %q", v.name, v.typ, v.description)
		}
		if v.typ == "bool" {
			continue // its type is all there is to validate
		}
		messages := message.FindAllStringSubmatch(v.text, -1)
		if len(messages) == 0 || len(messages) != strings.Count(v.text, "validation {") {
			t.Errorf("%s: %d validations, %d messages", v.name, strings.Count(v.text, "validation {"), len(messages))
		}
		for _, m := range messages {
			// It names the variable at fault, and says more than that it is.
			if !strings.HasPrefix(m[1], v.name) && !strings.Contains(m[1], v.name) && !strings.Contains(m[1], "web_access") || len(m[1]) < 30 || !strings.HasSuffix(strings.TrimRight(m[1], ")"), ".") {
				t.Errorf("%s is refused with %q", v.name, m[1])
			}
		}
		if !strings.Contains(tested.String(), "; "+v.name+" = ") {
			t.Errorf("no test refuses a wrong %s", v.name)
		}
	}
}

func TestEveryAlertHasItsPage(t *testing.T) {
	book, err := os.ReadFile("../docs/run-book.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]bool{}
	for _, page := range strings.Split(string(book), "\n## ")[1:] {
		name, _, _ := strings.Cut(page, "\n")
		pages[name] = true
		for _, part := range []string{"**It means:**", "**Look at:**", "**Do:**"} {
			if !strings.Contains(page, part) {
				t.Errorf("the page %s has no %q", name, part)
			}
		}
	}
	alerts := map[string]bool{}
	for _, changes := range plans(t) {
		for _, c := range changes {
			if c.Type != "google_monitoring_alert_policy" {
				continue
			}
			_, name, _ := strings.Cut(text(c.Change.After["display_name"]), ": ")
			alerts[name] = true
			anchor := strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(name), ""), " ", "-")
			if content := text(terraformtest.Dig(c.Change.After, "documentation", "content")); !strings.Contains(content, "docs/run-book.md#"+anchor+"\n") || !strings.Contains(content, "\n## "+name+"\n") || !strings.Contains(content, "**Do:**") {
				t.Errorf("%s does not lead to its page: %q", name, content)
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(alerts)), slices.Sorted(maps.Keys(pages))); diff != "" {
		t.Errorf("alerts and pages differ (-alerts +pages):\n%s", diff)
	}
}
