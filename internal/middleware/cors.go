package middleware

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/rs/cors"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/truncate"
)

// What pages of other origins may send and read.
var (
	crossMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete}
	crossHeaders = []string{
		"Authorization", "X-API-Key", "Content-Type", "Accept", "X-Request-ID", "Idempotency-Key",
		"traceparent", "tracestate", "X-Cloud-Trace-Context", "X-Serverless-Authorization",
		"Last-Event-ID", "Prefer", "X-AI-SDK", "X-Requested-With", "baggage", "sentry-trace", // telemetry of pages adds the last two
		"Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name",
	}
)

const (
	crossExposed = "X-Request-ID, RateLimit, RateLimit-Policy, Retry-After, Idempotency-Replayed"
	crossMaxAge  = 600 // seconds for which a browser may keep the answer to a preflight
)

// checkOrigin lets through to next what no page sent, or one of the service's own
// origin; pages of the origins on the list, with the headers that let them read
// the answer; and what anybody sends to the platform's probes. All other pages
// are refused.
func (m *middleware) checkOrigin(next http.Handler) http.Handler {
	preflight := cors.New(cors.Options{
		AllowOriginFunc: func(string) bool { return true }, // asked only when it is on the list
		AllowedMethods:  crossMethods, AllowedHeaders: crossHeaders, MaxAge: crossMaxAge,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !m.crossOrigin(r) {
			next.ServeHTTP(w, r)
			return
		}
		origins := r.Header["Origin"]
		switch listed, known := m.listed(origins); {
		case !listed && m.probes[r.URL.Path]:
			next.ServeHTTP(w, r)
		case !known:
			m.answerError(w, r, api.Fail(api.NotReady, errors.New("the list of origins could not be fetched for too long")))
		case !listed:
			m.answerError(w, r, api.Fail(api.OriginNotAllowed, fmt.Errorf("origin %s is not on the list", truncate.Text(strings.Join(origins, " and "), 128))))
		case r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "":
			telemetry.SetRoute(r.Context(), "preflight")
			w.Header().Del("Vary") // rs/cors sets more than Origin
			preflight.HandlerFunc(w, r)
		default:
			// Not by rs/cors, which leaves a 405 without them.
			w.Header().Set("Access-Control-Allow-Origin", origins[0])
			w.Header().Set("Access-Control-Expose-Headers", crossExposed)
			next.ServeHTTP(w, r)
		}
	})
}

// listed reports whether it is one origin and on the list as it stands now, and
// whether that list is known.
func (m *middleware) listed(origins []string) (listed, known bool) {
	if m.Origins == nil {
		return false, true
	}
	list, known := m.Origins()
	return known && len(origins) == 1 && slices.Contains(list, origins[0]), known
}

// crossOrigin reports whether a page that is not the service's own sent r.
func (m *middleware) crossOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	return len(origins) > 1 || len(origins) == 1 && !m.sameOrigin(r, origins[0])
}

// sameOrigin reports whether origin is the service's own: the scheme, host and
// port that r was sent to.
func (m *middleware) sameOrigin(r *http.Request, origin string) bool {
	scheme := m.scheme(r)
	host, ok := strings.CutPrefix(origin, scheme+"://")
	own := hostPort(scheme, r.Host)
	return ok && own != "" && hostPort(scheme, host) == own
}

// scheme is how the client came, as the trusted proxy reports it.
func (m *middleware) scheme(r *http.Request) string {
	if m.Proxied {
		if proto := lastOf(r, "X-Forwarded-Proto"); proto != "" {
			return strings.ToLower(proto)
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// hostPort is host, and port where it is not the scheme's own, in the form that
// two of them can be compared in.
func hostPort(scheme, host string) string {
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A' // of ASCII only: a Kelvin sign is no k
		}
		return r
	}, host)
}
