package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A File is an answer that is the same for every caller, outside of the envelope.
// It is safe for concurrent use.
type File struct {
	media  string
	plain  []byte // nil: unpacked for each of the few clients that do not accept gzip
	packed []byte // by gzip
	tag    string // of the content, without quotes
}

// NewFile returns the file with this content, of the type media.
func NewFile(media string, content []byte) (*File, error) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := writer.Write(content); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	f := newPackedFile(media, packed.Bytes())
	f.plain = content
	return f, nil
}

// newPackedFile returns the file whose content is packed by gzip already.
func newPackedFile(media string, packed []byte) *File {
	sum := sha256.Sum256(packed)
	return &File{media: media, packed: packed, tag: base64.RawURLEncoding.EncodeToString(sum[:12])}
}

// mediaTypes are those of a page's files, by the ends of their names.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// PageFiles returns a function that returns the files of a page: those of a directory by
// their names, of one that is packed by gzip already without ".gz", and not_found for any
// other name. They are made at the first call.
func PageFiles(files embed.FS, dir string) func(name string) (*File, error) {
	all := sync.OnceValues(func() (map[string]*File, error) {
		entries, err := files.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		all := make(map[string]*File, len(entries))
		for _, entry := range entries {
			content, err := files.ReadFile(path.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			name, packed := strings.CutSuffix(entry.Name(), ".gz")
			media := mediaTypes[path.Ext(name)]
			if packed {
				all[name] = newPackedFile(media, content)
			} else if all[name], err = NewFile(media, content); err != nil {
				return nil, err
			}
		}
		return all, nil
	})
	return func(name string) (*File, error) {
		all, err := all()
		if err != nil {
			return nil, fmt.Errorf("reading the files of a page: %w", err)
		}
		f, ok := all[name]
		if !ok {
			return nil, Fail(NotFound, nil)
		}
		return f, nil
	}
}

// Serve answers with the file, or with 304 where the client has a copy that still
// holds. The entity tag of the packed form differs, as RFC 9110, 8.8.3.3, asks for.
func (f *File) Serve(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	body, tag, packed := f.plain, `"`+f.tag+`"`, acceptsGzip(r)
	if packed {
		body, tag = f.packed, `"`+f.tag+`-gzip"`
	}
	if matches(r, tag) {
		h.Set("ETag", tag)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if body == nil {
		reader, err := gzip.NewReader(bytes.NewReader(f.packed))
		if err == nil {
			body, err = io.ReadAll(reader)
		}
		if err != nil {
			return fmt.Errorf("unpacking a file: %w", err)
		}
	}
	if packed {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	h.Set("Content-Type", f.media)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has gone away needs nothing more
	return nil
}

// acceptsGzip reports whether the client accepts a body packed by gzip (RFC 9110, 12.5.3).
func acceptsGzip(r *http.Request) bool {
	accepted := false
	for item := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, parameters, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip":
			return weight(parameters) > 0
		case "*":
			accepted = weight(parameters) > 0
		}
	}
	return accepted
}

// matches reports whether If-None-Match names this entity tag, given with its
// quotes (RFC 9110, 13.1.2).
func matches(r *http.Request, etag string) bool {
	tags := strings.Split(strings.Join(r.Header.Values("If-None-Match"), ","), ",")
	return slices.ContainsFunc(tags, func(tag string) bool {
		tag = strings.TrimSpace(tag)
		return tag == "*" || strings.TrimPrefix(tag, "W/") == etag
	})
}

// A LastFile keeps the JSON file of the key that was asked for last, which is nearly always
// the same. The zero LastFile is empty. It is safe for concurrent use.
type LastFile struct {
	mu   sync.Mutex
	key  string
	file *File
}

// Get returns the file of a key, whose content encode returns.
func (l *LastFile) Get(key string, encode func() ([]byte, error)) (*File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && l.key == key {
		return l.file, nil
	}
	encoded, err := encode()
	if err != nil {
		return nil, err
	}
	file, err := NewFile("application/json", encoded)
	if err != nil {
		return nil, err
	}
	l.key, l.file = key, file
	return file, nil
}
