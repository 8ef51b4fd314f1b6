package server

import (
	"context"
	"time"

	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/figures"
)

// The dependencies, as /health names them.
const (
	sessionStore  = "session_store"
	secretManager = "secret_manager"
	modelAPI      = "model"
)

// standing is a service with all of its parts, as [health.Service].
type standing struct {
	server *Server
	parts  *parts
}

// Dependencies implements [health.Service]. Without Secret Manager and the model the
// service is degraded: it goes on with the secrets it has, and answers all that asks no
// model. Without the session store no turn can be loaded or stored, so it is the one that
// is required.
func (s *standing) Dependencies() []health.Dependency {
	all := []health.Dependency{{Name: sessionStore, Required: true, Probe: s.parts.store.Ping}}
	if len(s.parts.secrets.named) > 0 {
		all = append(all, health.Dependency{Name: secretManager, Probe: s.parts.secrets.probe})
	}
	return append(all, health.Dependency{Name: modelAPI, Probe: s.parts.model.Check})
}

// Figures implements [health.Service].
func (s *standing) Figures(ctx context.Context) (*figures.Sum, error) {
	sum, err := s.parts.figures.Sum(ctx)
	if err != nil {
		return nil, err
	}
	return &sum, nil
}

// Warnings implements [health.Service]: of models that end soon, of a table of models that
// was rejected, and of issuers whose keys could not be fetched.
func (s *standing) Warnings(ctx context.Context) []string {
	warnings := s.server.endings.warnings(ctx, time.Now())
	if rejected := s.parts.secrets.rejected.Load(); rejected != nil {
		warnings = append(warnings, "MODELS_TABLE_SECRET: "+(*rejected).Error()+"; the table of "+s.server.tables.Table().Date.String()+" stays in use.")
	}
	return append(warnings, s.parts.authenticator.Troubles()...)
}

// Degraded implements [health.Service]: limits that the store does not count are enforced
// by each instance's share.
func (s *standing) Degraded() bool { return s.parts.limiter.Degraded() }
