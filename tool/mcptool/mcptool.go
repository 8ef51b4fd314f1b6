// Package mcptool has a model call the tools of an MCP server: over streamable HTTP, or,
// on a laptop, of a command that is spoken to over its standard input and output.
//
//	github, err := mcptool.HTTP("github", "https://mcp.example.org/mcp", mcptool.Bearer(env.Secret("GITHUB_TOKEN")))
//	…
//	return agent.Agent{…, Toolsets: []tool.Set{github}, Close: github.Close}, nil
//
// # What a server may and may not do
//
// A server is asked for its tools when a turn needs them for the first time, and again
// when its list has changed or is a minute old: nobody waits at the start for a server
// that is away. While it is away, it is one tool that reports so.
//
// What a server sends is bounded: the number of its tools, their schemas and
// descriptions, and each response, which is cut while it is read. Schemas and names are
// made fit for Gemini; the server checks the arguments by its own schema. A tool is
// called by the server's name, an underscore and its own name.
//
// A server's descriptions and outputs are read by the model, which may take them for
// instructions. Name only servers that you trust with what the model knows, and of their
// tools only those that you need ([Only]).
//
// Connections go only where the URL points: not to private, link-local or loopback
// addresses, however a name resolves, unless the URL itself is a loopback address or
// [Network] allows it, and never along a redirect. Credentials are sent to that host only.
package mcptool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/egress"
	"example.com/gatehouse/internal/loopback"
	"example.com/gatehouse/tool"
)

const (
	defaultMaxTools = 128
	defaultRefresh  = time.Minute
	// maxCallers bounds the connections of a server that callers are connected to with
	// their own tokens. The one that was not used for longest is closed for another.
	maxCallers = 64
	// After breakerFailures in a row a server is not asked for breakerCooldown.
	breakerFailures = 3
	breakerCooldown = 30 * time.Second
)

// A Set is the tools of one MCP server. It is safe for concurrent use.
type Set struct {
	name           string
	transport      func() mcp.Transport // of a new connection
	connectTimeout time.Duration

	only     []string
	maxTools int
	refresh  time.Duration
	timeout  time.Duration // 0: the agent's
	headers  map[string]agent.Secret
	asCaller bool
	networks []netip.Prefix
	env      []string
	command  bool

	breaker      *breaker.Breaker
	away, absent func() []tool.Tool // the one tool of a server that is away, or whose caller is

	status atomic.Int32 // of the last response, for the log

	mu     sync.Mutex
	closed bool
	links  *lru.Cache[[sha256.Size]byte, *link] // by the caller's token
}

// An Option changes a set that is being made.
type Option func(*Set) error

// Bearer sends the secret's current value as the bearer token of each request.
func Bearer(secret agent.Secret) Option {
	return func(s *Set) error {
		return s.addHeader("Authorization", agent.NewSecret(func() string { return "Bearer " + secret.Reveal() }))
	}
}

// Header sends the secret's current value as a header of each request.
func Header(name string, secret agent.Secret) Option {
	return func(s *Set) error { return s.addHeader(name, secret) }
}

func (s *Set) addHeader(name string, secret agent.Secret) error {
	if s.command {
		return errors.New("a command takes no header: use Env")
	}
	s.headers[http.CanonicalHeaderKey(name)] = secret
	return nil
}

// AsCaller sends the caller's own OIDC token, [tool.CallerToken], as the bearer token of
// each request: the server sees who is asking. The caller's tools and connection are
// not shared with others. Where the caller is not present, or was verified otherwise,
// the server is one tool that reports so.
func AsCaller() Option {
	return func(s *Set) error {
		if s.command {
			return errors.New("a command has no caller")
		}
		s.asCaller = true
		return nil
	}
}

// Only takes the tools of these names, as the server has them, and no others.
func Only(names ...string) Option {
	return func(s *Set) error {
		if len(names) == 0 {
			return errors.New("Only needs a name")
		}
		s.only = append(s.only, names...)
		return nil
	}
}

// MaxTools takes the first n tools of the server's list, 128 without the option.
func MaxTools(n int) Option {
	return func(s *Set) error {
		if n < 1 {
			return fmt.Errorf("MaxTools needs 1 at least, not %d", n)
		}
		s.maxTools = n
		return nil
	}
}

// Timeout bounds each call of a tool, in the place of the agent's ToolTimeout.
func Timeout(d time.Duration) Option {
	return func(s *Set) error {
		if d <= 0 {
			return fmt.Errorf("the timeout %v is not more than 0", d)
		}
		s.timeout = d
		return nil
	}
}

// Refresh has the list of tools asked for again when it is older than d, a minute
// without the option.
func Refresh(d time.Duration) Option {
	return func(s *Set) error {
		if d <= 0 {
			return fmt.Errorf("the age %v is not more than 0", d)
		}
		s.refresh = d
		return nil
	}
}

// Network allows addresses of a network that is not public, such as "10.8.0.0/16".
func Network(prefix string) Option {
	return func(s *Set) error {
		p, err := netip.ParsePrefix(prefix)
		if err != nil || s.command {
			return fmt.Errorf("%q is no network that an HTTP server can be in", prefix)
		}
		s.networks = append(s.networks, p.Masked())
		return nil
	}
}

// Env adds variables, NAME=value, to those of a command, which otherwise sees only what
// a program needs to run: PATH, HOME and the like, and none of the service's secrets.
func Env(variables ...string) Option {
	return func(s *Set) error {
		if !s.command {
			return errors.New("only a command has variables")
		}
		s.env = append(s.env, variables...)
		return nil
	}
}

// HTTP returns the tools of the server at url, which speaks streamable HTTP. Their names
// begin with name and an underscore. Nothing is connected to yet.
func HTTP(name, url string, options ...Option) (*Set, error) {
	s, err := newSet(name, false, options)
	if err != nil {
		return nil, err
	}
	guard := egress.Guard{Allow: s.networks}
	if loopback.URL(url) {
		guard.Allow = slices.Concat(guard.Allow, egress.Loopback)
	}
	endpoint, err := guard.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("mcptool: the URL of %s: %w", name, err)
	}
	client := guard.Client()
	client.Transport = &transport{set: s, endpoint: endpoint, next: client.Transport}
	s.transport = func() mcp.Transport {
		return &mcp.StreamableClientTransport{
			Endpoint: url, HTTPClient: client, MaxEventSize: 2 * maxResponse, // of which the body's bound comes first
			// An instance has no CPU between requests: nothing would read the stream.
			DisableStandaloneSSE: true,
		}
	}
	return s, nil
}

// Command returns the tools of the server that the command runs, for a laptop: the
// process is started by the first turn and ended by Close. Its standard error is this
// process's. Names are as for [HTTP].
func Command(name string, command []string, options ...Option) (*Set, error) {
	s, err := newSet(name, true, options)
	if err != nil {
		return nil, err
	}
	if len(command) == 0 || command[0] == "" {
		return nil, fmt.Errorf("mcptool: %s has no command", name)
	}
	s.connectTimeout = startTimeout
	s.transport = func() mcp.Transport {
		process := exec.Command(command[0], command[1:]...)
		process.Env = append(environment(), s.env...)
		process.Stderr = os.Stderr
		return &mcp.CommandTransport{Command: process, TerminateDuration: terminateTimeout}
	}
	return s, nil
}

// validName is what a set may be called: it leaves room for the names of tools.
var validName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]*$`)

const maxName = 24

func newSet(name string, command bool, options []Option) (*Set, error) {
	if len(name) > maxName || !validName.MatchString(name) {
		return nil, fmt.Errorf("mcptool: the name %q must be letters, digits, _ and -, a letter first, at most %d", name, maxName)
	}
	s := &Set{name: name, command: command, connectTimeout: connectTimeout, maxTools: defaultMaxTools, refresh: defaultRefresh, headers: map[string]agent.Secret{}}
	for _, option := range options {
		if err := option(s); err != nil {
			return nil, fmt.Errorf("mcptool: %s: %w", name, err)
		}
	}
	if _, ok := s.headers["Authorization"]; ok && s.asCaller {
		return nil, fmt.Errorf("mcptool: %s: either the caller's token or the service's, not both", name)
	}
	s.breaker = breaker.New(breaker.Settings{Failures: breakerFailures, Cooldown: breakerCooldown})
	s.away = sync.OnceValue(func() []tool.Tool { return s.statusTools(errAway) })
	s.absent = sync.OnceValue(func() []tool.Tool { return s.statusTools(errAbsent) })
	var err error
	s.links, err = lru.NewWithEvict(maxCallers, func(_ [sha256.Size]byte, l *link) { go l.close() })
	return s, err
}

// statusTools returns the one tool of which the model learns why the server's own are not
// there.
func (s *Set) statusTools(reason error) []tool.Tool {
	why := fmt.Errorf("the server %s %w", s.name, reason)
	return []tool.Tool{tool.New(s.name+"_unavailable", "The tools of "+s.name+" cannot be used now: "+why.Error()+". Say so if they are needed.",
		func(context.Context, struct{}) (string, error) { return "", why })}
}

// Tools implements [tool.Set]. It waits for the server only when the list is not known
// or has become too old, and then for a few seconds; if the server does not answer in
// time, the list stays as it was.
func (s *Set) Tools(ctx context.Context) []tool.Tool {
	l, err := s.link(ctx)
	if errors.Is(err, errAbsent) {
		return s.absent()
	}
	if err != nil || s.breaker.State() == breaker.Open {
		return s.away()
	}
	if tools := l.list(ctx); tools != nil {
		return tools
	}
	return s.away()
}

// link returns the connection to use for the turn of ctx: the service's, or the caller's.
// Its errors are errAbsent, where the caller's token is needed and not there, and errAway
// after Close.
func (s *Set) link(ctx context.Context) (*link, error) {
	var key [sha256.Size]byte
	if s.asCaller {
		token := tool.CallerToken(ctx)
		if token == "" {
			return nil, errAbsent
		}
		key = sha256.Sum256([]byte(token))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errAway
	}
	l, ok := s.links.Get(key)
	if !ok {
		l = &link{set: s}
		s.links.Add(key, l)
	}
	return l, nil
}

// Close ends the connections, and the process of a command. Tools that are called
// afterwards fail.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	links := s.links.Values()
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var closing sync.WaitGroup
		for _, l := range links {
			closing.Go(l.close)
		}
		closing.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mcptool: closing %s: %w", s.name, context.Cause(ctx))
	}
}
