package invoke_test

import (
	"testing"

	"example.com/gatehouse/invoke"
)

// Whatever reads or changes what is stored for somebody is in the audit. What is not: sums
// without content, and the queue's route, whose actions its runs set.
func TestWhichRoutesAreAudited(t *testing.T) {
	t.Parallel()
	unaudited := map[string]bool{"GET /usage": true, "POST /tasks": true}
	for _, r := range (*invoke.Service)(nil).Routes() {
		if (r.Audit == "") != unaudited[r.Pattern()] {
			t.Errorf("%s: the audit has action %q", r.Pattern(), r.Audit)
		}
	}
}
