// Package slowtest keeps tests that take long out of go test ./..., so that it
// takes minutes on a laptop. Continuous integration runs all of them.
package slowtest

import (
	"os"
	"testing"
)

// Variable is the environment variable that asks for slow tests: any value but the
// empty one. A CI that is set asks for them too.
const Variable = "SLOW_TESTS"

// Skip skips t unless slow tests are asked for. A test is slow if it takes more than
// about ten seconds on two cores, or installs packages. What is the sentence's
// object: what was not tested.
func Skip(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(Variable) == "" && os.Getenv("CI") == "" {
		t.Skipf("NOT TESTED: %s, which takes long. %s=1 go test ./... tests it.", what, Variable)
	}
}
