package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, day string
		env       map[string]string
		says      []string // parts of the warnings, one each
	}{
		{"the table's own day", "2026-11-26", nil, nil},
		{"a deployment of a model that ends", "2026-11-26", map[string]string{"MODEL": "gemini-2.5-flash"}, []string{"ends on 2026-12-01", "closed to projects"}},
		{"a fallback that has ended", "2026-12-02", map[string]string{"MODEL_FALLBACKS": "gemini-3.8-flash, gemini-2.5-pro"}, []string{"gemini-2.5-pro ended", "changes on 2027-01-01", "closed to projects"}},
		{"no fallback", "2026-11-26", map[string]string{"MODEL_FALLBACKS": "none"}, nil},
		{"a model that the table does not know", "2026-11-26", map[string]string{"MODEL": "gemini-9"}, []string{"no entry for gemini-9"}},
		{"a deployment of others than the defaults, which end", "2027-02-26", map[string]string{"MODEL": "gemini-3.8-flash", "MODEL_FALLBACKS": "gemini-3.5-flash"}, []string{"92 days old"}},
		{"a deployment without the fallback, which ends", "2027-02-26", map[string]string{"MODEL": "gemini-3.8-flash", "MODEL_FALLBACKS": "none"}, []string{"92 days old"}},
		{"a price that changes", "2026-11-26", map[string]string{"MODEL": "gemini-4-argon"}, []string{"to 4, 0.2 and 20 dollars"}},
		{"three months later", "2027-02-26", nil, []string{"92 days old", "gemini-3.1-flash-lite ends on 2027-05-07"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now, err := time.Parse(time.DateOnly, tt.day)
			if err != nil {
				t.Fatal(err)
			}
			lookup := func(name string) (string, bool) { value, ok := tt.env[name]; return value, ok }
			for _, args := range [][]string{nil, {"-strict"}} {
				var out bytes.Buffer
				failed, err := run(args, lookup, now, &out)
				if want := len(args) > 0 && len(tt.says) > 0; err != nil || failed != want {
					t.Errorf("%q: failed %t, want %t: %v", args, failed, want, err)
				}
				if n := strings.Count(out.String(), "WARNING: "); n != len(tt.says) {
					t.Errorf("%q: %d warnings, want %d:\n%s", args, n, len(tt.says), &out)
				}
				for _, part := range tt.says {
					if !strings.Contains(out.String(), part) {
						t.Errorf("%q: says nothing of %q:\n%s", args, part, &out)
					}
				}
			}
		})
	}
}

func TestATableThatCannotBeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "models.json")
	if err := os.WriteFile(path, []byte(`{"date": "soon"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-table", path}, {"-table", path + "x"}, {"now"}} {
		var out bytes.Buffer
		if _, err := run(args, os.LookupEnv, time.Now(), &out); err == nil {
			t.Errorf("%q: no error, and it printed:\n%s", args, &out)
		}
	}
}
