package testlog_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"

	"example.com/gatehouse/internal/testlog"
)

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b testlog.Buffer
		found := make(chan []string, 1)
		go func() {
			match, err := b.Await(t.Context(), regexp.MustCompile(`ready at (\S+)\n`))
			if err != nil {
				t.Error(err)
			}
			found <- match
		}()
		for _, text := range []string{"starting\n", "ready at ", "http://x\n"} {
			synctest.Wait()
			if len(found) > 0 {
				t.Fatalf("found before it was written: %s", &b)
			}
			_, _ = fmt.Fprint(&b, text)
		}
		if match := <-found; len(match) != 2 || match[1] != "http://x" {
			t.Errorf("found %q", match)
		}
		if got := b.Lines("ready"); !slices.Equal(got, []string{"ready at http://x\n"}) {
			t.Errorf("lines %q", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Await(ctx, regexp.MustCompile("never")); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}
