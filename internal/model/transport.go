package model

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/readall"
	"example.com/gatehouse/internal/truncate"
)

// The SDK knows what an API answers in one form only: it drops the headers of an error, does
// not know an error in a list or in an answer with status 200, refuses event streams with
// comments, and decodes numbers to float64. So answers are read here: what is an error is
// returned as an [*Error], and what is not in the form that the SDK's types decode. Only
// metadata of models goes on to the SDK itself.

// maxResponse bounds what is read of one answer.
// maxFailure is the bound of an error's body. Both are bytes.
const (
	maxResponse = 16 << 20
	maxFailure  = 1 << 20
)

// Connections are pinged when nothing has come for pingAfter, and closed when no
// answer comes within pingTimeout: a path that died silently costs 10 s.
const (
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second
)

// newTransport is sized for many calls at once: the default keeps two idle
// connections a host, and under load most calls would open one of their own.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &countingConn{Conn: conn}, nil
		},
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// A countingConn counts the bytes that have come.
type countingConn struct {
	net.Conn
	came atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.came.Add(int64(n))
	return n, err
}

// counted returns the countingConn below conn, nil where there is none.
func counted(conn net.Conn) *countingConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*countingConn)
	return c
}

// A transport carries requests and returns the errors of answers. It follows no redirect: what
// is asked, and the key, would go to a server that the answer names. It is safe for concurrent
// use.
type transport struct {
	next      http.RoundTripper
	closeIdle func()
}

// A use is that of a connection by a request.
type use struct {
	conn   *countingConn
	before int64 // bytes that had come
}

// follow returns the context of a request and where its use of a connection is noted.
func follow(ctx context.Context) (context.Context, *atomic.Pointer[use]) {
	used := new(atomic.Pointer[use])
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			if conn := counted(got.Conn); conn != nil {
				used.Store(&use{conn, conn.came.Load()})
			}
		},
	}), used
}

// send sends r, which has the context of follow.
func (t *transport) send(r *http.Request, used *atomic.Pointer[use]) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		if r.Context().Err() == nil {
			return nil, connectionError(err, true)
		}
		// Nothing has come on the connection, for no call: it may be dead, and so may
		// be those that are idle.
		if u := used.Load(); u != nil && u.conn.came.Load() == u.before {
			_ = u.conn.Close()
			t.closeIdle()
		}
		return nil, err
	}
	body := &answerBody{ReadCloser: response.Body, ctx: r.Context(), left: maxResponse}
	switch status := response.StatusCode; {
	case status >= 300 && status < 400:
		_ = body.Close()
		failure := unreadable(truncate.Text(response.Status, maxErrorText))
		failure.free = true // no model was asked
		return nil, failure
	case status >= 400:
		defer body.Close()
		raw, err := io.ReadAll(io.LimitReader(body, maxFailure))
		if err != nil || len(raw) == maxFailure {
			raw = nil // the status counts; what came may be anything
		}
		return nil, answeredError(status, response.Header, raw)
	}
	response.Body = body
	return response, nil
}

// readAnswer returns the body of an answer.
func readAnswer(response *http.Response) ([]byte, error) {
	size := response.ContentLength
	if size >= maxResponse {
		size = -1 // no memory for what would be refused
	}
	return readall.Sized(response.Body, size)
}

// A metadataTransport carries the SDK's requests for metadata, in whose answers the SDK finds
// no errors.
type metadataTransport struct{ *transport }

func (t metadataTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, used := follow(r.Context())
	response, err := t.send(r.WithContext(ctx), used)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := readAnswer(response)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	if failure := failureIn(raw); failure != nil {
		return nil, failure.error(0, response.Header)
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	return response, nil
}

// An answerBody is the body of an answer up to a bound. Its errors are an [*Error],
// or those of ctx.
type answerBody struct {
	io.ReadCloser
	ctx  context.Context
	left int64
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err != nil && err != io.EOF && b.ctx.Err() == nil {
		err = connectionError(err, false)
	}
	return n, err
}

var errTooLarge = &Error{Kind: Failed, err: fmt.Errorf("the model's answer cannot be read: it is larger than %d bytes", maxResponse)}
