package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/gcp/bucket"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/loopback"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// parts are what a service that stands is made of.
type parts struct {
	handlers
	agent         agent.Agent     // the zero Agent in a process of the function "health" only
	invoke        *invoke.Service // nil there
	authenticator *authenticator
	store         session.Store
	files         invoke.Files
	model         *model.Client
	secrets       *secrets
	counters      limit.Counters
	limiter       *limit.Limiter
	observer      *telemetry.Observer
	audit         *middleware.Audit
	figures       *figures.Counter
	queue         invoke.Queue        // nil: runs end with their request
	tasks         *auth.Authenticator // of the queue's requests; nil without one
	closeQueue    func()              // nil where it needs no end of its own
	closers       []func()
}

// close closes the clients that the parts own. Parts that never came to stand are closed by
// connect, the others by [Server.Drain]. An agent is not among them: it is the process's
// and serves the next attempt.
func (p *parts) close() {
	for _, c := range p.closers {
		c()
	}
}

// closeFigures writes the figures that are left, while the store's client is
// open. A store that does not answer keeps nobody from ending.
func (p *parts) closeFigures(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := p.figures.Close(ctx); err != nil {
		log.WarnContext(ctx, "The last figures of this instance could not be written.", "error", err.Error())
	}
}

// A fetchError is about something outside that a variable names and that could
// not be had. It may be had later.
type fetchError struct {
	variable string
	err      error
}

func (e *fetchError) Error() string { return e.variable + ": " + e.err.Error() }
func (e *fetchError) Unwrap() error { return e.err }

// unfetched names the variables of the fetchErrors in err, which may be joined. It walks
// joined errors itself: errors.AsType would find only the first of them.
func unfetched(err error) []string {
	switch err := err.(type) {
	case *fetchError:
		return []string{err.variable}
	case interface{ Unwrap() []error }:
		var variables []string
		for _, e := range err.Unwrap() {
			variables = append(variables, unfetched(e)...)
		}
		return variables
	}
	return nil
}

// connect builds what the configuration asks for: the secrets and the store's
// connection side by side, and then what needs them.
func (s *Server) connect(ctx context.Context) (_ *parts, err error) {
	p, stands := &parts{}, false
	defer func() {
		if !stands { // also when an agent or a library panicked
			p.close()
		}
	}()
	project, err := s.findProject(ctx)
	if err != nil {
		return nil, err
	}
	var built *builtAgent
	if s.agents.new != nil {
		if built, err = s.agents.get(ctx); err != nil {
			return nil, err
		}
		p.agent = built.Agent
	}
	if err := s.openTelemetry(ctx, p, project); err != nil {
		return nil, err
	}
	if err := s.openStore(ctx, p, project); err != nil {
		return nil, err
	}
	if err := s.openFiles(ctx, p); err != nil {
		return nil, err
	}
	if err := s.openModel(ctx, p, project); err != nil {
		return nil, err
	}
	// What the API does not take of the agent is found before the secrets are fetched.
	if built != nil {
		if err := s.checkSettings(ctx, p); err != nil {
			return nil, err
		}
	}
	if p.secrets, err = s.newSecrets(ctx, p.model.SetKey); err != nil {
		return nil, err
	}
	p.secrets.observer = p.observer
	// Each of the two waits for a network; together they take as long as the slower one.
	// The group has no context: a failed secret does not cut the connecting short.
	var group errgroup.Group
	group.Go(func() error { return rescue.Call(func() error { return p.secrets.start(ctx) }) })
	if s.Config.SessionStore == config.StoreFirestore {
		// The channel would connect with the first turn, and make it wait. A
		// store that is away now is reported by that turn, not by the start.
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			if err := p.store.Ping(ctx); err != nil {
				s.Log.WarnContext(ctx, "The session store does not answer yet.", "error", err.Error())
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if failed := p.secrets.failed.Load(); failed != nil {
		s.Log.WarnContext(ctx, "A secret that the service can do without could not be fetched.", "error", (*failed).Error())
	}
	if built != nil && len(built.secrets) > 0 { // which New has read just now
		if err := p.secrets.add(built.secrets); err != nil {
			return nil, err
		}
	}
	// After the secrets, whose keys it reads at each request.
	if p.authenticator, err = s.authenticate(ctx, p.secrets); err != nil {
		return nil, err
	}
	p.limiter = limit.New(limit.Config{Counters: p.counters, MaxInstances: s.Config.MaxInstances, Now: time.Now, Log: s.Log})
	if built == nil {
		stands = true
		return p, nil
	}
	if err := s.openQueue(ctx, p); err != nil {
		return nil, err
	}
	_, places := s.gate.Bound(s.Config.MaxConcurrent)
	p.invoke = invoke.New(invoke.Config{
		Agent: p.agent, Model: p.model, ModelName: s.ModelName(), ModelsAllowed: s.Config.ModelsAllowed, Thinking: s.Config.ThinkingLevel, Tables: &s.tables, Store: p.store, Files: p.files,
		Timeout: s.Config.RequestTimeout, MaxBodyBytes: s.Config.MaxBodyBytes, MaxOutputTokens: s.Config.MaxOutputTokens,
		HistoryTokens: s.Config.HistoryTokens, MaxToolRounds: s.Config.MaxToolRounds,
		Limiter: p.limiter, Limits: s.limits(), Observer: p.observer,
		Log: s.Log, LogContent: s.Config.LogContent, ShowTools: s.Config.Environment == "development", Now: time.Now, Schedules: s.Config.SchedulesAccount,
		Queue: p.queue, Places: places, Admits: p.authenticator.Admits, Operates: s.Config.Operators.Include, Webhooks: s.newWebhooks(p.secrets),
		RunTimeout: s.Config.RunTimeout, MaxBackground: s.Config.MaxBackgroundRuns,
		ApprovalTTL: s.Config.ApprovalTTL,
	})
	stands = true
	return p, nil
}

// limits are those of the configuration.
func (s *Server) limits() limit.Limits {
	return limit.Limits{
		PerMinute: s.Config.RateLimitPerMinute, CallerPerMinute: s.Config.CallerRateLimitPerMinute,
		PerDay: s.Config.DailyTokenLimit, CallerPerDay: s.Config.CallerDailyTokenLimit, ServicePerDay: s.Config.ServiceDailyTokenLimit,
	}
}

// findProject returns the Google Cloud project, where anything needs one. The metadata server is
// asked only where something needs the answer, because outside of Google Cloud there is
// none and the question would end in a timeout.
func (s *Server) findProject(ctx context.Context) (string, error) {
	needed := s.Config.SessionStore == config.StoreFirestore || s.Config.Gemini.VertexAI
	switch {
	case s.Config.Project != "" || !needed:
		return s.Config.Project, nil
	case s.Config.FirestoreEmulator != "" && !s.Config.Gemini.VertexAI:
		return "local", nil // any name does for the emulator
	}
	project, err := metadata.ProjectIDWithContext(ctx)
	if err != nil {
		return "", &fetchError{"GOOGLE_CLOUD_PROJECT", fmt.Errorf("not set, and the metadata server did not return it: %w", err)}
	}
	return project, nil
}

// openStore makes the store of sessions, and where limits and figures are counted.
func (s *Server) openStore(ctx context.Context, p *parts, project string) error {
	defer func() { // the user's own keeps the sessions only
		if s.store != nil {
			p.store = s.store
		}
	}()
	if s.Config.SessionStore == config.StoreMemory {
		p.store = session.NewMemory(s.Config.SessionTTL, session.MemoryLimit, time.Now, s.Log)
		p.counters = limit.NewMemory(time.Now)
		p.figures = s.newFigures(p, figures.NewMemory())
		return nil
	}
	// The client outlives this attempt, so nothing in it may end with the attempt's
	// context.
	client, err := firestore.Connect(context.WithoutCancel(ctx), project, s.Config.FirestoreDatabase, s.Config.FirestoreEmulator)
	if err != nil {
		return &fetchError{"FIRESTORE_DATABASE", fmt.Errorf("making Firestore's client: %w", err)}
	}
	p.closers = append(p.closers, func() { _ = client.Close() })
	p.store = firestore.NewSessions(client, s.Config.SessionTTL, time.Now)
	p.counters = firestore.NewCounters(client)
	p.figures = s.newFigures(p, firestore.NewTraffic(client))
	return nil
}

// openFiles makes what reads and keeps files, where a bucket is configured.
func (s *Server) openFiles(ctx context.Context, p *parts) error {
	c := s.Config
	p.files = invoke.Files{
		Types: c.FileTypes, MaxBytes: c.MaxFileBytes, TTL: c.SessionTTL, Buckets: c.FileBuckets, ByAddress: c.Gemini.VertexAI,
	}
	if c.FilesBucket == "" && len(c.FileBuckets) == 0 {
		return nil
	}
	client, err := bucket.New(ctx, c.StorageEndpoint)
	if err != nil {
		return &fetchError{"STORAGE_EMULATOR_HOST", err}
	}
	p.files.Read = client.Read
	if c.FilesBucket != "" {
		p.files.Store = client.Bucket(c.FilesBucket)
	}
	return nil
}

// newFigures counts what this instance answers, and reports p's breakers.
func (s *Server) newFigures(p *parts, store figures.Store) *figures.Counter {
	return figures.New(figures.Config{
		Store: store, Agent: p.agent.Name, Log: s.Log, Now: time.Now,
		Breakers: func() map[string]string {
			states := map[string]string{}
			for name, state := range p.model.States() {
				states[name] = state.String()
			}
			return states
		},
	})
}

// openModel makes the model's client and owns it through p's closers. A key that comes from
// Secret Manager is not there yet: the SDK refuses to make a client without any, so it gets
// a placeholder, which newSecrets' setModelKey replaces before the service stands.
func (s *Server) openModel(ctx context.Context, p *parts, project string) error {
	g := s.Config.Gemini
	ctx = context.WithoutCancel(ctx)
	c := model.Config{
		APIKey: g.APIKey.Reveal(), VertexAI: g.VertexAI, Project: project, Location: g.Location,
		BaseURL: g.BaseURL, Loopback: loopback.URL(g.BaseURL), Wrap: s.wrapModel,
		Models: s.modelNames(), Allowed: s.Config.ModelsAllowed, Tables: &s.tables, Timeout: s.Config.RequestTimeout,
		BreakerFailures: s.Config.BreakerFailures, BreakerCooldown: s.Config.BreakerCooldown,
		OnBreaker: func(name string, state breaker.State) {
			// Not in ctx: that is of the request that happened to build the service.
			s.Log.Warn("Model circuit breaker changed state.", "model", name, "state", state.String())
			p.observer.Breaker(context.Background(), name, state)
		},
	}
	if g.ArmorPrompt != "" || g.ArmorResponse != "" {
		c.Armor = &genai.ModelArmorConfig{PromptTemplateName: g.ArmorPrompt, ResponseTemplateName: g.ArmorResponse}
	}
	if g.APIKeySecret != "" {
		c.APIKey = "not fetched yet" // replaced before the first call
	}
	if s.Config.Offline() {
		c.APIKey, c.Transport = s.standIn.Model, s.standIn.Transport
	}
	client, err := model.New(ctx, c)
	if err != nil {
		return &fetchError{"MODEL", err}
	}
	for _, name := range s.askable() {
		if s.tables.Table().Model(name) == nil {
			s.Log.WarnContext(ctx, "The table of models has no entry for a model: requests carry the least that any model takes, costs are unknown.",
				"model", name, "table", s.tables.Table().Date.String())
		}
	}
	p.model = client
	p.closers = append(p.closers, client.Close)
	for name, state := range client.States() { // a series that is not there cannot be alerted on
		p.observer.Breaker(ctx, name, state)
	}
	return nil
}

// methods are those of AUTH, in its order. schedules is the entry of Cloud Scheduler's
// account, nil where Cloud Run's check verifies its tokens or there is none.
//
// The schedules' account joins the issuers of AUTH=oidc where that is a mode, so that one
// verifier sees all bearer tokens; otherwise it comes as a method behind the others.
func (s *Server) methods(keys func() *access.KeySet, schedules []access.Issuer) ([]auth.Method, error) {
	var methods []auth.Method
	for _, mode := range s.Config.Auth {
		switch mode {
		case config.AuthIAM:
			methods = append(methods, auth.NewIAM(nil))
		case config.AuthOIDC:
			issuers, err := access.ParseIssuers(s.Config.OIDCIssuers, s.Config.OIDCAudiences, !s.Config.Production())
			if err != nil {
				return nil, &fetchError{"OIDC_ISSUERS", err}
			}
			methods = append(methods, auth.NewOIDC(append(schedules, issuers...), auth.OIDCOptions{})...)
			schedules = nil
		case config.AuthAPIKey:
			methods = append(methods, auth.NewAPIKeys(keys, nil))
		case config.AuthNone:
			methods = append(methods, &auth.None{})
		}
	}
	return append(methods, auth.NewOIDC(schedules, auth.OIDCOptions{})...), nil
}

// authenticate makes the authenticator of AUTH's modes, and of the schedules' account
// where none of them recognizes it.
func (s *Server) authenticate(ctx context.Context, l *secrets) (*authenticator, error) {
	var schedules []access.Issuer
	if s.Config.SchedulesAccount != "" && !s.Config.HasAuth(config.AuthIAM) {
		url, err := s.serviceURL(ctx)
		if err != nil {
			return nil, err
		}
		schedules = []access.Issuer{auth.AccountIssuer(s.tokenIssuer(), s.Config.SchedulesAccount, url)}
	}
	methods, err := s.methods(l.apiKeys, schedules)
	if err != nil {
		return nil, err
	}
	return &authenticator{auth.New(methods...), auth.Challenge(methods...)}, nil
}

// An authenticator identifies callers, and has the challenge for those it cannot identify.
type authenticator struct {
	*auth.Authenticator
	challenge string
}
