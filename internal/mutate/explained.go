package main

import (
	_ "embed"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// explainedText lists the mutants that no test can find, each with the reason in the
// lines below it, which are indented.
//
//go:embed explained.txt
var explainedText string

// explanations returns the reasons of explainedText by entry.
func explanations() (map[string]string, error) {
	reasons, entry := map[string]string{}, ""
	for line := range strings.Lines(explainedText) {
		reason, indented := strings.CutPrefix(line, "\t")
		switch line, reason = strings.TrimSpace(line), strings.TrimSpace(reason); {
		case line == "" || line[0] == '#':
		case indented && entry != "":
			reasons[entry] = strings.TrimSpace(reasons[entry] + " " + reason)
		case reasons[entry] == "" && entry != "" || reasons[line] != "":
			return nil, fmt.Errorf("explained.txt: no reason before, or a second one for, %s", line)
		default:
			entry = line
		}
	}
	return reasons, nil
}

// entry is what explained.txt calls a mutant: its function instead of its line, which moves.
func (p *pkg) entry(m mutant) string {
	file := path.Join(strings.TrimPrefix(p.types.Path(), "example.com/gatehouse/"), filepath.Base(m.at.Filename))
	return fmt.Sprintf("%s %s  %s: %s", file, m.function, m.what, m.statement)
}
