package evaluate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCases checks that a file of cases is read, each with what it needs, or refused with the
// place in the file.
func FuzzCases(f *testing.F) {
	for _, seed := range []string{
		"- name: n\n  query: q\n  expect: {contains: [a], tools: [t, {name: u, args: {d: 2026-11-27, 1: x}}]}\n", "- name: n\n  query: q\n  expect: {matches: ['(']}\n",
		"- &a\n  name: n\n  query: q\n  expect: {tools: [{name: t, args: &b {c: *b}}]}\n", "- name: n\n  query: q\n---\n- x\n", "[]", "", "{}", "- 7", "- name: n\n  query: q\n  expect: {max_cost_usd: .nan}\n",
		"- <<: {name: n}\n  query: q\n", "- name: n\n  query: q\n  expect: {schema: {type: object, $ref: '#/x'}}\n", "- name: n\n  query: q\n  unknown: 1\n", "&a [*a]", "? {}\n: x\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		cases, err := parseCases("f.yaml", raw)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Errorf("an error without its file: %v", err)
			}
			return
		}
		if len(cases) == 0 {
			t.Error("no cases and no error")
		}
		for _, c := range cases {
			if c.Name == "" || c.Query == "" || !strings.HasPrefix(c.where, "f.yaml:") || len(c.patterns) != len(c.Expect.Matches) || (c.schema != nil) != (c.Expect.Schema != nil) {
				t.Errorf("%+v", c)
			}
		}
	})
}

// FuzzJudgment checks that a judge's answer is 1 to 5 points with a reason that can be printed, or
// has not the form.
func FuzzJudgment(f *testing.F) {
	for _, seed := range []string{`{"reason":"r","score":5}`, "```json\n{\"Reason\":\"r\",\"SCORE\":1.0}\n```", "```", `{"score":4.5}`, `{"score":1e300}`, `{"score":-0}`, `{"score":null}`, `[]`, `{"score":"5"}`, ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		points, reason, err := parseJudgment(text)
		if err != nil {
			if !errors.Is(err, errForm) || points != 0 || reason != "" {
				t.Errorf("%d, %q, %v", points, reason, err)
			}
			return
		}
		if points < 1 || points > 5 || len(reason) > 1000+len("…") || !utf8.ValidString(reason) {
			t.Errorf("%d points, %q", points, reason)
		}
		if again, err := json.Marshal(map[string]any{"score": points, "reason": reason}); err != nil {
			t.Error(err)
		} else if p, r, err := parseJudgment(string(again)); len(reason) <= 1000 && (err != nil || p != points || r != reason) {
			t.Errorf("%d, %q became %d, %q: %v", points, reason, p, r, err)
		}
	})
}
