// Command standin uses Gemini's wire format, and returns every caller the same
// answer. It does as little as it can for that, because it shares the machine
// with the servers that are measured.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/gatehouse/bench/internal/answer"
	"example.com/gatehouse/bench/internal/control"
)

func main() {
	var m model
	flag.DurationVar(&m.latency, "latency", 0, "before a whole answer")
	flag.DurationVar(&m.first, "first", 20*time.Millisecond, "before the first chunk of a stream")
	flag.DurationVar(&m.gap, "gap", 250*time.Millisecond, "before each further chunk")
	flag.Parse()
	control.Start()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go m.serve(conn)
	}
}

type model struct{ latency, first, gap time.Duration }

func (m model) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for r := bufio.NewReader(conn); ; {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		switch {
		case strings.HasSuffix(request.URL.Path, ":generateContent"):
			time.Sleep(m.latency)
			_, err = io.WriteString(conn, whole)
		case strings.HasSuffix(request.URL.Path, ":streamGenerateContent"):
			err = m.stream(conn)
		default: // health, the start of the process
			_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		if err != nil {
			return
		}
	}
}

func (m model) stream(conn net.Conn) error {
	wait := m.first
	for _, piece := range stream {
		time.Sleep(wait)
		if _, err := io.WriteString(conn, piece); err != nil {
			return err
		}
		wait = m.gap
	}
	return nil
}

// whole and stream are the answer as bytes of HTTP/1.1.
var whole, stream = func() (string, []string) {
	body := response(answer.Text, true)
	whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	var pieces []string
	for i, text := range answer.Pieces {
		last := i == len(answer.Pieces)-1
		data := "data: " + response(text, last) + "\r\n\r\n"
		piece := fmt.Sprintf("%x\r\n%s\r\n", len(data), data)
		if i == 0 {
			piece = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + piece
		}
		if last {
			piece += "0\r\n\r\n"
		}
		pieces = append(pieces, piece)
	}
	return whole, pieces
}()

// response is a GenerateContentResponse.
func response(text string, last bool) string {
	finish := ""
	if last {
		finish = `"finishReason": "STOP",`
	}
	return fmt.Sprintf(`{"candidates": [{"content": {"parts": [{"text": %q}],"role": "model"},%s"index": 0}],`+
		`"usageMetadata": {"promptTokenCount": 186,"candidatesTokenCount": 64,"totalTokenCount": 250,`+
		`"promptTokensDetails": [{"modality": "TEXT","tokenCount": 186}]},`+
		`"modelVersion": "gemini-2.5-flash","responseId": "XjGwaaPEI_H3nsEP2v-88AQ"}`, text, finish)
}
