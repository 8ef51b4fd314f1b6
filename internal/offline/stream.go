package offline

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
)

// wordsPerChunk is small enough for a reader to see an answer grow.
const wordsPerChunk = 4

// streamResponse answers in server-sent events, the only form of a stream that
// the SDK asks for (alt=sse).
func streamResponse(req *http.Request, g generation) *http.Response {
	chunks := []string{""}
	if len(g.answer.calls) == 0 {
		chunks = pieces(g.answer.text)
	}
	return response(req, http.StatusOK, "text/event-stream", &stream{ctx: req.Context(), generation: g, chunks: chunks})
}

// pieces splits text after every few words; joined they are the text again.
func pieces(text string) []string {
	var out []string
	words, start := 0, 0
	for i := 1; i < len(text); i++ {
		if isSpace(text[i-1]) && !isSpace(text[i]) {
			if words++; words%wordsPerChunk == 0 {
				out = append(out, text[start:i])
				start = i
			}
		}
	}
	return append(out, text[start:])
}

func isSpace(b byte) bool { return strings.IndexByte(" \t\r\n", b) >= 0 }

// A stream is a response body that encodes each event when it is read, so that
// nothing runs, and nothing is left behind, while nobody reads. Close may be
// called beside Read.
type stream struct {
	ctx        context.Context
	generation generation
	chunks     []string // still to come
	sent       int      // bytes of text
	pending    []byte   // of the current event
	closed     atomic.Bool
}

func (s *stream) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	if len(s.pending) == 0 {
		if len(s.chunks) == 0 {
			return 0, io.EOF
		}
		s.pending = s.next()
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

func (s *stream) Close() error {
	s.closed.Store(true)
	return nil
}

// next carries the usage so far in every event and the finish in the last one,
// as Gemini does.
func (s *stream) next() []byte {
	chunk := s.chunks[0]
	s.chunks = s.chunks[1:]
	s.sent += len(chunk)
	event := s.generation.whole()
	if len(s.generation.answer.calls) == 0 {
		event.Candidates[0].Content.Parts = []part{{Text: &chunk}}
	}
	if len(s.chunks) > 0 {
		event = s.generation.response(candidate{Content: event.Candidates[0].Content}, min(tokens(s.sent), s.generation.answer.tokens))
	}
	return append(append([]byte("data: "), encode(event)...), "\n\n"...)
}
