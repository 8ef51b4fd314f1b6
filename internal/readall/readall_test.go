package readall_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"example.com/gatehouse/internal/readall"
)

func TestSized(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 100)
	for name, size := range map[string]int64{"nothing announced": -1, "zero": 0, "less": 10, "exactly": 1000, "more": 5000} {
		for way, reader := range map[string]io.Reader{
			"at once": strings.NewReader(text), "by bytes": iotest.OneByteReader(strings.NewReader(text)), "the end with the data": iotest.DataErrReader(strings.NewReader(text)),
		} {
			if got, err := readall.Sized(reader, size); err != nil || string(got) != text {
				t.Errorf("%s, %s: %d bytes, %v", name, way, len(got), err)
			}
		}
	}
	for _, size := range []int{0, 1000} {
		if got, err := readall.Sized(strings.NewReader(text[:size]), int64(size)); err != nil || cap(got) != size+1 {
			t.Errorf("%d bytes, as announced, take %d: %v", size, cap(got), err)
		}
	}
	broken := errors.New("broken")
	for _, size := range []int64{-1, 10, 1000} {
		if _, err := readall.Sized(io.MultiReader(bytes.NewReader(make([]byte, 20)), iotest.ErrReader(broken)), size); !errors.Is(err, broken) {
			t.Errorf("size %d of what breaks: %v", size, err)
		}
	}
}
