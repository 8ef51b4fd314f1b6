package middleware

import (
	"net/http"
	"regexp"

	"example.com/gatehouse/session"
)

// requestIDForm is the form of an X-Request-ID of at most maxRequestID bytes. As part
// of the expression, the length would unroll into as many states at every start.
var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

const maxRequestID = 128

// requestID returns r's id: the client's if it has the form of one, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if len(id) > maxRequestID || !requestIDForm.MatchString(id) {
		return session.NewID()
	}
	return id
}

// The values of headers that every answer has, which none changes in place.
var (
	noSniff    = []string{"nosniff"}
	noStore    = []string{"no-store"}
	varyOrigin = []string{"Origin"}
)

// setCommonHeaders sets what every answer has.
func setCommonHeaders(h http.Header, id string) {
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noStore
	h["Vary"] = varyOrigin
}

// maxHeaderBytes bounds a request's headers; the framework's server takes 1 MiB.
const maxHeaderBytes = 32 << 10

// headerBytes is about the size of r's headers as they were sent.
func headerBytes(r *http.Request) int {
	n := 0
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value) + len(": \r\n")
		}
	}
	return n
}
