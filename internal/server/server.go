// Package server puts the parts together: from an environment to the handlers
// of the two functions. It is the one place that knows all of them.
//
// What is set up wrongly is final, and the answer to every request but the probes.
// What could not be fetched is tried again, with backoff, by the requests that
// come. Nothing runs in the background: an instance has CPU only while a
// request is open.
//
// The state of a server is one pointer: parts is nil until everything stands, and is set
// once. Until then the handlers in unready answer, probes and health with the reason, every
// other route with not_ready. So a request meets a whole service or none, and takes no lock
// to find out which.
//
// Building has one order: the project, the agent, telemetry, the store, files, the model,
// the secrets, who may call, limits, the queue, and last the service that runs turns
// ([Server.connect]). Ending goes the other way ([Server.Drain]): requests first, then what
// they leave to be written, the clients last.
package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/config"
	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/gcp/secret"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/internal/playground"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A Server is a deployment of Gatehouse in this process. It is safe for
// concurrent use.
type Server struct {
	// Invoke and Health are the two functions; Both serves both on one port.
	Invoke, Health, Both http.Handler

	Config *config.Config // what could be read, when Problem is not nil
	Log    *slog.Logger

	out     io.Writer              // of the log
	project atomic.Pointer[string] // the log's, once it is known
	observe telemetry.Settings

	gate    drain.Gate
	server  atomic.Pointer[http.Server] // the functions framework's own, known from its requests
	health  *health.Health
	tables  models.Live // of the models
	endings endings
	problem error // the configuration's, final

	standIn    *StandIn
	wrapModel  func(http.RoundTripper) http.RoundTripper
	store      session.Store // the user's own; nil: SESSION_STORE's
	doors      []Door        // that are open
	loopback   bool
	localQueue bool
	clock      func() time.Time // of secrets

	secretsMu     sync.Mutex
	secretsClient *secret.Client // nil until it is needed

	standing sync.Mutex            // held while the parts are put up, or Drain takes note of them
	drained  bool                  // no parts are put up any more
	parts    atomic.Pointer[parts] // once they stand
	mu       sync.Mutex            // held while building them
	agents   agents                // mu is held while using it
	last     error                 // why the last attempt failed
	tries    int
	retry    time.Time // not before

	unready handlers
}

// handlers are the functions' handlers for one state of the service. Each is made at its first
// request, since a process serves one of the functions, and a start waits for it.
type handlers struct{ invoke, health, both func() http.Handler }

// Options are what a server is made of.
type Options struct {
	// Agent makes the agent; nil in a process of the function "health" only.
	Agent agent.NewFunc

	// Lookup is the environment, as os.LookupEnv has it.
	Lookup func(string) (string, bool)

	// Log is where lines of the log go.
	Log io.Writer

	// Store keeps the sessions in the place of SESSION_STORE's; nil: that does.
	Store session.Store

	// Loopback has [Server.Both] serve this machine only.
	Loopback bool

	// LocalQueue keeps runs in the background in a queue of this process, where the
	// configuration names none.
	LocalQueue bool

	// StandIn answers in the place of Gemini where no model is configured; nil: then
	// the configuration is wrong.
	StandIn *StandIn

	// Doors serve other protocols over the same runs, unless DOORS switches them off.
	Doors []Door

	// SecretsClock is the clock by which secrets are refreshed; nil: time.Now.
	SecretsClock func() time.Time

	// WrapModel returns the transport of the model's requests, around the one that the
	// service would use; nil: that one.
	WrapModel func(http.RoundTripper) http.RoundTripper
}

// A StandIn is a model that needs no network.
type StandIn struct {
	Model     string // its name
	Transport http.RoundTripper
}

// New makes a server. It connects to nothing, and never fails: one that is set up
// wrongly answers, and its log and /health/ready report why.
func New(o Options) *Server {
	s := &Server{standIn: o.StandIn, wrapModel: o.WrapModel, store: o.Store, loopback: o.Loopback, localQueue: o.LocalQueue, clock: o.SecretsClock}
	if s.clock == nil {
		s.clock = time.Now
	}
	s.Config, s.problem = config.Read(o.Lookup)
	// Read returns none only for a mistake in its own tags. An empty one still makes
	// handlers, and these report it.
	if s.Config == nil {
		s.Config = &config.Config{}
	}
	s.out = &writer{out: o.Log}
	s.setProject(s.Config.Project)
	s.observe, s.problem = readTelemetry(o.Lookup, s.problem)
	if s.problem == nil && s.Config.Offline() && s.standIn == nil {
		s.problem = config.Problems{{Variable: "GEMINI_API_KEY", Issue: "no model is set up, and the offline stand-in is in the local program only; set GOOGLE_GENAI_USE_VERTEXAI=true, or a key"}}
	}
	if _, forgets := o.Store.(*session.Memory); forgets && s.problem == nil && s.Config.Production() {
		s.problem = config.Problems{{Variable: "SESSION_STORE", Issue: "gate.Store has a store that forgets every session with its instance and is not for production"}}
	}
	s.openDoors(o.Doors)
	s.agents.new, s.agents.lookup, s.agents.client, s.agents.status = o.Agent, o.Lookup, s.secretManager, s.status
	s.Log = telemetry.NewLogger(s.out, s.Config.LogLevel, s.source())
	if s.problem != nil {
		s.Log.LogAttrs(context.Background(), telemetry.LevelCritical, s.problem.Error())
	}
	s.endings = endings{tables: &s.tables, names: s.askable(), log: s.Log}
	s.health = health.New(health.Config{
		Service:     cmp.Or(s.Config.Service, serviceName),
		Revision:    s.Config.Revision,
		Environment: s.Config.Environment,
		Agent:       s.agentName,
		Model:       s.ModelName(),
		Started:     time.Now(),
		Ready:       s.ready,
		Details:     operator,
		Log:         s.Log,
		Now:         time.Now,
	})
	s.unready = s.handlers(nil)
	s.Invoke = s.serve(false, func(h handlers) http.Handler { return h.invoke() })
	s.Health = s.serve(false, func(h handlers) http.Handler { return h.health() })
	s.Both = s.serve(s.loopback, func(h handlers) http.Handler { return h.both() })
	return s
}

// ModelName is the model that answers.
func (s *Server) ModelName() string {
	if s.Config.Offline() && s.standIn != nil {
		return s.standIn.Model
	}
	return s.Config.Model
}

// modelNames are the models that may answer, the first one first.
func (s *Server) modelNames() []string {
	if s.Config.Offline() && s.standIn != nil {
		return []string{s.standIn.Model}
	}
	return append([]string{s.Config.Model}, s.Config.ModelFallbacks...)
}

// askable are the models that may answer and those that a request may name.
func (s *Server) askable() []string {
	names := s.modelNames()
	return slices.Concat(names, slices.DeleteFunc(slices.Clone(s.Config.ModelsAllowed), func(name string) bool { return slices.Contains(names, name) }))
}

// Agent returns the agent of this process: the zero Agent while there is none.
func (s *Server) Agent() agent.Agent {
	if p := s.parts.Load(); p != nil {
		return p.agent
	}
	return agent.Agent{}
}

// Model returns the model's client of this process; nil while there is none.
func (s *Server) Model() *model.Client {
	if p := s.parts.Load(); p != nil {
		return p.model
	}
	return nil
}

// AgentDigest returns what identifies the agent's instruction, tools and settings, as
// turns hold it; "" while there is none.
func (s *Server) AgentDigest() string {
	if p := s.parts.Load(); p != nil && p.invoke != nil {
		return p.invoke.AgentDigest()
	}
	return ""
}

// agentName returns the name of the agent in this process; "" while there is none.
func (s *Server) agentName() string { return s.Agent().Name }

// status returns how the service is, for the agent's tools.
func (s *Server) status(ctx context.Context) agent.Status {
	return deploymentStatus(s.health.Report(ctx), s.StoreName())
}

// StoreName is what keeps sessions: "firestore", "memory", or "custom" for a store of
// the user's own.
func (s *Server) StoreName() string {
	if s.store != nil {
		return "custom"
	}
	return s.Config.SessionStore
}

// secretManager returns the client of Secret Manager, made when it is first needed. The
// server owns it and closes it in [Server.Drain]; it outlives failed attempts to build the
// parts. Making it connects to nothing.
func (s *Server) secretManager() (*secret.Client, error) {
	s.secretsMu.Lock()
	defer s.secretsMu.Unlock()
	if s.secretsClient == nil {
		client, err := secret.New(context.Background(), s.Config.SecretManager)
		if err != nil {
			return nil, &fetchError{"SECRET_MANAGER_ENDPOINT", err}
		}
		s.secretsClient = client
	}
	return s.secretsClient, nil
}

// serve makes a function's handler, which picks the one for the service's state. loopback
// is that of the handlers it picks from.
//
// The first request that names its HTTP server leaves it for [Server.CloseHTTP]. A request
// for /health/live never builds: it is the liveness probe, and a start that waits for
// Secret Manager must not have the instance killed. Nor does it wait for routes that it
// does not ask for. Every other request, /health/ready first of all, drives the building,
// because nothing else has CPU.
func (s *Server) serve(loopback bool, pick func(handlers) http.Handler) http.Handler {
	probes := sync.OnceValue(func() http.Handler { return s.wrap(nil, s.health.ProbeRoutes(), loopback) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.server.Load() == nil {
			if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
				s.server.Store(server)
			}
		}
		p := s.parts.Load()
		if p == nil && r.URL.Path == "/health/live" {
			probes().ServeHTTP(w, r)
			return
		}
		if p == nil {
			p = s.build(r.Context())
		}
		if p == nil {
			pick(s.unready).ServeHTTP(w, r)
			return
		}
		if r.URL.Path != "/health/live" && r.URL.Path != "/health/ready" { // probes wait for nothing
			p.secrets.refresh(r.Context())
		}
		pick(p.handlers).ServeHTTP(w, r)
	})
}

// buildTimeout bounds one attempt to build the service. An agent's New may take longer
// (newAgentTimeout): it goes on between attempts, and the next one waits for the same call.
const buildTimeout = 10 * time.Second

// build makes the parts, unless they stand, cannot ever, or were tried a moment
// ago. The first to come builds; those who come during it wait.
//
// A failed attempt is followed by a pause, 200 ms after the first one and doubled up to 10
// s, in which requests are refused at once. Those that waited for the attempt fall into it:
// a crowd of requests makes one attempt, not one each.
func (s *Server) build(ctx context.Context) *parts {
	if s.problem != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts.Load(); p != nil {
		return p
	}
	if s.agents.failed() || time.Now().Before(s.retry) {
		return nil
	}
	// A client that goes away does not stop what the others wait for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), buildTimeout)
	defer cancel()
	var p *parts
	err := rescue.Call(func() (err error) {
		p, err = s.connect(ctx)
		return err
	})
	if err != nil {
		again := s.last != nil && s.last.Error() == err.Error()
		s.last = err
		s.tries++
		wait := min(100*time.Millisecond<<min(s.tries, 10), 10*time.Second)
		s.retry = time.Now().Add(wait)
		attributes := []any{"error", err.Error(), "attempt", s.tries}
		if panicked, ok := errors.AsType[*rescue.Panic](err); ok {
			attributes = append(attributes, "stack_trace", panicked.Stack)
		}
		switch {
		case s.agents.failed():
			s.Log.Log(ctx, telemetry.LevelCritical, "The agent cannot be served.", attributes...)
		case !again: // one line for each trouble, not one for each request
			s.Log.ErrorContext(ctx, "The service could not be set up; the next request tries again.", attributes...)
		}
		return nil
	}
	// The handlers belong to the parts, so that storing one pointer changes both.
	p.handlers = s.handlers(p)
	if !s.putUp(p) {
		return nil
	}
	return p
}

// putUp makes p what serves. It closes p instead, and reports false, if the server has been
// drained since p was begun: a SIGTERM in a cold start finds nothing to close.
func (s *Server) putUp(p *parts) bool {
	s.standing.Lock()
	defer s.standing.Unlock()
	if !s.drained {
		s.parts.Store(p)
		return true
	}
	p.close()
	s.closeSecretManager()
	return false
}

// ready returns the service as health sees it, or why it cannot answer.
func (s *Server) ready(ctx context.Context) (health.Service, error) {
	p := s.parts.Load()
	if p == nil {
		return nil, s.notReady()
	}
	if gone, ok := errors.AsType[*model.GoneError](p.model.Missing(ctx)); ok {
		return nil, invoke.ModelGone(gone)
	}
	return &standing{s, p}, nil
}

// notReady returns why the service does not stand. Its details name variables and never
// their values or the error's text, since anybody may read them; the cause is for the log.
func (s *Server) notReady() error {
	e := api.Fail(api.NotReady, nil)
	problem := s.problem
	if problem == nil {
		s.mu.Lock()
		problem = s.last
		s.mu.Unlock()
	}
	if problems, ok := errors.AsType[config.Problems](problem); ok {
		e.Message = "The service is not set up to answer: see the variables in details, and the log for what is wrong with them."
		for _, variable := range problems.Variables() {
			e.Details = append(e.Details, api.Detail{Field: variable, Issue: "is missing or invalid"})
		}
		return e
	}
	e.Cause = problem
	if failed, ok := errors.AsType[*agentError](problem); ok {
		e.Message = "The agent " + failed.issue + "; the log has more."
		return e
	}
	e.Message = "The service is being set up; what it needs could not all be fetched yet."
	for _, variable := range unfetched(problem) {
		e.Details = append(e.Details, api.Detail{Field: variable, Issue: "what it names could not be fetched"})
	}
	return e
}

// operator reports whether the caller of ctx may see the details of the service.
func operator(ctx context.Context) bool {
	c, ok := caller.FromContext(ctx)
	return ok && c.Operator
}

// handlers returns the functions' handlers: over the routes of a service that stands, or
// (without parts) answering not_ready.
//
// The function "health" has its report at "/" too: the functions framework serves a
// function at the root of its service. The local program serves both functions on one port,
// where "/" is the description of the service, so its report is at /health only.
func (s *Server) handlers(p *parts) handlers {
	probes, status := s.health.ProbeRoutes(), s.health.Routes()
	invoke := func(loopback bool, more ...api.Route) func() http.Handler {
		return sync.OnceValue(func() http.Handler {
			routes := s.routes(p)
			if p != nil && p.observer.Handler() != nil {
				routes = append(routes, s.metrics(p.observer.Handler()))
			}
			routes = s.document(append(routes, more...), p)
			if s.Config.Playground {
				routes = playground.Add(routes, s.shown(p))
			}
			if p != nil && p.queue != nil { // in no document: it is only for the queue
				routes = append(routes, p.invoke.TasksRoute())
			}
			if p == nil {
				refuse(routes)
			}
			return s.wrap(p, routes, loopback)
		})
	}
	return handlers{
		invoke: invoke(false, probes...),
		health: sync.OnceValue(func() http.Handler {
			root := status[0]
			root.Path, root.Summary = "/", "The same as GET /health."
			return s.wrap(p, slices.Concat([]api.Route{root}, status, probes), false)
		}),
		both: invoke(s.loopback, slices.Concat(status, probes)...),
	}
}

// refuse makes every route but those that report how the service is answer not_ready. They
// become public, because whether a credential is right cannot be known before the keys are
// there: 503 means to try again, where 401 would mean that the credential is wrong.
func refuse(routes []api.Route) {
	for i := range routes {
		if routes[i].Probe || routes[i].Path == "/health" {
			continue
		}
		routes[i].Public = true
		routes[i].Handler = func(http.ResponseWriter, *http.Request) error { return api.Fail(api.NotReady, nil) }
	}
}

// wrap puts the middleware around routes. Both states share the gate, so that a shutdown
// also waits for requests that found no parts. Before there are parts the origins are those
// of the environment: the secret's are not known yet.
func (s *Server) wrap(p *parts, routes []api.Route, loopback bool) http.Handler {
	c := middleware.Config{
		Log: s.Log, Gate: &s.gate, Proxied: s.Config.Service != "", Now: time.Now, MaxConcurrent: s.Config.MaxConcurrent,
		Limits: s.limits(), Loopback: loopback, Operators: s.Config.Operators, Origins: func() ([]string, bool) { return s.Config.AllowedOrigins, true },
	}
	if p != nil {
		c.Authenticator, c.Challenge, c.Limiter = p.authenticator.Authenticator, p.authenticator.challenge, p.limiter
		c.Tasks = p.tasks
		c.Origins = p.secrets.allowedOrigins
		c.Observer, c.Audit, c.Figures = p.observer, p.audit, p.figures
	}
	return middleware.New(c, routes)
}

// Ready builds the service if need be, and reports what keeps it from answering. A program
// that a person starts exits with it; a deployed function stays up and answers not_ready,
// so that its startup probe fails with a reason in the log. The error is [config.Problems]
// where the environment is wrong.
func (s *Server) Ready(ctx context.Context) error {
	if s.problem != nil {
		return s.problem
	}
	if s.build(ctx) == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.last
	}
	return nil
}
