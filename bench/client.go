package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// A conn is one client's connection to a server. It is leaner than net/http's
// client, because the load generator uses the server's CPUs.
type conn struct {
	net.Conn
	r    *bufio.Reader
	body bytes.Buffer // of the last answer
	free func() bool
}

// dial connects. The connection's calls fail once ctx has ended.
func dial(ctx context.Context, address string) (*conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	free := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return &conn{Conn: c, r: bufio.NewReader(c), free: free}, nil
}

func (c *conn) close() {
	c.free()
	_ = c.Close()
}

// send sends a request and returns the head of its response.
func (c *conn) send(request []byte) (*http.Response, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, nil)
}

// lastWords is the end of the stand-in's answer: a response with it is complete.
var lastWords = []byte("That is all.")

// call sends a request and reads the whole answer, which must be 200 and hold
// all of want. The result is valid until the next call.
func (c *conn) call(request, want []byte) ([]byte, error) {
	response, err := c.send(request)
	if err != nil {
		return nil, err
	}
	c.body.Reset()
	if _, err := c.body.ReadFrom(response.Body); err != nil {
		return nil, err
	}
	body := c.body.Bytes()
	if response.StatusCode != http.StatusOK || !bytes.Contains(body, want) {
		return nil, fmt.Errorf("answered %s: %.300s", response.Status, body)
	}
	return body, nil
}

// stream sends a request and reads the events that answer it. It calls first
// when the first event has come.
func (c *conn) stream(request []byte, first func()) error {
	response, err := c.send(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	events, complete := 0, false
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			if bytes.Equal(lines.Bytes(), []byte("event: error")) {
				return errors.New("the stream ended with an error")
			}
			continue
		}
		if events++; events == 1 {
			first()
		}
		complete = complete || bytes.Contains(data, lastWords)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !complete {
		return errors.New("the stream ended before the answer did")
	}
	return nil
}

const question = `"Which deployment option suits a small service, and why?"`

// turn is the request of one turn: the session is a new one for "".
func (t target) turn(accept, session string, headers ...string) []byte {
	body := `{"query": ` + question
	if t.flow {
		body = `{"data": ` + question
	}
	if session != "" {
		body += fmt.Sprintf(`, "session_id": %q`, session)
	}
	body += "}"
	var b strings.Builder
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		accept, len(body))
	for _, header := range append(headers, t.headers...) {
		b.WriteString(header + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}

const (
	acceptJSON   = "application/json"
	acceptStream = "text/event-stream"
)

// live asks whether the process answers at all.
var live = []byte("GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
