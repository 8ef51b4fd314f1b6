package rescue_test

import (
	"errors"
	"strings"
	"testing"

	"example.com/gatehouse/internal/rescue"
)

func TestCall(t *testing.T) {
	t.Parallel()
	if err := rescue.Call(func() error { return nil }); err != nil {
		t.Errorf("of a function that does its work: %v", err)
	}
	own := errors.New("its own")
	if err := rescue.Call(func() error { return own }); !errors.Is(err, own) {
		t.Errorf("of a function that fails: %v", err)
	}
	err := rescue.Call(func() error { panic("oh no") })
	p, ok := errors.AsType[*rescue.Panic](err)
	if !ok || p.Value != "oh no" || err.Error() != "panic: oh no" || !strings.HasPrefix(p.Stack, "panic: oh no\n") || !strings.Contains(p.Stack, "rescue_test.go") {
		t.Errorf("of a function that panics: %v: %+v", err, p)
	}
}
