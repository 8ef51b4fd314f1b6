package gcpsecret

import (
	"strings"
	"testing"
)

func TestCheckNameLengths(t *testing.T) {
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
		if err := CheckName(test.before + long(test.most) + test.after); err != nil {
			t.Errorf("%s of %d bytes: %v", test.part, test.most, err)
		}
		if CheckName(test.before+long(test.most+1)+test.after) == nil {
			t.Errorf("%s of %d bytes is taken", test.part, test.most+1)
		}
	}
	const number = "projects/p/secrets/s/versions/1234567890123456789"
	if err := CheckName(number); err != nil {
		t.Error(err)
	}
	if CheckName(number+"0") == nil {
		t.Error("a version of 20 digits is taken")
	}
}
