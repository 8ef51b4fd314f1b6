package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"example.com/gatehouse/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is an environment given as "NAME=value".
func env(pairs ...string) func(string) (string, bool) {
	m := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		m[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := m[name]
		return value, ok
	}
}

// secretsByText makes cmp compare secrets by what they hide.
var secretsByText = cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() })

// production is an environment in which everything is in order.
var production = []string{"K_SERVICE=gatehouse", "IAM_ENFORCED=true", "GOOGLE_GENAI_USE_VERTEXAI=true"}

func with(base []string, pairs ...string) []string { return append(slices.Clone(base), pairs...) }

// problems fails the test unless err, where there is one, is Problems.
func problems(t testing.TB, err error) config.Problems {
	t.Helper()
	if err == nil {
		return nil
	}
	ps, ok := errors.AsType[config.Problems](err)
	if !ok {
		t.Fatalf("error %T %v, want config.Problems", err, err)
	}
	return ps
}
