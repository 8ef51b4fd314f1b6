// Package gate puts an agent into production as two Cloud Run functions, "invoke" and
// "health". The program that Google's buildpack makes around a package needs no more
// of it than
//
//	func init() { gate.Register(New) }
//
// where New is an [agent.NewFunc]. The environment configures everything else; see
// docs/configuration.md.
package gate

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/garbage"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/session"
)

// An Option changes what [Register] and [Handler] serve.
type Option func(*server.Options)

// Environment has lookup read the configuration, in the place of os.LookupEnv.
func Environment(lookup func(name string) (string, bool)) Option {
	return func(o *server.Options) { o.Lookup = lookup }
}

// Log has the lines of the log written to w, in the place of standard output.
func Log(w io.Writer) Option {
	return func(o *server.Options) { o.Log = w }
}

// Store has s keep the sessions, in the place of SESSION_STORE, which still decides
// where limits and the service's figures are counted. What production refuses
// stays refused: SESSION_STORE=memory, and a [session.Memory].
//
// s is used by many requests at once and by both functions; package
// session/sessiontest has the test that it must pass. It should connect at its first
// use, not when it is made. Who makes s closes it, such as in the agent's Close. Store
// panics when s is nil.
func Store(s session.Store) Option {
	if s == nil {
		panic("gate: Store needs a store")
	}
	return func(o *server.Options) { o.Store = s }
}

// Door serves a further protocol beside the gate's own, unless DOORS switches off its
// name: the routes that routes returns stand behind the same identity, limits, audit and
// documentation, and translate to and from the methods of the service. It is for the
// packages below this one, which alone can name its types; each has a function that
// returns its Option, such as openai.Door(). routes is called before the service can be
// used.
func Door(name string, routes func(server.Room) []api.Route) Option {
	return func(o *server.Options) { o.Doors = append(o.Doors, server.Door{Name: name, Routes: routes}) }
}

func newOptions(newAgent agent.NewFunc, options []Option) server.Options {
	o := server.Options{Agent: newAgent, Lookup: os.LookupEnv, Log: os.Stdout}
	for _, option := range options {
		option(&o)
	}
	for i, door := range o.Doors {
		if slices.ContainsFunc(o.Doors[:i], func(d server.Door) bool { return d.Name == door.Name }) {
			panic("gate: the door " + door.Name + " is given twice")
		}
	}
	return o
}

var registered atomic.Bool

// Register registers the functions "invoke" and "health" with the functions framework,
// for the agent that newAgent makes: an agent per program. Call it in init.
//
// It costs next to nothing: what serves is made at the first request, and newAgent
// called then; in a process of the function "health" only (FUNCTION_TARGET=health),
// newAgent is never called. On Cloud Run, SIGTERM ends the process in order: what is
// in flight is answered first. Garbage is collected there when the process takes 128 MiB, or
// twice what is in use if that is more, and by GOGC if that is set: see
// docs/performance.md.
//
// Register panics when newAgent is nil, when a door is given twice, and when it is called a
// second time.
func Register(newAgent agent.NewFunc, options ...Option) {
	if newAgent == nil {
		panic("gate: Register needs a function that makes the agent")
	}
	if !registered.CompareAndSwap(false, true) {
		panic("gate: Register was called before; a program serves one agent")
	}
	target := os.Getenv("FUNCTION_TARGET")
	if target == "health" {
		newAgent = nil
	}
	i := &instance{options: newOptions(newAgent, options)}
	functions.HTTP("invoke", func(w http.ResponseWriter, r *http.Request) { i.server().Invoke.ServeHTTP(w, r) })
	functions.HTTP("health", func(w http.ResponseWriter, r *http.Request) { i.server().Health.ServeHTTP(w, r) })
	if target != "" { // deployed: SIGTERM may come before any request
		garbage.CollectAbove(garbage.Room)
		i.shutdownOnSIGTERM()
	}
}

// Handler returns a handler that serves both functions for the agent that newAgent
// makes, at the paths of the contract, for tests and other servers. shutdown lets no
// new request in, answers those in flight, and closes what is open; the HTTP server
// around the handler is the caller's to close.
//
// Handler panics when newAgent is nil, and when a door is given twice.
func Handler(newAgent agent.NewFunc, options ...Option) (_ http.Handler, shutdown func(context.Context) error) {
	if newAgent == nil {
		panic("gate: Handler needs a function that makes the agent")
	}
	s := server.New(newOptions(newAgent, options))
	return s.Both, s.Drain
}

// An instance is the server of this process, made at the first request: importing a
// package that registers, as tools and tests do, costs nothing.
type instance struct {
	options server.Options
	once    sync.Once
	made    atomic.Pointer[server.Server] // once it is

	awaiting sync.Once // SIGTERM
}

func (i *instance) server() *server.Server {
	i.once.Do(func() {
		s := server.New(i.options)
		s.LogLibraries()
		i.made.Store(s)
		i.shutdownOnSIGTERM()
	})
	return i.made.Load()
}

// shutdownOnSIGTERM ends the process in order at SIGTERM, which the functions framework
// leaves to Go's default (its issues 108 and 271). A second signal changes nothing.
func (i *instance) shutdownOnSIGTERM() {
	i.awaiting.Do(func() {
		terminate := make(chan os.Signal, 1)
		signal.Notify(terminate, syscall.SIGTERM)
		go func() {
			<-terminate
			s := i.made.Load()
			if s == nil {
				os.Exit(0)
			}
			ctx, cancel := context.WithTimeout(context.Background(), server.ShutdownTime)
			defer cancel()
			if s.Drain(ctx) != nil { // it has logged what was cut short
				os.Exit(0)
			}
			exitAfter(func() { _ = s.CloseHTTP(ctx) })
		}()
	})
}

// exitAfter runs end, which closes the HTTP server, and exits with 0.
//
// The program that the buildpack makes hands what the closed server returns to
// log.Fatalf, which would exit with 1 before the last answers are out. The standard
// logger serializes its writes, so that log.Fatalf waits for one that is under way:
// end runs within such a write. It is bounded, and nothing else is left to run.
func exitAfter(end func()) {
	log.SetOutput(writerFunc(func([]byte) (int, error) {
		end()
		os.Exit(0)
		return 0, nil
	}))
	log.Print("Exiting.")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
