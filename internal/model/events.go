package model

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
)

// Events reads an event stream as the standard has it, comments, fields, several
// lines of data and all three ends of a line
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), and returns
// what the SDK knows: one line of data an event. An answer that is JSON instead of
// a stream counts as one event.
type events struct {
	body   io.ReadCloser
	header http.Header
	from   *bufio.Reader
	afterR bool   // the last byte was a carriage return: a newline belongs to it
	begun  bool   // a line was read: no byte order mark can come
	plain  bool   // the event's lines are no fields, but data themselves
	line   []byte // being read
	data   []byte // of the event so far
	out    []byte // what Read returns next
	err    error  // then
}

func newEvents(body io.ReadCloser, header http.Header) *events {
	return &events{body: body, header: header, from: bufio.NewReaderSize(body, 1024)}
}

func (e *events) Close() error { return e.body.Close() }

func (e *events) Read(p []byte) (int, error) {
	for len(e.out) == 0 && e.err == nil {
		line, err := e.readLine()
		if err == nil || err == io.EOF {
			e.take(line)
		}
		if e.err == nil && (len(line) == 0 || err == io.EOF) {
			e.dispatch()
		}
		if e.err == nil {
			e.err = err
		}
	}
	if len(e.out) == 0 {
		return 0, e.err
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	return n, nil
}

// readLine returns the next line without its end, until the next call.
func (e *events) readLine() ([]byte, error) {
	e.line = e.line[:0]
	for {
		c, err := e.from.ReadByte()
		switch {
		case err != nil:
			return e.line, err
		case c == '\n' && e.afterR:
			e.afterR = false
		case c == '\n' || c == '\r':
			e.afterR = c == '\r'
			return e.line, nil
		default:
			e.afterR = false
			e.line = append(e.line, c)
		}
	}
}

// take takes in a line.
func (e *events) take(line []byte) {
	if !e.begun {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
		e.begun = true
	}
	if len(line) == 0 {
		return
	}
	if len(e.data) == 0 && bytes.IndexByte([]byte("{[<"), line[0]) >= 0 {
		e.plain = true
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case e.plain:
		value = line
	case string(name) != "data":
		return // a comment, or a field other than the answer's
	default:
		value = bytes.TrimPrefix(value, []byte(" "))
	}
	e.data = append(append(e.data, value...), '\n')
}

// dispatch ends the event.
func (e *events) dispatch() {
	data := bytes.TrimSpace(e.data)
	if len(data) > 0 {
		if data, e.err = readable(data, e.header); e.err == nil {
			e.out = append(e.out[:0], "data: "...)
			for part := range bytes.Lines(data) {
				e.out = append(e.out, bytes.TrimRight(part, "\n")...)
			}
			e.out = append(e.out, "\n\n"...)
		}
	}
	e.data, e.plain = e.data[:0], false
}
