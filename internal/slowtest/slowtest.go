// Package slowtest keeps tests that take long out of go test ./..., so that it
// takes minutes on a laptop. Continuous integration runs all of them.
package slowtest

import (
	"flag"
	"os"
	"strconv"
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
	if !asked() {
		t.Skipf("NOT TESTED: %s, which takes long. %s=1 go test ./... tests it.", what, Variable)
	}
}

// AtOnce lets n parallel tests of a package run at once where slow tests are not asked for and
// the command line says nothing else. It is for TestMain of packages whose tests wait more
// than they work, which otherwise run as many at once as there are cores.
func AtOnce(n int) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); !asked() && f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(n))
	}
}

func asked() bool { return os.Getenv(Variable) != "" || os.Getenv("CI") != "" }
