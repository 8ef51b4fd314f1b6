// Package readall reads what comes with its length.
package readall

import (
	"bytes"
	"io"
	"slices"
)

// Sized reads from to its end, which is announced after size bytes; below 0: nothing is
// announced. What is as long as it should be gets just the memory that it needs, where
// io.ReadAll and bytes.Buffer want 512 bytes more. from is to bound what can come.
func Sized(from io.Reader, size int64) ([]byte, error) {
	if size < 0 {
		return io.ReadAll(from)
	}
	data := make([]byte, 0, size+1) // a reader may tell its end only when it is asked for more
	for {
		n, err := from.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		case len(data) == cap(data): // more than was announced
			data = slices.Grow(data, bytes.MinRead)
		}
	}
}
