package openapi

import (
	"embed"
	"net/http"

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

// file returns one of the page's files, or the page itself.
var file = api.PageFiles(viewer, "viewer")

const page = "page.html"

// servePage is GET /docs.
func servePage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	return serve(page, w, r)
}

// serveFile is GET /docs/{file}.
func serveFile(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	if name == page { // it is at /docs
		return api.Fail(api.NotFound, nil)
	}
	return serve(name, w, r)
}

func serve(name string, w http.ResponseWriter, r *http.Request) error {
	f, err := file(name)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-cache") // revalidated each time: the files change with the revision
	return f.Serve(w, r)
}
