package openapi

import (
	"embed"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"example.com/gatehouse/internal/api"
)

// viewer is Swagger UI as it is on npm, packed; viewer/README.md names the version.
//
//go:embed viewer/*.gz viewer/page.*
var viewer embed.FS

// pagePolicy lets the page load only what this service serves, and run no inline
// script. Swagger UI draws its icons from data: URLs.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// files returns those under /docs/, and the page itself under "". They are made at the
// page's first request. The viewer's large files stay packed in memory and are sent so to
// clients that accept gzip.
var files = sync.OnceValues(func() (map[string]*api.File, error) {
	all := map[string]*api.File{}
	for _, f := range []struct{ name, path, media string }{
		{"", "page.html", "text/html"},
		{"page.js", "page.js", "text/javascript"},
		{"page.css", "page.css", "text/css"},
		{"swagger-ui-bundle.js", "swagger-ui-bundle.js.gz", "text/javascript"},
		{"swagger-ui.css", "swagger-ui.css.gz", "text/css"},
	} {
		content, err := viewer.ReadFile("viewer/" + f.path)
		if err != nil {
			return nil, err
		}
		media := f.media + "; charset=utf-8"
		if strings.HasSuffix(f.path, ".gz") {
			all[f.name] = api.NewPackedFile(media, content)
		} else if all[f.name], err = api.NewFile(media, content); err != nil {
			return nil, err
		}
	}
	return all, nil
})

// servePage is GET /docs.
func servePage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	return serve("", w, r)
}

// serveFile is GET /docs/{file}.
func serveFile(w http.ResponseWriter, r *http.Request) error { return serve(r.PathValue("file"), w, r) }

func serve(name string, w http.ResponseWriter, r *http.Request) error {
	all, err := files()
	if err != nil {
		return fmt.Errorf("reading the viewer's files: %w", err)
	}
	f, ok := all[name]
	if !ok {
		return api.Fail(api.NotFound, nil)
	}
	w.Header().Set("Cache-Control", "no-cache") // revalidated each time: the files change with the revision
	return f.Serve(w, r)
}
