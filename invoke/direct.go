package invoke

import (
	"fmt"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/files"
)

// What doors need to read their own bodies and files. The limits are those of POST /invoke: a
// door must not be the way around one of them.

// OptionsOf returns the options that a door's request has in headers as POST /invoke's.
func (s *Service) OptionsOf(r *http.Request) (Options, error) {
	key, err := s.key(r)
	return Options{Key: key, Locale: api.Locale(r)}, err
}

// Overhead is how many bytes a door's request may have beside a question as long as
// MAX_BODY_BYTES lets POST /invoke have.
const Overhead = 16 << 10

// ReadBody reads the body of a door's request, which may bring files in base64. A body
// with files takes of the memory for those; leave must be called when the request is
// over. With an error leave is nil: the memory was left already.
func (s *Service) ReadBody(w http.ResponseWriter, r *http.Request) (body []byte, leave func(), err error) {
	limit := s.MaxBodyBytes + Overhead
	memory := memoryClaim{room: s.room, owner: caller.Owner(r.Context())}
	if s.Files.accepted() {
		most := limit + api.EncodedLen(s.Files.MaxBytes)
		// A body within the usual limit has no files worth counting, and takes no place from
		// those that do.
		if r.ContentLength < 0 || r.ContentLength > limit {
			// A chunked body has no length, so it is taken for the longest.
			expected := min(r.ContentLength, most)
			if expected < 0 {
				expected = most
			}
			// Places are taken before the body is read: a body that cannot be held is refused
			// with 503 overloaded while it has cost nothing.
			for range (expected + 1<<20 - 1) >> 20 {
				if err := memory.take(); err != nil {
					memory.leave()
					return nil, nil, err
				}
			}
		}
		limit = most
	}
	if body, err = api.ReadBody(w, r, limit, s.Timeout); err != nil {
		memory.leave()
		return nil, nil, err
	}
	return body, memory.leave, nil
}

// Attach adds a file to a request: its content, or its gs:// address. field is where it
// is in the door's request, and names it in an error. Its errors are [*api.Error]: 422 with
// the field, or 413 when all files together exceed MAX_FILE_BYTES. It is not safe for
// concurrent use with the same request.
func (s *Service) Attach(req *Request, field string, f File) error {
	in := chatInput{field: field, mediaType: f.Type, name: f.Name, uri: f.URI, data: f.Data}
	left := s.Files.MaxBytes - int64(len(f.Data))
	for _, a := range req.attached {
		left -= int64(len(a.data))
	}
	switch {
	case !s.Files.accepted():
		return api.Invalid(field, "must be left out: this service accepts no files")
	case len(req.attached) >= files.Max:
		return api.Invalid(field, fmt.Sprintf("must be left out: a question has at most %d files", files.Max))
	case f.URI == "" && len(f.Data) == 0:
		return api.Invalid(field, "must not be empty")
	case f.Name != "" && files.CheckName(f.Name) != nil:
		return api.Invalid(field, "has a name that is no file's")
	case left < 0:
		return api.FilesTooLarge(s.Files.MaxBytes)
	}
	return s.attach(req, place{path: field}, in)
}
