package advisor

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/tool"
)

func TestBestPracticesSchema(t *testing.T) {
	t.Parallel()
	checkSchema(t, shipped(t, "get_best_practices"), `{
		"type": "object",
		"properties": {
			"category": {
				"type": "string",
				"description": "the one category to return; leave it out to get all of them",
				"enum": ["security", "monitoring", "scalability", "reliability"]
			}
		},
		"additionalProperties": false
	}`)
}

func TestBestPractices(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		args map[string]any
		want []string
	}{
		{"without arguments all categories", nil, []string{"security", "monitoring", "scalability", "reliability"}},
		{"with no category named all categories", map[string]any{}, []string{"security", "monitoring", "scalability", "reliability"}},
		{"security", map[string]any{"category": "security"}, []string{"security"}},
		{"monitoring", map[string]any{"category": "monitoring"}, []string{"monitoring"}},
		{"scalability", map[string]any{"category": "scalability"}, []string{"scalability"}},
		{"reliability", map[string]any{"category": "reliability"}, []string{"reliability"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := call[bestPracticesOut](t.Context(), t, shipped(t, "get_best_practices"), c.args)
			var got []string
			for _, category := range out.Categories {
				got = append(got, category.Category)
				if category.Summary == "" {
					t.Errorf("%s has no summary", category.Category)
				}
				if len(category.Practices) < 4 {
					t.Errorf("%s has %d practices, want at least 4", category.Category, len(category.Practices))
				}
				for _, p := range category.Practices {
					if p.Practice == "" || p.Why == "" {
						t.Errorf("%s: %+v lacks the practice or its reason", category.Category, p)
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("categories (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBestPracticesRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		args map[string]any
	}{
		{"an unknown category", map[string]any{"category": "cost"}},
		{"an empty category", map[string]any{"category": ""}},
		{"a category that is no string", map[string]any{"category": 1.0}},
		{"an argument of another name", map[string]any{"topic": "security"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := shipped(t, "get_best_practices").Call(t.Context(), c.args); !errors.Is(err, tool.ErrArguments) {
				t.Errorf("error %v, want tool.ErrArguments", err)
			}
		})
	}
	if _, err := getBestPractices(t.Context(), bestPracticesIn{Category: "cost"}); err == nil {
		t.Error("the function by itself returned no error for an unknown category")
	}
}
