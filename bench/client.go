package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/gatehouse/bench/internal/answer"
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

// call sends a request and reads the whole answer, which must be 200 and hold the
// model's text in the member text of its JSON. Without a member the text is not looked
// for. The result is valid until the next call.
func (c *conn) call(request []byte, text string) ([]byte, error) {
	response, err := c.send(request)
	if err != nil {
		return nil, err
	}
	c.body.Reset()
	if _, err := c.body.ReadFrom(response.Body); err != nil {
		return nil, err
	}
	body := c.body.Bytes()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s: %.300s", response.Status, body)
	}
	if text != "" && string(member(body, text)) != answer.Text {
		return nil, fmt.Errorf("answered something else than the model: %.600s", body)
	}
	return body, nil
}

// stream sends a request and reads the events that answer it, whose texts must be the
// model's. It calls first when the first text has come.
func (c *conn) stream(request []byte, d dialect, first func()) error {
	response, err := c.send(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	var text []byte
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			if bytes.Equal(lines.Bytes(), []byte("event: error")) {
				return errors.New("the stream ended with an error")
			}
			continue
		}
		piece := member(data, d.piece)
		if len(piece) > 0 && len(text) == 0 {
			first()
		}
		if d.repeats && string(piece) == answer.Text {
			continue // the whole once more
		}
		text = append(text, piece...)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if string(text) != answer.Text {
		return fmt.Errorf("streamed something else than the model: %.600s", text)
	}
	return nil
}

// member returns the text of the first member of this name in some JSON, or nil without
// one. It decodes nothing but that text, because the load generator uses the server's CPUs.
func member(data []byte, name string) []byte {
	_, rest, found := bytes.Cut(data, []byte(`"`+name+`":`))
	rest, quoted := bytes.CutPrefix(bytes.TrimLeft(rest, " "), []byte(`"`))
	if !found || !quoted {
		return nil
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil
	}
	if !bytes.Contains(rest[:end], []byte(`\`)) {
		return rest[:end]
	}
	var text string // with something escaped, which may be a quote
	if json.NewDecoder(io.MultiReader(strings.NewReader(`"`), bytes.NewReader(rest))).Decode(&text) != nil {
		return nil
	}
	return []byte(text)
}
