package mcptool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/egress"
	"example.com/gatehouse/tool"
)

// maxResponse bounds each response of a server, in bytes, after decompression. What a
// tool may return to the model is far less ([tool.MaxOutputBytes]); a list of tools, and
// an output whose beginning is shown, may be more.
const maxResponse = 4 << 20

// What goes wrong with a server, in words for the model. Each follows the server's name.
var (
	errAway     = errors.New("cannot be reached")
	errAbsent   = errors.New("needs the caller to be present and signed in with a token of their own")
	errRefused  = errors.New("refused the credential")
	errRedirect = errors.New("answered with a redirect, which is not followed")
	errTooLong  = errors.New("sent a response that is too long")
	errForm     = errors.New("sent a response that is not of the protocol")
	errInput    = errors.New("asks for more input, which cannot be given here")
	errAddress  = errors.New("has an address that is not allowed")
	errTime     = errors.New("took too long")
)

// A transport sends the requests of a set: with its credentials, to its host only. Of
// the response it reads no more than maxResponse.
type transport struct {
	set      *Set
	endpoint *url.URL
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != t.endpoint.Scheme || r.URL.Host != t.endpoint.Host {
		return nil, errRedirect
	}
	r = r.Clone(r.Context())
	for name, secret := range t.set.headers {
		r.Header.Set(name, secret.Reveal())
	}
	if t.set.asCaller {
		token := tool.CallerToken(r.Context())
		if token == "" {
			return nil, errAbsent
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.set.status.Store(int32(resp.StatusCode))
	refusal := error(nil)
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		refusal = errRedirect
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		refusal = errRefused
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		refusal = statusError(resp.StatusCode)
	}
	if refusal != nil {
		_ = resp.Body.Close()
		return nil, refusal
	}
	reading, _ := r.Context().Value(readingKey{}).(*reading)
	reading.set(nil)
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && kind != "application/json" && kind != "text/event-stream" {
		reading.set(errForm) // the SDK does not read it
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponse, reading: reading}
	return resp, nil
}

// A boundedBody fails when more than left bytes are read.
type boundedBody struct {
	io.ReadCloser
	left    int
	reading *reading
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more may be the end.
		n, err := b.ReadCloser.Read(make([]byte, 1))
		if n == 0 && err != nil {
			return 0, b.end(err)
		}
		return 0, b.end(errTooLong)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, b.end(err)
}

// end notes how the body has ended, nil if it has not.
func (b *boundedBody) end(err error) error {
	if err != nil {
		b.reading.set(err)
	}
	return err
}

// A reading is how the body of a request's last response has ended. The SDK does not wrap what
// the body returns, so an error of the SDK does not show it. A nil reading, as of a
// command, notes nothing.
type reading struct {
	mu    sync.Mutex
	ended error // nil: not yet
}

type readingKey struct{}

// withReading returns a context for the requests of one call, and their reading.
func withReading(ctx context.Context) (context.Context, *reading) {
	r := &reading{}
	return context.WithValue(ctx, readingKey{}, r), r
}

func (r *reading) set(ended error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = ended
}

// name adds to err, of a call, what its response was: too long, or read to its end and not
// understood.
func (r *reading) name(err error) error {
	if !isBroken(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.ended {
	case errTooLong:
		return fmt.Errorf("%w: %w", errTooLong, err)
	case io.EOF, errForm:
		return fmt.Errorf("%w: %w", errForm, err)
	}
	return err
}

// A statusError is a response whose status means that the server cannot answer now.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("answered with status %d", int(e)) }

// verdict is what a call that ended with err means for the server's breaker. The server
// is there if it has answered, if only with an error.
func verdict(err error) breaker.Verdict {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errAbsent):
		return breaker.Uncounted
	case err == nil, wireError(err) != nil, errors.Is(err, errRefused):
		return breaker.Answered
	}
	return breaker.Away
}

// rejected is the code by which the SDK marks what never reached the server.
const rejected = -32005

// wireError returns the server's own error in err, nil if the server has sent none.
func wireError(err error) *jsonrpc.Error {
	e, ok := errors.AsType[*jsonrpc.Error](err)
	if !ok || e.Code == rejected {
		return nil
	}
	return e
}

// isBroken reports whether err has ended the connection: it is no answer, the SDK does
// not call it rejected, and the caller has not left.
func isBroken(err error) bool {
	_, answered := errors.AsType[*jsonrpc.Error](err)
	return err != nil && !answered && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// explain returns err in words that hold no address, no credential and nothing that the
// server has sent.
func explain(err error) error {
	for _, known := range []error{errAway, errAbsent, errRefused, errRedirect, errTooLong, errForm, errInput} {
		if errors.Is(err, known) {
			return known
		}
	}
	if status, ok := errors.AsType[statusError](err); ok {
		return status
	}
	if _, ok := errors.AsType[*egress.AddressError](err); ok {
		return errAddress
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errTime
	}
	return errAway
}

// describeError returns err for the log: why a server cannot be reached, or a command be
// started, but neither the URL, which may hold a key, nor what the server has sent.
func describeError(err error) string {
	reason := explain(err)
	known := reason.Error()
	// The others hold the reason themselves.
	if inner, ok := errors.AsType[*url.Error](err); ok && (errors.Is(reason, errAway) || errors.Is(reason, errAddress)) {
		return known + ": " + egress.Reason(inner).Error()
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		return known + ": " + inner.Error()
	}
	if inner, ok := errors.AsType[*exec.Error](err); ok {
		return known + ": " + inner.Error()
	}
	if inner := wireError(err); inner != nil {
		return fmt.Sprintf("answered with the error %d", inner.Code)
	}
	return known
}

// environment returns the variables that a command sees without [Env].
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
