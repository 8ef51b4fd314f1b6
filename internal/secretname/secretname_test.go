package secretname_test

import (
	"strings"
	"testing"

	"example.com/gatehouse/internal/secretname"
)

func TestLengths(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, test := range []struct {
		part, before, after string
		most                int
	}{
		{"a project", "projects/", "/secrets/s/versions/1", 100},
		{"a location", "projects/p/locations/", "/secrets/s/versions/1", 63},
		{"a secret", "projects/p/secrets/", "/versions/1", 255},
		{"an alias", "projects/p/secrets/s/versions/", "", 63},
	} {
		if err := secretname.Check(test.before + long(test.most) + test.after); err != nil {
			t.Errorf("%s of %d bytes: %v", test.part, test.most, err)
		}
		if secretname.Check(test.before+long(test.most+1)+test.after) == nil {
			t.Errorf("%s of %d bytes is taken", test.part, test.most+1)
		}
	}
	const number = "projects/p/secrets/s/versions/1234567890123456789"
	if err := secretname.Check(number); err != nil {
		t.Error(err)
	}
	if secretname.Check(number+"0") == nil {
		t.Error("a version of 20 digits is taken")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, version string
		ok            bool
	}{
		{"a number", "projects/p/secrets/s/versions/1", true},
		{"a project's number", "projects/123456/secrets/s/versions/1", true},
		{"a project of a domain", "projects/example.com:p/secrets/s/versions/1", true},
		{"latest", "projects/p/secrets/S_-9/versions/latest", true},
		{"an alias", "projects/p/secrets/s/versions/live-2", true},
		{"regional", "projects/p-1/locations/europe-west1/secrets/api-keys/versions/1", true},
		{"empty", "", false},
		{"no version", "projects/p/secrets/s", false},
		{"version 0", "projects/p/secrets/s/versions/0", false},
		{"a path that climbs", "projects/p/secrets/../versions/1", false},
		{"trailing slash", "projects/p/secrets/s/versions/1/", false},
		{"trailing newline", "projects/p/secrets/s/versions/1\n", false},
		{"no location", "projects/p/locations//secrets/s/versions/1", false},
		{"the secret itself", "correct horse battery staple", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := secretname.Check(tt.version)
			if (err == nil) != tt.ok {
				t.Errorf("Check(%q) = %v", tt.version, err)
			}
			if err != nil && tt.version != "" && strings.Contains(err.Error(), tt.version) {
				t.Errorf("the error repeats the name: %v", err)
			}
		})
	}
}
