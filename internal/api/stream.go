package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// DecodeStream decodes a JSON body into the struct that into points to while it
// is read, for bodies most of which nobody needs: fields that into does not
// have are passed over. What is held of the body at once is about its largest
// text. Its form is as strict as that of [Body.Decode], its bounds and errors
// are those of [ReadBody], and longest bounds each text; an [*Error] that a field's own
// decoder returns is the answer. hold is called for each MiB of the largest text, and its
// error ends the reading.
func DecodeStream(w http.ResponseWriter, r *http.Request, limit, longest int64, timeout time.Duration, hold func() error, into any) error {
	return withBody(w, r, limit, timeout, func(body io.Reader) error {
		from := &shallowReader{from: body, longest: longest, hold: hold}
		err := json.UnmarshalRead(from, into)
		if err == nil {
			return nil
		}
		if from.err == nil {
			// The answer is read by who has sent all of its request.
			_, _ = io.Copy(io.Discard, from)
		}
		if from.err != nil && !errors.Is(from.err, io.EOF) {
			return from.err
		}
		if e, ok := errors.AsType[*Error](err); ok {
			return e
		}
		return decodeError(err)
	})
}

// A shallowReader passes JSON on until it nests more than [MaxDepth] levels.
// It needs no more of JSON than where texts begin and end.
type shallowReader struct {
	from  io.Reader
	depth int
	text  bool // inside of one
	slash bool // after a backslash in it
	err   error

	length  int64 // of the text
	longest int64 // that a text may be
	held    int64 // MiB of the largest one
	hold    func() error
}

// Read implements [io.Reader].
func (s *shallowReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.from.Read(p)
	s.err = err
	depth, text, slash, deepest := s.depth, s.text, s.slash, 0
	begin, largest := int64(0), s.length // of the text within p, less what came before
	for i, c := range p[:n] {
		switch {
		case slash:
			slash = false
		case text:
			slash = c == '\\'
			if text = c != '"'; !text {
				largest = max(largest, s.length+int64(i)-begin)
			}
		case c == '"':
			text, s.length, begin = true, 0, int64(i)
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	s.depth, s.text, s.slash = depth, text, slash
	if text {
		s.length += int64(n) - begin
		largest = max(largest, s.length)
	}
	if s.err == nil || errors.Is(s.err, io.EOF) {
		s.holdText(largest)
	}
	if _, refused := errors.AsType[*Error](s.err); refused {
		return 0, s.err
	}
	if deepest > MaxDepth {
		s.err = Malformed("body", fmt.Sprintf("must not nest more than %d levels", MaxDepth))
		return 0, s.err
	}
	return n, err
}

// holdText bounds a text of this length.
func (s *shallowReader) holdText(length int64) {
	if length > s.longest {
		s.err = TooLarge(s.longest)
		return
	}
	for ; s.held < length>>20; s.held++ {
		if err := s.hold(); err != nil {
			s.err = err
			return
		}
	}
}
