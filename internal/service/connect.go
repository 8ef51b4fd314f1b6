package service

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/config"
	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/gcp/firesession"
	"example.com/gatehouse/internal/gcp/gcpsecret"
	"example.com/gatehouse/internal/loopback"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// The dependencies, as /health names them.
const (
	sessionStore  = "session_store"
	secretManager = "secret_manager"
	theModel      = "model"
)

// parts are what a service that stands is made of.
type parts struct {
	handlers
	invoke        *invoke.Service
	authenticator *auth.Authenticator
	store         session.Store
	model         *model.Client
	closers       []func()
}

func (p *parts) close() {
	for _, c := range p.closers {
		c()
	}
}

// dependencies are what health probes.
func (p *parts) dependencies() []health.Dependency {
	return []health.Dependency{
		{Name: sessionStore, Required: true, Probe: p.store.Ping},
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

// secrets are the values fetched from Secret Manager, "" where none is named.
type secrets struct {
	geminiKey, origins, apiKeys string
}

// connect builds what the configuration asks for: the secrets and the store's
// connection side by side, and then what needs them.
func (s *Service) connect(ctx context.Context) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	project, err := s.project(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.openStore(ctx, p, project); err != nil {
		return nil, err
	}
	var fetched secrets
	var group errgroup.Group
	group.Go(func() error {
		var err error
		fetched, err = s.fetchSecrets(ctx)
		return err
	})
	if s.Config.SessionStore == config.StoreFirestore {
		// The channel would connect with the first turn, and make it wait. A
		// store that is away now is told by that turn, not by the start.
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
	if err := s.authenticate(p, fetched); err != nil {
		return nil, err
	}
	if err := s.openModel(ctx, p, project, fetched); err != nil {
		return nil, err
	}
	p.invoke = invoke.New(invoke.Config{
		Agent: s.newAgent(), Model: p.model, ModelName: s.ModelName(), Store: p.store,
		Timeout: s.Config.RequestTimeout, MaxBodyBytes: s.Config.MaxBodyBytes, MaxOutputTokens: s.Config.MaxOutputTokens,
		HistoryTokens: s.Config.HistoryTokens, MaxToolRounds: s.Config.MaxToolRounds,
		Log: s.Log, Now: time.Now,
	})
	return p, nil
}

// project is the Google Cloud project, where anything needs one.
func (s *Service) project(ctx context.Context) (string, error) {
	needed := s.Config.SessionStore == config.StoreFirestore || s.Config.Gemini.VertexAI
	switch {
	case s.Config.Project != "" || !needed:
		return s.Config.Project, nil
	case s.Config.FirestoreEmulator != "" && !s.Config.Gemini.VertexAI:
		return "local", nil // any name does for the emulator
	}
	project, err := metadata.ProjectIDWithContext(ctx)
	if err != nil {
		return "", &fetchError{"GOOGLE_CLOUD_PROJECT", fmt.Errorf("not set, and the metadata server did not tell: %w", err)}
	}
	return project, nil
}

func (s *Service) openStore(ctx context.Context, p *parts, project string) error {
	if s.Config.SessionStore == config.StoreMemory {
		p.store = session.NewMemory(s.Config.SessionTTL, session.MemoryLimit, time.Now, s.Log)
		return nil
	}
	client, err := firesession.Connect(context.WithoutCancel(ctx), project, s.Config.FirestoreDatabase, s.Config.FirestoreEmulator)
	if err != nil {
		return &fetchError{"FIRESTORE_DATABASE", fmt.Errorf("making Firestore's client: %w", err)}
	}
	p.closers = append(p.closers, func() { _ = client.Close() })
	p.store = firesession.New(client, s.Config.SessionTTL, time.Now)
	return nil
}

func (s *Service) openModel(ctx context.Context, p *parts, project string, fetched secrets) error {
	g := s.Config.Gemini
	c := model.Config{
		APIKey: g.APIKey.Reveal(), VertexAI: g.VertexAI, Project: project, Location: g.Location,
		BaseURL: g.BaseURL, Loopback: loopback.URL(g.BaseURL),
	}
	if g.APIKeySecret != "" {
		c.APIKey = strings.TrimSpace(fetched.geminiKey)
	}
	if s.Config.Offline() {
		c.APIKey, c.Transport = offline.Model, offline.New()
	}
	client, err := model.New(context.WithoutCancel(ctx), c)
	if err != nil {
		return &fetchError{"MODEL", err}
	}
	p.model = client
	p.closers = append(p.closers, client.Close)
	return nil
}

// fetchSecrets fetches the secrets that are named, side by side.
func (s *Service) fetchSecrets(ctx context.Context) (secrets, error) {
	var fetched secrets
	wanted := []struct {
		variable, name string
		value          *string
	}{
		{"GEMINI_API_KEY_SECRET", s.Config.Gemini.APIKeySecret, &fetched.geminiKey},
		{"ALLOWED_ORIGINS_SECRET", s.Config.AllowedOriginsSecret, &fetched.origins},
		{"API_KEYS_SECRET", s.Config.APIKeysSecret, &fetched.apiKeys},
	}
	named := false
	for _, w := range wanted {
		named = named || w.name != ""
	}
	if !named {
		return fetched, nil
	}
	client, err := gcpsecret.New(ctx, s.Config.SecretManager)
	if err != nil {
		return secrets{}, &fetchError{"SECRET_MANAGER_ENDPOINT", err}
	}
	defer func() { _ = client.Close() }()
	var group errgroup.Group
	for _, w := range wanted {
		if w.name == "" {
			continue
		}
		group.Go(func() error {
			payload, err := client.Access(ctx, w.name)
			if err != nil {
				return &fetchError{w.variable, err}
			}
			*w.value = string(payload)
			return nil
		})
	}
	return fetched, group.Wait()
}

// methods are those of AUTH, for what they are rather than for what they know.
func (s *Service) methods() []auth.Method {
	var methods []auth.Method
	for _, mode := range s.Config.Auth {
		switch mode {
		case config.AuthIAM:
			methods = append(methods, auth.NewIAM(nil))
		case config.AuthNone:
			methods = append(methods, &auth.None{})
		}
	}
	return methods
}

// authenticate makes the authenticator of AUTH's modes.
func (s *Service) authenticate(p *parts, fetched secrets) error {
	methods := s.methods()
	for _, mode := range s.Config.Auth {
		switch mode {
		case config.AuthAPIKey:
			text := s.Config.APIKeys.Reveal()
			if s.Config.APIKeysSecret != "" {
				text = fetched.apiKeys
			}
			set, err := auth.ParseKeys([]byte(text))
			if err != nil {
				return &fetchError{"API_KEYS_SECRET", err}
			}
			var keys atomic.Pointer[auth.KeySet]
			keys.Store(set)
			methods = append(methods, auth.NewAPIKeys(keys.Load, nil))
		case config.AuthOIDC:
			issuers, err := auth.ParseIssuers(s.Config.OIDCIssuers, s.Config.OIDCAudiences, !s.Config.Production())
			if err != nil {
				return &fetchError{"OIDC_ISSUERS", err}
			}
			methods = append(methods, auth.NewOIDC(issuers, auth.OIDCOptions{})...)
		}
	}
	p.authenticator = auth.New(methods...)
	return nil
}
