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

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/playground"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/version"
)

// serviceName is the service's name where Cloud Run sets none.
const serviceName = "gatehouse"

// readTelemetry reads OpenTelemetry's variables, and adds what is wrong with them
// to what reading the configuration returned.
func readTelemetry(lookup func(string) (string, bool), read error) (telemetry.Settings, error) {
	settings, err := telemetry.Parse(lookup)
	wrong, _ := errors.AsType[telemetry.Problems](err)
	all, ok := errors.AsType[config.Problems](read)
	if len(wrong) == 0 || read != nil && !ok {
		return settings, read
	}
	all = slices.Clone(all)
	for _, p := range wrong {
		all = append(all, config.Problem(p))
	}
	slices.SortStableFunc(all, func(a, b config.Problem) int { return cmp.Compare(a.Variable, b.Variable) })
	return settings, all
}

// source is this process in the log.
func (s *Server) source() telemetry.Source {
	labels := map[string]string{"environment": s.Config.Environment, "version": version.Version}
	return telemetry.Source{
		Service: cmp.Or(s.Config.Service, serviceName), Version: cmp.Or(s.Config.Revision, version.Version),
		Labels: labels, Trace: s.trace,
	}
}

func (s *Server) setProject(project string) { s.project.Store(&project) }

// trace is the trace that ctx belongs to, for the log: also while the service
// does not stand yet.
func (s *Server) trace(ctx context.Context) (telemetry.Trace, bool) {
	return telemetry.TraceIn(ctx, *s.project.Load())
}

// openTelemetry makes what traces, metrics and the audit go through.
func (s *Server) openTelemetry(ctx context.Context, p *parts, project string) error {
	if s.Config.Project == "" && s.Config.FirestoreEmulator != "" {
		project = "" // not the name that the emulator makes do with
	}
	s.setProject(project)
	var err error
	p.observer, err = telemetry.New(s.observe, telemetry.Config{
		Service: cmp.Or(s.Config.Service, serviceName), Version: version.Version, Project: project,
		Routes: s.patterns(), Codes: api.Codes(), Models: s.askable(),
		Tools: p.toolNames(), Provider: s.provider(), Log: s.Log, GoogleEndpoint: s.Config.TelemetryEndpoint,
	})
	if err != nil {
		return &fetchError{"OTEL_METRICS_EXPORTER", err}
	}
	log, err := audit.New(ctx, project, s.Config.AuditLog, s.Config.LoggingEndpoint, s.out)
	if err != nil {
		return &fetchError{"LOGGING_ENDPOINT", err}
	}
	p.audit = middleware.NewAudit(log, s.Config.AuditNames)
	p.closers = append(p.closers, func() { _ = p.audit.Close() })
	return nil
}

// patterns are all that the service serves. Telemetry needs them before any request: a
// label may only take values that are known, since a path that a caller makes up would be a
// time series of its making.
func (s *Server) patterns() []string {
	routes := playground.Add(s.document(slices.Concat(s.routes(nil), s.health.Routes(), s.health.ProbeRoutes(),
		[]api.Route{s.metrics(nil)}), nil), playground.Agent{})
	patterns := make([]string, 0, len(routes)+1)
	for _, route := range routes {
		patterns = append(patterns, route.Pattern())
	}
	return append(patterns, "preflight")
}

func (p *parts) toolNames() []string {
	var names []string
	for _, t := range p.agent.Tools {
		names = append(names, t.Name())
	}
	return names
}

// provider is who answers, as OpenTelemetry calls it
// (https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/).
func (s *Server) provider() string {
	if s.Config.Gemini.VertexAI {
		return "gcp.vertex_ai"
	}
	return "gcp.gemini"
}

// metrics returns GET /metrics, for operators: this instance's own figures.
func (s *Server) metrics(handler http.Handler) api.Route {
	return api.Route{
		Method: http.MethodGet, Path: "/metrics", Media: "text/plain", Summary: "Read this instance's metrics in Prometheus' format, for operators.",
		Doc: api.Doc{
			ID: "getMetrics", Tag: api.TagHealth,
			Answers: []api.DocAnswer{{
				Status: http.StatusOK, Description: "The metrics.",
				Content: map[string]any{"text/plain": "", "application/openmetrics-text": ""},
			}},
		},
		Handler: func(w http.ResponseWriter, r *http.Request) error {
			if !operator(r.Context()) {
				return &api.Error{Code: api.PermissionDenied}
			}
			handler.ServeHTTP(w, r)
			return nil
		},
	}
}

// A writer lets the lines of the log and of the audit out one after the other,
// each whole.
type writer struct {
	mu  sync.Mutex
	out io.Writer
}

// Write implements [io.Writer]. It is safe for concurrent use, which the Log of the options
// need not be.
func (w *writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(line)
}

// LogLibraries makes what libraries write through the standard logger, and what
// OpenTelemetry reports, lines of the log. Both are globals of the process: it is for a
// program that is this server, not for one that has it among others.
func (s *Server) LogLibraries() {
	slog.SetDefault(s.Log)
	telemetry.LogErrors(s.Log)
}
