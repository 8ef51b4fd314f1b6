package openapi

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"net/http"
	"sync"

	"example.com/gatehouse/internal/api"
)

// The viewer is Swagger UI as it is on npm, packed; viewer/README.md says which.
//
//go:embed viewer/*.gz viewer/page.*
var viewer embed.FS

// The page needs nothing but what this service serves, and runs no script that
// stands in the page itself. Swagger UI draws its icons from data: URLs.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// files are those under /docs/, and the page itself under "".
var files = sync.OnceValues(func() (map[string]*file, error) {
	all := map[string]*file{}
	for _, f := range []struct{ name, path, media string }{
		{"", "viewer/page.html", "text/html; charset=utf-8"},
		{"page.js", "viewer/page.js", "text/javascript; charset=utf-8"},
		{"page.css", "viewer/page.css", "text/css; charset=utf-8"},
		{"swagger-ui-bundle.js", "viewer/swagger-ui-bundle.js.gz", "text/javascript; charset=utf-8"},
		{"swagger-ui.css", "viewer/swagger-ui.css.gz", "text/css; charset=utf-8"},
	} {
		content, err := viewer.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("the viewer's %s: %w", f.path, err)
		}
		all[f.name] = newFile(f.media, content)
		all[f.name].packed = bytes.HasPrefix(content, []byte{0x1f, 0x8b})
	}
	return all, nil
})

// fileNames are the files below /docs/.
var fileNames = []any{"page.css", "page.js", "swagger-ui-bundle.js", "swagger-ui.css"}

// servePage is GET /docs.
func servePage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	return servePart("", w, r)
}

// serveFile is GET /docs/{file}.
func serveFile(w http.ResponseWriter, r *http.Request) error {
	return servePart(r.PathValue("file"), w, r)
}

func servePart(name string, w http.ResponseWriter, r *http.Request) error {
	all, err := files()
	if err != nil {
		return err
	}
	f, ok := all[name]
	if !ok {
		return api.Fail(api.NotFound, nil)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // kept, but asked about each time: they change with the revision alone
	if !f.packed {
		f.serve(w, r)
		return nil
	}
	h.Add("Vary", "Accept-Encoding")
	if api.AcceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		f.serve(w, r)
		return nil
	}
	unpacked, err := unpack(f)
	if err != nil {
		return err
	}
	unpacked.serve(w, r)
	return nil
}

// unpack is for the few clients that do not take what is packed.
func unpack(f *file) (*file, error) {
	reader, err := gzip.NewReader(bytes.NewReader(f.content))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	return newFile(f.media, content), nil
}
