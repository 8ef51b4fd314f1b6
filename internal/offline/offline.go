// Package offline stands in for Gemini, so that the real SDK
// (google.golang.org/genai) runs on a laptop without a key or a network.
//
// It is an [http.RoundTripper] that answers on the wire as the Gemini API does
// (wire.go). It cannot reason: it calls the functions that share words
// with the question, and takes their arguments from it (choose.go), shows their
// results, remembers a name, asks back for what is missing, and declines the rest
// (reply.go). It knows nothing of any agent.
package offline

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.com/gatehouse/internal/exactjson"
)

// Model is the name to use for the model when this package serves it. A request
// may name any model: the answer's modelVersion is always Model.
const Model = "offline"

const maxRequestBytes, jsonType = 32 << 20, "application/json; charset=UTF-8"

// New returns a transport for genai's HTTP client. It keeps nothing between
// requests, starts no goroutine, and is safe for concurrent use.
func New() http.RoundTripper { return transport{} }

type transport struct{}

// RoundTrip answers req without sending it anywhere. Like [http.Transport] it
// returns an error only when the request's context has ended or its body cannot
// be read: every other fault is an HTTP answer.
func (transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body := cmp.Or[io.ReadCloser](req.Body, http.NoBody)
	defer func() { _ = body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(body, maxRequestBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	if err := context.Cause(req.Context()); err != nil {
		return nil, err
	}
	code, contentType, answer := serve(req.Method, req.URL.Path, raw)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), StatusCode: code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(&reader{req.Context(), answer}), ContentLength: int64(len(answer)), Request: req,
	}, nil
}

// A reader returns a line at a time, so that events are seen to come, and ends
// with its context, as a connection does.
type reader struct {
	ctx  context.Context
	rest []byte
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil || len(r.rest) == 0 {
		return 0, cmp.Or(err, io.EOF)
	}
	line, _, _ := bytes.Cut(r.rest, []byte("\n"))
	n := copy(p, r.rest[:min(len(line)+1, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}

func serve(method, path string, raw []byte) (code int, contentType string, body []byte) {
	_, name, _ := strings.Cut(path, "/models/")
	name, verb, _ := strings.Cut(name, ":")
	switch {
	case method == http.MethodGet && name != "" && verb == "" && !strings.Contains(name, "/"):
		return http.StatusOK, jsonType, encode(map[string]any{
			"name": "models/" + name, "version": Model, "displayName": "Offline stand-in",
			"inputTokenLimit": 1 << 20, "outputTokenLimit": 1 << 16,
			"supportedGenerationMethods": []string{"generateContent", "streamGenerateContent"},
		})
	case method != http.MethodPost || verb != "generateContent" && verb != "streamGenerateContent":
		return refuse(http.StatusNotFound, "NOT_FOUND", "The offline stand-in serves generateContent, streamGenerateContent and a model's metadata only.")
	case len(raw) > maxRequestBytes:
		return refuse(http.StatusBadRequest, "INVALID_ARGUMENT", fmt.Sprintf("Request payload size exceeds the limit: %d bytes.", maxRequestBytes))
	}
	in := new(request)
	if exactjson.Unmarshal(raw, in) != nil {
		return refuse(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received.")
	}
	if len(in.Contents) == 0 {
		return refuse(http.StatusBadRequest, "INVALID_ARGUMENT", "* GenerateContentRequest.contents: contents is not specified\n")
	}
	if verb == "streamGenerateContent" {
		return http.StatusOK, "text/event-stream", events(in.answer())
	}
	return http.StatusOK, jsonType, encode(in.answer())
}

func refuse(code int, status, message string) (int, string, []byte) {
	return code, jsonType, encode(map[string]any{"error": map[string]any{"code": code, "message": message, "status": status}})
}
