// Package playground is the page at /, on which a person asks the agent and sees
// what the service offers: answers as they are written, tool calls, tokens and
// cost, sessions, feedback.
//
// The page is a client like any other: it uses the routes of the contract and
// knows nothing more. It is a handful of files in the directory page, without a
// framework or a build: app.js is the page, service.js makes the calls,
// markdown.js turns what a model says into nodes. Nothing on it comes from
// elsewhere, and what a model or a tool says can never become markup: all of it
// is put in by text nodes and by elements that markdown.js makes itself, and the
// Content-Security-Policy has the browser refuse anything else (Trusted Types
// without a policy: no string is ever parsed as HTML).
//
// Its addresses are relative, so it works below a path of a proxy too, opened
// with the slash at the end.
package playground

import (
	"embed"
	"net/http"
	"slices"

	"example.com/gatehouse/internal/api"
)

//go:embed page
var files embed.FS

var file = api.PageFiles(files, "page")

// policy is the page's Content-Security-Policy: its own files and its own
// service, and nothing inline.
//
// Pictures of answers are blobs that the page has made; the only frame is
// searches.html.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; frame-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// searchesPolicy is that of searches.html, the document that Google's suggestions of
// searches are put into, in a frame of the page: their styles work, and nothing is run
// or loaded.
const searchesPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

const searches = "searches.html"

// An Agent is what the page shows of the agent to callers who may ask it.
type Agent struct {
	Name         string   `json:"name"`
	Model        string   `json:"model"`
	Offline      bool     `json:"offline"` // the stand-in answers, not Gemini
	Tools        []Tool   `json:"tools"`
	FileTypes    []string `json:"file_types"` // media types of questions' files; none where files are refused
	MaxFileBytes int64    `json:"max_file_bytes"`
	MaxFiles     int      `json:"max_files"`
	MaxQuery     int      `json:"max_query"` // characters
}

// A Tool is a tool of the agent.
type Tool struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Effect      bool   `json:"effect"`  // it changes the world
	Confirm     bool   `json:"confirm"` // a person may have to approve a call
}

// Add returns routes with the page: GET / answers it to a browser, and everybody
// else as before. Anybody may read the page's files. What the agent has is only for
// callers who may ask it: a description of tools is not for strangers.
func Add(routes []api.Route, about Agent) []api.Route {
	all := slices.Clone(routes)
	for i, route := range all {
		if route.Pattern() == "GET /" {
			all[i].Media, all[i].Handler = "text/html", page(route.Handler) // page looks at Accept itself
		}
	}
	return append(all, api.Route{
		Method: http.MethodGet, Path: "/playground/{file}", Public: true, Media: "*/*",
		Summary: "A file of the playground.", Handler: asset,
	}, api.Route{
		Method: http.MethodGet, Path: "/playground", Summary: "What the playground shows of the agent.",
		Handler: func(w http.ResponseWriter, r *http.Request) error { return api.WriteSuccess(w, r, "The agent", about) },
	})
}

// page answers the page, or by otherwise where HTML is not what is asked for.
func page(otherwise api.Handler) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Add("Vary", "Accept")
		if api.PrefersHTML(r) {
			return serve(w, r, "index.html")
		}
		if json, stream, _ := api.Negotiate(r); !json && !stream {
			return api.Fail(api.NotAcceptable, nil)
		}
		return otherwise(w, r)
	}
}

func asset(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	if name == "index.html" { // it is at /
		return api.Fail(api.NotFound, nil)
	}
	return serve(w, r, name)
}

// serve answers with a file. A browser may keep it, and revalidates it each time, so
// that a deployment is seen at once.
func serve(w http.ResponseWriter, r *http.Request, name string) error {
	f, err := file(name)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	if name == searches {
		h.Set("Content-Security-Policy", searchesPolicy)
		h.Set("X-Frame-Options", "SAMEORIGIN")
	}
	h.Set("Cache-Control", "no-cache")
	return f.Serve(w, r)
}
