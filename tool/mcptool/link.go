package mcptool

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/singleflight"

	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/version"
	"example.com/gatehouse/tool"
)

const (
	// connectTimeout and startTimeout bound making a connection, to a server and to a
	// command, and listTimeout asking for the list once it is there. That goes on when
	// nobody waits any more: a server that is slow to start is there for a later turn.
	connectTimeout = 10 * time.Second
	startTimeout   = time.Minute
	listTimeout    = 10 * time.Second
	// patience bounds how long turns wait for a list, from when it is first asked for.
	patience = 3 * time.Second
	// maxPages bounds the pages of a list.
	maxPages = 64
	// maxDeclared bounds the names, descriptions and schemas of a server's tools, in bytes:
	// they are part of every prompt.
	maxDeclared = 128 << 10
	// terminateTimeout is how long a command may take to end by itself.
	terminateTimeout = time.Second
)

// A link is a connection to the server, with the list of tools that it sees.
type link struct {
	set    *Set
	flight singleflight.Group

	mu      sync.Mutex
	closed  bool
	session *mcp.ClientSession // nil: there is none
	tools   []tool.Tool        // nil: not known
	digest  [sha256.Size]byte  // of what tools were made of
	fresh   time.Time          // until then, tools need not be asked for
	asking  *listing           // nil: the list is not being asked for
}

// A listing is one time that the list is asked for. Its result is there once done is closed.
type listing struct {
	since time.Time
	done  chan struct{}
	tools []tool.Tool
	err   error
}

// list returns the tools, asking for them if need be, or the tools that were known before
// if the server does not answer; nil without any.
func (l *link) list(ctx context.Context) []tool.Tool {
	l.mu.Lock()
	known, now := l.tools, time.Now()
	if known != nil && now.Before(l.fresh) {
		l.mu.Unlock()
		return known
	}
	asked := l.asking
	if asked == nil {
		asked = &listing{since: now, done: make(chan struct{})}
		l.asking = asked
		go l.fill(context.WithoutCancel(ctx), asked)
	}
	l.mu.Unlock()
	timer := time.NewTimer(max(patience-now.Sub(asked.since), 0))
	defer timer.Stop()
	select {
	case <-asked.done:
		if asked.err == nil {
			return asked.tools
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	return known
}

// fill asks for the list, within the time for it.
func (l *link) fill(ctx context.Context, asked *listing) {
	ctx, cancel := context.WithTimeout(ctx, l.set.connectTimeout+listTimeout)
	defer cancel()
	asked.tools, asked.err = l.ask(ctx)
	l.mu.Lock()
	l.asking = nil // before it is over: who comes next asks again
	l.mu.Unlock()
	close(asked.done)
}

// ask asks the server for its list and keeps it.
func (l *link) ask(ctx context.Context) (tools []tool.Tool, err error) {
	permit, refused := l.set.breaker.Allow()
	if refused != nil {
		return nil, errAway
	}
	defer func() { permit.Done(verdict(err)) }()
	err = rescue.Call(func() error {
		var listed []*mcp.Tool
		if listed, err = l.pages(ctx); err != nil {
			return err
		}
		tools = l.keep(ctx, listed)
		return nil
	})
	if err != nil {
		slog.WarnContext(ctx, "MCP server did not list its tools.", "server", l.set.name, "error", describeError(err), "last_status", l.set.status.Load())
	}
	return tools, err
}

// pages reads the list, up to the tools that the set takes.
func (l *link) pages(ctx context.Context) ([]*mcp.Tool, error) {
	session, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	var listed []*mcp.Tool
	params := &mcp.ListToolsParams{}
	for range maxPages {
		reqCtx, read := withReading(ctx)
		page, err := session.ListTools(reqCtx, params)
		if errors.Is(err, mcp.ErrSessionMissing) && params.Cursor == "" {
			l.drop(session)
			if session, err = l.connect(ctx); err != nil {
				return nil, err
			}
			page, err = session.ListTools(reqCtx, params)
		}
		if err = read.name(err); err != nil {
			if isBroken(err) {
				l.abandon(session)
			}
			return nil, err
		}
		for _, t := range page.Tools {
			if len(l.set.only) == 0 || slices.Contains(l.set.only, t.Name) {
				listed = append(listed, t)
			}
		}
		if page.NextCursor == "" || len(listed) > l.set.maxTools {
			break
		}
		params = &mcp.ListToolsParams{Cursor: page.NextCursor}
	}
	if len(listed) > l.set.maxTools {
		slog.WarnContext(ctx, "MCP server lists more tools than are taken; name those that are needed.",
			"server", l.set.name, "limit", l.set.maxTools)
		listed = listed[:l.set.maxTools]
	}
	return listed, nil
}

// keep makes tools of a list, unless it is as before, and keeps them.
func (l *link) keep(ctx context.Context, listed []*mcp.Tool) []tool.Tool {
	encoded, err := json.Marshal(listed)
	digest := sha256.Sum256(encoded)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = time.Now().Add(l.set.refresh)
	if err == nil && l.tools != nil && digest == l.digest {
		return l.tools
	}
	l.tools, l.digest = l.declare(ctx, listed), digest
	return l.tools
}

// connect returns the session, which it makes if there is none.
func (l *link) connect(ctx context.Context) (*mcp.ClientSession, error) {
	l.mu.Lock()
	session, closed := l.session, l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return nil, errAway
	case session != nil:
		return session, nil
	}
	made := l.flight.DoChan("connect", func() (session any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.set.connectTimeout)
		defer cancel()
		err = rescue.Call(func() error {
			session, err = l.dial(ctx)
			return err
		})
		return session, err
	})
	select {
	case r := <-made:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*mcp.ClientSession), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *link) dial(ctx context.Context) (*mcp.ClientSession, error) {
	options := &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{}, // no roots, nobody to ask
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	}
	if l.set.command {
		// Over HTTP the SDK would keep a request open for it, which an instance without CPU
		// between requests cannot read.
		options.ToolListChangedHandler = func(context.Context, *mcp.ToolListChangedRequest) { l.expire() }
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "gatehouse", Version: version.Version}, options)
	// A server may also report a change beside the response to a call.
	client.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if method == "notifications/tools/list_changed" {
				l.expire()
			}
			return next(ctx, method, r)
		}
	})
	connecting, read := withReading(ctx)
	session, err := client.Connect(connecting, l.set.transport(), nil)
	if err = read.name(err); err != nil {
		return nil, err
	}
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.session = session
	}
	l.mu.Unlock()
	if closed {
		_ = session.Close()
		return nil, errAway
	}
	go func() { // until the connection ends, by the server or by close
		_ = session.Wait()
		l.drop(session)
	}()
	return session, nil
}

// expire has the list asked for again by the next turn.
func (l *link) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = time.Time{}
}

// drop forgets a session that has ended.
func (l *link) drop(session *mcp.ClientSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == session {
		l.session = nil
	}
}

// abandon drops a session that is broken and ends what is left of it, for which the call
// does not wait.
func (l *link) abandon(session *mcp.ClientSession) {
	l.drop(session)
	go func() { _ = session.Close() }()
}

func (l *link) close() {
	l.mu.Lock()
	session := l.session
	l.session, l.closed = nil, true
	l.mu.Unlock()
	if session != nil {
		_ = session.Close()
	}
}

// call calls a tool of the server.
func (l *link) call(ctx context.Context, name string, args json.RawMessage) (result *mcp.CallToolResult, err error) {
	permit, refused := l.set.breaker.Allow()
	if refused != nil {
		return nil, errAway
	}
	defer func() { permit.Done(verdict(err)) }()
	for again := true; ; again = false {
		var session *mcp.ClientSession
		if session, err = l.connect(ctx); err != nil {
			return nil, err
		}
		callCtx, read := withReading(ctx)
		result, err = session.CallTool(callCtx, &mcp.CallToolParams{Name: name, Arguments: args})
		err = read.name(err)
		// The server has forgotten the session, and so has done nothing.
		if again && errors.Is(err, mcp.ErrSessionMissing) {
			l.drop(session)
			continue
		}
		if answer := wireError(err); answer != nil && (answer.Code == jsonrpc.CodeInvalidParams || answer.Code == jsonrpc.CodeMethodNotFound) {
			l.expire() // perhaps the tool is gone
		}
		if isBroken(err) {
			l.abandon(session)
		}
		return result, err
	}
}
