// Package offline stands in for Gemini, so that the real SDK
// (google.golang.org/genai) runs on a laptop without a key or a network.
//
// It is an [http.RoundTripper] that answers on the wire as the Gemini API does.
// It cannot reason. It chooses among the functions that a request declares by
// the words they share with the question (choose.go), fills in their arguments
// from it (arguments.go), and tells their results in Markdown (compose.go,
// render.go). What it was told earlier in the session it reads back from the
// request's history (memory.go). Everything else it declines, and every text it
// writes says where it comes from.
package offline

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Model is the name to use for the model when this package serves it. A request
// may name any model: the answer's modelVersion is always Model.
const Model = "offline"

// maxRequestBytes bounds what is read of one request.
const maxRequestBytes = 32 << 20

// New gives a transport for genai's HTTP client. It keeps nothing between
// requests, starts no goroutine, and is safe for concurrent use.
func New() http.RoundTripper { return transport{} }

type transport struct{}

// RoundTrip answers req without sending it anywhere. Like [http.Transport] it
// returns an error only when the request's context has ended or its body cannot
// be read: whatever else is wrong is an HTTP answer.
func (transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := context.Cause(req.Context()); err != nil {
		return nil, err
	}
	path := req.URL.Path
	switch {
	case req.Method == http.MethodPost && strings.HasSuffix(path, ":generateContent"):
		return generate(req, func(g generation) *http.Response { return jsonResponse(req, http.StatusOK, g.whole()) })
	case req.Method == http.MethodPost && strings.HasSuffix(path, ":streamGenerateContent"):
		return generate(req, func(g generation) *http.Response { return streamResponse(req, g) })
	case req.Method == http.MethodGet:
		if name, ok := modelName(path); ok {
			return jsonResponse(req, http.StatusOK, metadata(name)), nil
		}
	}
	return errorResponse(req, http.StatusNotFound, "NOT_FOUND", "The offline stand-in serves generateContent, streamGenerateContent and a model's metadata only."), nil
}

func generate(req *http.Request, respond func(generation) *http.Response) (*http.Response, error) {
	in, err := readRequest(req)
	var bad badRequestError
	if errors.As(err, &bad) {
		return errorResponse(req, http.StatusBadRequest, "INVALID_ARGUMENT", string(bad)), nil
	}
	if err != nil {
		return nil, err
	}
	if err := context.Cause(req.Context()); err != nil {
		return nil, err
	}
	return respond(generation{
		id:     rand.Text(),
		prompt: promptTokens(in),
		answer: reply(newConversation(in)).within(in.GenerationConfig.MaxOutputTokens),
	}), nil
}

// badRequestError is what the caller did wrong, in words for the caller.
type badRequestError string

func (e badRequestError) Error() string { return string(e) }

func readRequest(req *http.Request) (*request, error) {
	var raw []byte
	if req.Body != nil {
		var err error
		if raw, err = io.ReadAll(io.LimitReader(req.Body, maxRequestBytes+1)); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
	}
	if len(raw) > maxRequestBytes {
		return nil, badRequestError(fmt.Sprintf("Request payload size exceeds the limit: %d bytes.", maxRequestBytes))
	}
	in := new(request)
	if err := json.Unmarshal(raw, in); err != nil {
		return nil, badRequestError("Invalid JSON payload received.")
	}
	if len(in.Contents) == 0 {
		return nil, badRequestError("* GenerateContentRequest.contents: contents is not specified\n")
	}
	return in, nil
}

// modelName is the last element of a path that ends in models/{name}.
func modelName(path string) (string, bool) {
	rest, name := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	return name, strings.HasSuffix(rest, "/models/") && name != "" && !strings.Contains(name, ":")
}

func metadata(name string) map[string]any {
	return map[string]any{
		"name":                       "models/" + name,
		"version":                    Model,
		"displayName":                "Offline stand-in",
		"description":                "Answers from the declared functions' results, without a model.",
		"inputTokenLimit":            1 << 20,
		"outputTokenLimit":           1 << 16,
		"supportedGenerationMethods": []string{"generateContent", "streamGenerateContent"},
	}
}

func errorResponse(req *http.Request, code int, status, message string) *http.Response {
	return jsonResponse(req, code, map[string]any{
		"error": map[string]any{"code": code, "message": message, "status": status},
	})
}

func jsonResponse(req *http.Request, code int, v any) *http.Response {
	body := encode(v)
	res := response(req, code, "application/json; charset=UTF-8", io.NopCloser(bytes.NewReader(body)))
	res.ContentLength = int64(len(body))
	return res
}

func response(req *http.Request, code int, contentType string, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", code, http.StatusText(code)),
		StatusCode:    code,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{"Content-Type": {contentType}},
		Body:          body,
		ContentLength: -1,
		Request:       req,
	}
}
