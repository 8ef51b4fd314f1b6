package model

import (
	"bufio"
	"bytes"
	"io"
)

// An events reads an event stream as the standard has it, comments, fields, several
// lines of data and all three ends of a line
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), and returns the
// data of each. An answer that is JSON instead of a stream counts as one event.
type events struct {
	from   *bufio.Reader
	afterR bool   // the last byte was a carriage return: a newline belongs to it
	begun  bool   // a line was read: no byte order mark can come
	plain  bool   // the event's lines are no fields, but data themselves
	line   []byte // being read
	data   []byte // of the event so far
}

func newEvents(body io.Reader) *events {
	return &events{from: bufio.NewReaderSize(body, 1024)}
}

// next returns the next event's data, which is valid until the next call, and [io.EOF] after
// the last.
func (e *events) next() ([]byte, error) {
	for {
		line, err := e.readLine()
		if err != nil && err != io.EOF {
			return nil, err
		}
		e.take(line)
		if len(line) > 0 && err == nil {
			continue
		}
		data := bytes.TrimSpace(e.data)
		e.data, e.plain = e.data[:0], false
		if len(data) > 0 {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// readLine returns the next line without its end, until the next call.
func (e *events) readLine() ([]byte, error) {
	e.line = e.line[:0]
	for {
		if _, err := e.from.Peek(1); err != nil {
			return e.line, err
		}
		run, _ := e.from.Peek(e.from.Buffered()) // all that has come
		if e.afterR && run[0] == '\n' {
			run = run[1:]
			_, _ = e.from.Discard(1)
		}
		e.afterR = false
		end := bytes.IndexAny(run, "\r\n")
		if end < 0 {
			e.line = append(e.line, run...)
			_, _ = e.from.Discard(len(run))
			continue
		}
		e.line = append(e.line, run[:end]...)
		e.afterR = run[end] == '\r'
		_, _ = e.from.Discard(end + 1)
		return e.line, nil
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
