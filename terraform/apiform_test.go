package terraform_test

import (
	"testing"

	"example.com/gatehouse/internal/apiform"
)

// A difference between what is written and what the API returns for it would be in
// every plan, and the delivery would warn of it for ever.
func TestNothingDiffersFromWhatTheAPIReturns(t *testing.T) {
	t.Parallel()
	for name, changes := range plans(t) {
		for _, c := range changes {
			for _, path := range apiform.Changes(c.Change.After, apiform.Returned(c.Type, c.Change.After)) {
				t.Errorf("%s: %s: %s comes back in another form than it is written", name, c.Address, path)
			}
		}
	}
}
