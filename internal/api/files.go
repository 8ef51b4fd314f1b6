package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A FileBody bounds a body that may carry files in base64, as
//
//	{"files": [{"data": "…"}], …}
//
// Texts within the member "files" count against Files, all else against Limit, both
// while the body is read.
type FileBody struct {
	Limit int64 // of all but the files, in bytes
	Files int64 // of the files, in bytes after decoding
	Max   int   // number of files that are decoded
	// Hold, if set, is called once for each MiB that is read beyond Limit, before it is
	// kept in memory. Its error ends the reading.
	Hold func() error
}

// slack is what the other texts within "files" (types, addresses) may take, in bytes.
const slack = 16 << 10

// Read reads a JSON body like [ReadBody]. If it is larger than Limit, the data of its
// files is decoded by decode as it lies there, and replaced by "" in the body that is
// returned: what checks the body afterwards copies it several times over.
func (f FileBody) Read(w http.ResponseWriter, r *http.Request, timeout time.Duration, decode func([]byte) ([]byte, error)) (body []byte, data [][]byte, err error) {
	var raw bytes.Buffer
	err = withBody(w, r, f.Limit+EncodedLen(f.Files)+slack, timeout, func(from io.Reader) error {
		if r.ContentLength > 0 && r.ContentLength <= f.Limit {
			raw.Grow(int(r.ContentLength) + bytes.MinRead)
		}
		_, err := raw.ReadFrom(&fileReader{from: from, FileBody: f})
		return err
	})
	if err != nil || int64(raw.Len()) <= f.Limit {
		return raw.Bytes(), nil, err
	}
	return f.split(raw.Bytes(), decode)
}

// EncodedLen returns the length of n bytes in base64.
func EncodedLen(n int64) int64 { return (n + 2) / 3 * 4 }

// A fileReader bounds what it passes on. Of JSON it needs only where texts begin and
// end and which member of the outermost object it is in; a body that is not JSON is
// bounded by Limit or Files either way.
type fileReader struct {
	FileBody
	from io.Reader
	err  error

	depth        int
	text, slash  bool   // within a text; after a backslash in it
	naming       bool   // the next text names a member of the outermost object
	named        bool   // the text does
	name         []byte // of the member
	read, inside int64  // bytes in all, and of texts within "files"
	held         int64  // MiB
}

// Read implements [io.Reader].
func (f *fileReader) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.from.Read(p)
	f.scan(p[:n])
	f.read += int64(n)
	f.err = err
	switch {
	case f.read-f.inside > f.Limit:
		f.err = TooLarge(f.Limit)
	case f.inside > EncodedLen(f.Files)+slack:
		f.err = FilesTooLarge(f.Files)
	case f.depth > MaxDepth:
		f.err = Malformed("body", fmt.Sprintf("must not nest more than %d levels", MaxDepth))
	}
	for f.Hold != nil && f.read-f.Limit > f.held<<20 {
		if held := f.Hold(); held != nil {
			f.err = held
			break
		}
		f.held++
	}
	if _, refused := errors.AsType[*Error](f.err); refused {
		return 0, f.err
	}
	return n, f.err
}

// FilesTooLarge returns the error of a request whose files have more than limit bytes.
func FilesTooLarge(limit int64) *Error {
	return &Error{
		Code: RequestTooLarge, Message: "The files are too large: all together may have " + bytesInWords(limit) + ".",
		Details: []Detail{{"files", fmt.Sprintf("must have at most %d bytes in all", limit)}},
	}
}

func (f *fileReader) scan(p []byte) {
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case f.text:
			i += f.scanText(p[i:]) - 1
		case c == '"':
			f.text, f.named = true, f.naming && f.depth == 1
			if f.named {
				f.name = f.name[:0]
			}
			f.naming = false
		case c == '{' || c == '[':
			f.depth++
			f.naming = f.depth == 1
		case c == '}' || c == ']':
			f.depth--
		case c == ',':
			f.naming = f.depth == 1
		}
	}
}

// scanText takes in bytes of a text up to its end, and returns their number.
func (f *fileReader) scanText(p []byte) int {
	n := 0
	for n < len(p) && f.text {
		switch end := bytes.IndexAny(p[n:min(n+64, len(p))], `"\`); {
		case f.slash:
			f.slash = false
			n++
		case end < 0:
			end = bytes.IndexByte(p[n:], '"')
			if back := bytes.IndexByte(p[n:], '\\'); back >= 0 && (end < 0 || back < end) {
				end = back
			}
			if end < 0 {
				end = len(p) - n
			}
			n += end
		case p[n+end] == '\\':
			f.slash = true
			n += end + 1
		default:
			f.text = false
			n += end + 1
		}
	}
	switch {
	case f.named:
		f.name = append(f.name, p[:min(n, max(0, len(`files"`)+1-len(f.name)))]...)
	case f.depth > 1 && string(f.name) == `files"`:
		f.inside += int64(n)
	}
	return n
}

// split returns raw with the data of its files taken out.
func (f FileBody) split(raw []byte, decode func([]byte) ([]byte, error)) (body []byte, data [][]byte, err error) {
	if err := checkForm(raw); err != nil {
		return nil, nil, err
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	kept := 0 // of raw, up to here
	member := func(each func(name string) error) error {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return err
			}
			if err := each(name.String()); err != nil {
				return err
			}
		}
		_, err := d.ReadToken()
		return err
	}
	file := func(name string) error {
		if name != "data" || d.PeekKind() != '"' || len(data) > f.Max {
			return d.SkipValue()
		}
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		end := int(d.InputOffset())
		begin := end - len(value)
		text := value[1 : len(value)-1]
		if bytes.IndexByte(text, '\\') >= 0 {
			if text, err = jsontext.AppendUnquote(nil, value); err != nil {
				return err
			}
		}
		decoded, err := decode(text)
		if err != nil {
			return Invalid(fmt.Sprintf("files[%d].data", len(data)-1), err.Error())
		}
		data[len(data)-1] = decoded
		body = append(append(body, raw[kept:begin]...), `""`...)
		kept = end
		return nil
	}
	err = member(func(name string) error {
		if name != "files" || d.PeekKind() != '[' {
			return d.SkipValue()
		}
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		for d.PeekKind() != ']' {
			data = append(data, nil)
			if d.PeekKind() != '{' {
				if err := d.SkipValue(); err != nil {
					return err
				}
				continue
			}
			if err := member(file); err != nil {
				return err
			}
		}
		_, err := d.ReadToken()
		return err
	})
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, nil, e
		}
		return nil, nil, decodeError(err)
	}
	return append(body, raw[kept:]...), data, nil
}
