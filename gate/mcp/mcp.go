// Package mcp is the door for MCP hosts: it serves the agent as an MCP server at POST
// /mcp, for the spec 2026-07-28 without sessions and, by the official SDK, for clients
// of older ones. Name it where the agent is registered:
//
//	func init() { gate.Register(New, mcp.Door()) }
//
// The agent is the tool ask, which takes a question and, to go on, the session's id; the
// progress of its run is sent to who asks for it. With MCP_TOOLS=true clients may also
// call the agent's own tools, without the model. The door stands behind the gate's
// identity, limits, sessions and audit; nothing is kept between requests.
//
// No request needs the instance of an earlier one, which is what lets Cloud Run send each
// to another: the SDK's stateless mode keeps no session, a conversation is a session id
// that the client passes, and a run that waits for a person is found by its id, which the
// client returns as the request's state. So there is no GET stream, and nothing that the
// server asks outside of an answer.
package mcp

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/config"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/mcpwire"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/version"
	"example.com/gatehouse/invoke"
)

const (
	path     = "/mcp"
	metadata = "/.well-known/oauth-protected-resource"
)

// Door returns the option that serves MCP. DOORS without "mcp" switches it off.
func Door() gate.Option {
	return gate.Door("mcp", func(room server.Room) []api.Route {
		d := &door{Room: room}
		d.handler = sync.OnceValue(d.newHandler)
		return d.routes()
	})
}

type door struct {
	server.Room
	handler func() http.Handler // made by the first request: a start does not pay for schemas
}

func (d *door) newHandler() http.Handler {
	capabilities := &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}}
	if d.Invoke.Queued() {
		capabilities.AddExtension(tasksExtension, nil)
	}
	s := sdk.NewServer(&sdk.Implementation{Name: d.Agent.Name, Title: d.Agent.Name, Version: version.Version}, &sdk.ServerOptions{
		Instructions: d.Agent.Description, Capabilities: capabilities,
	})
	d.addTools(s)
	if d.Invoke.Queued() {
		d.addTasks(s)
	}
	s.AddReceivingMiddleware(d.rescued)
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s }, &sdk.StreamableHTTPOptions{
		Stateless: true, PropagateRequestCancellation: true,
		MaxRequestBodyBytes: -1, // api.ReadBody has read it
		// Against pages that rebind their name to a laptop. In production a proxy may be
		// what comes from this machine.
		DisableLocalhostProtection: d.Config.Production(),
	})
}

// rescued keeps a panic of ours, or of a hook, from ending the process: the SDK runs each
// call in a new goroutine, where nothing else recovers.
func (d *door) rescued(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (result sdk.Result, err error) {
		defer func() {
			if p := recover(); p != nil {
				result, err = nil, rpcFailure(ctx, telemetry.Panicked(ctx, d.Invoke.Log, p))
			}
		}()
		if refused := mcpwire.CheckArguments(req); refused != nil {
			return refused, nil
		}
		return next(ctx, method, req)
	}
}

// rpcFailure returns err as an error of JSON-RPC inside of the SDK, with the gate's own code
// beside.
func rpcFailure(ctx context.Context, err error) error {
	e := api.AsError(err)
	code := jsonrpc.CodeInternalError
	if e.Status() < 500 {
		code = jsonrpc.CodeInvalidParams
	}
	return mcpwire.Error(ctx, int64(code), e.Code, e.Sentence())
}

// A requestKey is the key of the HTTP request in the context of a tool call: the SDK passes
// its headers on, but not who was found to be calling.
type requestKey struct{}

// requestOf returns the HTTP request that the SDK's call with ctx came in.
func requestOf(ctx context.Context) *http.Request {
	r, _ := ctx.Value(requestKey{}).(*http.Request)
	return r
}

// serve is POST /mcp. The body is read here, with the gate's bounds on size and time, and
// handed to the SDK from memory, so that the SDK never waits for a client that sends
// slowly.
func (d *door) serve(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadBody(w, r, d.Config.MaxBodyBytes+invoke.Overhead, d.Config.RequestTimeout)
	if err != nil {
		return err
	}
	if err := api.CheckRPC(body); err != nil {
		return err
	}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, r))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	out := mcpwire.NewWriter(w)
	d.handler().ServeHTTP(out, r)
	return out.Refusal(r, body)
}

// An mcpError is an error as JSON-RPC has it.
type mcpError struct {
	JSONRPC string  `json:"jsonrpc"`
	ID      *string `json:"id"` // always null: what the error is about was not read
	Error   struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Error      api.Code `json:"error"`
			RequestID  string   `json:"request_id"`
			RetryAfter int      `json:"retry_after_seconds,omitempty"`

			Details []api.Detail `json:"details,omitempty"`
		} `json:"data"`
	} `json:"error"`
}

// codeServerError is JSON-RPC's code of an error of the server's own.
const codeServerError = -32000

// fail answers with an error that came before the SDK. JSON-RPC has codes for few of the
// gate's errors, so data has the gate's own, and the HTTP status is that of the same error
// in the envelope.
func (d *door) fail(w http.ResponseWriter, r *http.Request, e *api.Error) error {
	e.SetHeader(w.Header())
	if e.Code == api.Unauthenticated {
		d.challenge(w.Header(), r)
	}
	f := mcpError{JSONRPC: "2.0"}
	f.Error.Code, f.Error.Message, f.Error.Data.Error, f.Error.Data.RequestID = codeServerError, e.Sentence(), e.Code, api.RequestID(r.Context())
	f.Error.Data.Details, f.Error.Data.RetryAfter = e.Details, int(e.Wait())
	switch e.Code {
	case api.MalformedRequest, api.RequestTooLarge, api.UnsupportedMediaType:
		f.Error.Code = jsonrpc.CodeInvalidRequest
	}
	return api.WriteJSON(w, e.Status(), f)
}

// challenge names the metadata in a 401, by which clients find who issues tokens (RFC 9728,
// section 5.1). It is left out where no token would be accepted, such as with API keys: a
// client would begin a login that leads nowhere. Where the challenge has no Bearer there is
// nothing to extend.
func (d *door) challenge(h http.Header, r *http.Request) {
	base := d.BaseURL(r)
	if base == "" || !d.takesTokens() {
		return
	}
	parameter := `resource_metadata="` + base + metadata + path + `"`
	for _, each := range strings.Split(h.Get("WWW-Authenticate"), ", ") {
		if scheme, rest, _ := strings.Cut(each, " "); scheme == "Bearer" {
			h.Set("WWW-Authenticate", strings.Replace(h.Get("WWW-Authenticate"), each, "Bearer "+parameter+", "+rest, 1))
			return
		}
	}
}

func (d *door) takesTokens() bool {
	return d.Config.HasAuth(config.AuthOIDC) || d.Config.HasAuth(config.AuthIAM)
}

// A resource is the metadata of RFC 9728.
type resource struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
}

// describe is GET of the metadata. It is a probe route, which passes no authentication:
// clients ask for it because they have no token, and a 401 here would end their login.
func (d *door) describe(w http.ResponseWriter, r *http.Request) error {
	base := d.BaseURL(r)
	if base == "" {
		return api.Malformed("Host", "must be a host")
	}
	return api.WriteJSON(w, http.StatusOK, resource{
		Resource: base + path, AuthorizationServers: d.Issuers(), BearerMethods: []string{"header"},
		Name: d.Agent.Name, Documentation: base + "/docs",
	})
}
