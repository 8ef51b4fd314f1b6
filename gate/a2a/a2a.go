// Package a2a is the door for agents that call this one by A2A, the protocol of Gemini
// Enterprise and of ADK's remote agents: the agent's card at
// /.well-known/agent-card.json, and JSON-RPC at POST /a2a in the versions 1.0 and 0.3.
// Name it where the agent is registered:
//
//	func init() { gate.Register(New, a2a.Door()) }
//
// The protocol's words are others for what the gate has: a context is a session, a task
// is a run, and a message's id is its Idempotency-Key. The SDK reads and writes the two
// versions; its own store of tasks and its queue are not used, since a run is stored
// already, and seen by its owner only.
package a2a

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"github.com/a2aproject/a2a-go/v2/a2asrv"
	"github.com/a2aproject/a2a-go/v2/errordetails"
	a2alog "github.com/a2aproject/a2a-go/v2/log"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/a2awire"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/telemetry"
)

const (
	path      = "/a2a"
	keepAlive = 15 * time.Second // as of the gate's own streams
)

// Door returns the option that serves A2A. DOORS without "a2a" switches it off.
func Door() gate.Option {
	return gate.Door("a2a", func(room server.Room) []api.Route {
		d := &door{Room: room}
		return []api.Route{d.cardRoute(), d.rpcRoute()}
	})
}

// A door serves the agent of its room.
type door struct {
	server.Room
	card api.LastFile // by the address that it was asked for at and the keys that sign it
}

// serve handles POST /a2a.
func (d *door) serve(w http.ResponseWriter, r *http.Request) error {
	body, leave, err := d.Invoke.ReadBody(w, r)
	if err != nil {
		return err
	}
	defer leave()
	if err := api.CheckRPC(body); err != nil {
		return err
	}
	var envelope struct {
		JSONRPC string `json:"jsonrpc"`
		ID      any    `json:"id"`
		Method  string `json:"method"`
	}
	unread := json.Unmarshal(body, &envelope)
	if unread != nil && json.Valid(body) { // other errors are the SDK's to answer
		return api.Malformed("body", "must be a JSON-RPC request")
	}
	c := &call{door: d, request: r, header: w.Header()}
	handler, err := c.handler(envelope.Method)
	if err != nil {
		return err
	}
	// The SDK leaves a stream when its context ends, and what makes the stream behind. So
	// it gets a context that does not end, and what works on the run has the request's.
	ctx := a2alog.AttachLogger(context.WithoutCancel(r.Context()), slog.New(slog.DiscardHandler))
	inner := r.WithContext(ctx)
	inner.Body, inner.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	c.control = http.NewResponseController(w)
	asked := a2awire.Request{ID: api.RequestID(r.Context()), JSON: unread == nil, Void: strings.Contains(strings.ToLower(envelope.Method), "delete")}
	handler.ServeHTTP(&writer{w, c.control, asked}, inner)
	c.working.Wait()
	return nil
}

// handler returns the SDK's handler of the version that a request is in: the one of
// its header, or that which has such methods.
func (c *call) handler(method string) (http.Handler, error) {
	version := c.request.Header.Get(a2a.SvcParamVersion)
	if version == "" {
		version = c.request.URL.Query().Get(a2a.SvcParamVersion)
	}
	options := []a2asrv.TransportOption{
		a2asrv.WithTransportKeepAlive(keepAlive),
		a2asrv.WithTransportPanicHandler(func(p any) error {
			return c.failed(telemetry.Panicked(c.request.Context(), c.Invoke.Log, p))
		}),
	}
	switch {
	case version == string(a2a.Version), version == "" && !strings.Contains(method, "/"):
		return a2asrv.NewJSONRPCHandler(c, options...), nil
	case version == string(a2av0.Version), version == "":
		return a2av0.NewJSONRPCHandler(c, options...), nil
	}
	return nil, api.Malformed(a2a.SvcParamVersion, "must be 1.0 or 0.3")
}

// A writer bounds each write to a client that does not read, and mends the SDK's answers.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	asked   a2awire.Request
}

// Write implements [http.ResponseWriter].
func (w *writer) Write(b []byte) (int, error) {
	api.BoundWrite(w.control)
	_, err := w.ResponseWriter.Write(w.asked.Mend(b))
	return len(b), err
}

// Flush implements [http.Flusher].
func (w *writer) Flush() { _ = w.control.Flush() }

// kinds are A2A's errors for the gate's, with their numbers in JSON-RPC. Others are
// errors of the server.
var kinds = map[api.Code]kind{
	api.MalformedRequest:     {a2a.ErrInvalidRequest, -32600},
	api.RequestTooLarge:      {a2a.ErrInvalidRequest, -32600},
	api.RequestTimeout:       {a2a.ErrInvalidRequest, -32600},
	api.UnsupportedMediaType: {a2a.ErrUnsupportedContentType, -32005},
	api.ValidationFailed:     {a2a.ErrInvalidParams, -32602},
	api.IdempotencyMismatch:  {a2a.ErrInvalidParams, -32602},
	api.NotFound:             {a2a.ErrTaskNotFound, -32001},
	api.SessionConflict:      {a2a.ErrUnsupportedOperation, -32004},
	api.Internal:             {a2a.ErrInternalError, -32603},
	api.Unauthenticated:      {a2a.ErrUnauthenticated, -31401},
	api.PermissionDenied:     {a2a.ErrUnauthorized, -31403},
	api.OriginNotAllowed:     {a2a.ErrUnauthorized, -31403},
}

// A kind is an error of A2A: the SDK's, by which it chooses the status, and its number.
type kind struct {
	err  error
	code int
}

// kindOf returns the kind of an error of the gate.
func kindOf(e *api.Error) kind {
	if len(e.Details) == 1 && e.Details[0].Field == a2a.SvcParamVersion {
		return kind{a2a.ErrVersionNotSupported, -32009}
	}
	if k, ok := kinds[e.Code]; ok {
		return k
	}
	return kind{a2a.ErrServerError, -32000}
}

// newError returns e as the SDK sends it: a sentence for a person, and in the metadata the
// gate's code and what is wrong with which field.
func newError(r *http.Request, e *api.Error) *a2a.Error {
	info := map[string]string{"error": string(e.Code), "request_id": api.RequestID(r.Context())}
	for i, detail := range e.Details { // which are for a developer
		info["details."+strconv.Itoa(i)] = detail.Field + " " + detail.Issue
	}
	if wait := e.Wait(); wait > 0 {
		info["retry_after_seconds"] = strconv.Itoa(int(wait))
	}
	return a2a.NewError(kindOf(e).err, e.Sentence()).WithErrorInfoMeta(info)
}

// failed returns err for the client, and records it: the answer's status is 200.
func (c *call) failed(err error) error {
	if errors.Is(err, a2a.ErrPushNotificationNotSupported) {
		return err
	}
	e := api.AsError(err)
	telemetry.Fail(c.request.Context(), e)
	return newError(c.request, e)
}

// An a2aError is an error that came before the SDK, in the SDK's form.
type a2aError struct {
	JSONRPC string  `json:"jsonrpc"`
	ID      *string `json:"id"` // always null: what the error is about was not read
	Error   struct {
		Code    int                   `json:"code"`
		Message string                `json:"message"`
		Data    []*errordetails.Typed `json:"data"`
	} `json:"error"`
}

// fail answers with an error that came before the SDK.
func (d *door) fail(w http.ResponseWriter, r *http.Request, e *api.Error) error {
	e.SetHeader(w.Header())
	f, converted := a2aError{JSONRPC: "2.0"}, newError(r, e)
	f.Error.Code, f.Error.Message, f.Error.Data = kindOf(e).code, converted.Error(), []*errordetails.Typed{converted.ErrorInfo()}
	return api.WriteJSON(w, e.Status(), f)
}

func (d *door) rpcRoute() api.Route {
	return api.Route{
		Method: http.MethodPost, Path: path, Summary: "Agent2Agent.", Media: "application/json", Handler: d.serve, Fail: d.fail,
		Doc: api.Doc{
			ID: "a2a", Tag: api.TagAgent, Params: []string{"Idempotency-Key"}, Failure: api.RPC{},
			Description: "A2A 1.0 and 0.3 by JSON-RPC. `contextId` is the session, a task's id the run's, `messageId` the Idempotency-Key without the header.",
			Body:        &api.DocBody{Type: api.RPC{}},
			Answers: []api.DocAnswer{{Status: http.StatusOK, Description: "The response, or an event stream of them.", Content: map[string]any{
				"application/json": api.RPC{}, "text/event-stream": "",
			}}},
		},
	}
}
