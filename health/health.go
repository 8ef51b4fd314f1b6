// Package health says how the service is: to the platform's probes, to those
// who watch it, and to the agent's own tool. All of them see one [Report].
package health

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/version"
)

// The states of the service and of each dependency.
const (
	Healthy   = "healthy"
	Degraded  = "degraded"
	Unhealthy = "unhealthy"
)

const (
	// probeTimeout bounds each probe of a dependency.
	probeTimeout = 2 * time.Second
	// probeLife is how long a probe's result is kept, so that a storm of pings
	// costs one probe.
	probeLife = 10 * time.Second
)

// A Dependency is something the service needs, and how to see whether it is there.
type Dependency struct {
	Name     string
	Required bool // without it the service is unhealthy, not just degraded
	Probe    func(context.Context) error
}

// A Config is what health reports on.
type Config struct {
	Service     string
	Revision    string
	Environment string
	Agent       string
	Model       string
	Started     time.Time

	// Problem says why the service is not ready to answer, nil when it is.
	Problem func() error

	// Dependencies are those of a service that is ready.
	Dependencies func() []Dependency

	// Degraded reports whether a service that is ready works less well than it
	// should, beside what its dependencies show.
	Degraded func() bool

	// Details reports whether the caller may see more than the status.
	Details func(context.Context) bool

	Now func() time.Time
}

// A Health answers the probes and GET /health. It is safe for concurrent use.
type Health struct {
	Config

	mu     sync.Mutex // held while probing: one prober at a time
	probed time.Time
	states map[string]State
}

// New makes a Health.
func New(c Config) *Health { return &Health{Config: c} }

// A Report is all that is known of how the service is.
type Report struct {
	Status        string           `json:"status"`
	Service       string           `json:"service,omitempty"`
	Version       string           `json:"version,omitempty"`
	Revision      string           `json:"revision,omitempty"`
	Environment   string           `json:"environment,omitempty"`
	UptimeSeconds int64            `json:"uptime_seconds"`
	Agent         *Agent           `json:"agent,omitempty"`
	Dependencies  map[string]State `json:"dependencies,omitempty"`
}

// An Agent is what answers.
type Agent struct {
	Name  string `json:"name"`
	Model string `json:"model"`
}

// A State is what the last probe of a dependency found.
type State struct {
	Status    string    `json:"status"`
	LatencyMS int64     `json:"latency_ms"`
	CheckedAt time.Time `json:"checked_at"`
	Error     string    `json:"error,omitempty"`
}

// Status is what everybody may see.
type Status struct {
	Status string `json:"status"`
}

// ProbeRoutes are the platform's probes, which both functions serve.
func (h *Health) ProbeRoutes() []api.Route {
	return []api.Route{
		{Method: http.MethodGet, Path: "/health/live", Public: true, Probe: true, Handler: h.live, Summary: "Whether the process serves: the liveness probe."},
		{Method: http.MethodGet, Path: "/health/ready", Public: true, Probe: true, Handler: h.ready, Summary: "Whether the service is set up and can answer: the startup probe."},
	}
}

// Routes are the routes of the function "health".
func (h *Health) Routes() []api.Route {
	return []api.Route{
		{Method: http.MethodGet, Path: "/health", Public: true, Handler: h.health, Summary: "How the service is; with a credential, in detail."},
	}
}

func (h *Health) live(w http.ResponseWriter, r *http.Request) error {
	return api.WriteSuccess(w, r, "The process serves", Status{Status: "live"})
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) error {
	if err := h.Problem(); err != nil {
		return err
	}
	return api.WriteSuccess(w, r, "The service is ready", Status{Status: "ready"})
}

func (h *Health) health(w http.ResponseWriter, r *http.Request) error {
	report := h.Report(r.Context())
	var data any = Status{Status: report.Status}
	if h.Details(r.Context()) {
		data = report
	}
	if report.Status == Unhealthy {
		return api.WriteErrorData(w, r, api.Fail(api.Unhealthy, nil), data)
	}
	return api.WriteSuccess(w, r, "The service is "+report.Status, data)
}

// Report finds out how the service is.
func (h *Health) Report(ctx context.Context) Report {
	report := Report{
		Status: Healthy, Service: h.Service, Version: version.Version, Revision: h.Revision, Environment: h.Environment,
		UptimeSeconds: int64(h.Now().Sub(h.Started).Seconds()),
		Agent:         &Agent{Name: h.Agent, Model: h.Model},
	}
	if h.Problem() != nil {
		report.Status = Unhealthy
		return report
	}
	dependencies := h.Dependencies()
	report.Dependencies = h.probe(ctx, dependencies)
	for _, d := range dependencies {
		switch {
		case report.Dependencies[d.Name].Status == Healthy:
		case d.Required:
			report.Status = Unhealthy
		case report.Status == Healthy:
			report.Status = Degraded
		}
	}
	if report.Status == Healthy && h.Config.Degraded != nil && h.Config.Degraded() {
		report.Status = Degraded
	}
	return report
}

// probe asks each dependency, side by side, unless that was done a moment ago.
// It does not end with the request that caused it, whose result others share.
func (h *Health) probe(ctx context.Context, dependencies []Dependency) map[string]State {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.Now()
	if h.states != nil && now.Sub(h.probed) < probeLife {
		return h.states
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	results := make([]State, len(dependencies))
	var probes sync.WaitGroup
	for i, d := range dependencies {
		probes.Go(func() {
			begin := h.Now()
			state := State{Status: Healthy, CheckedAt: now.UTC()}
			if err := bounded(ctx, d.Probe); err != nil {
				// In our own words: an upstream's text is not for callers.
				state.Status, state.Error = Unhealthy, "does not answer as it should"
				if ctx.Err() != nil {
					state.Error = "did not answer in time"
				}
			}
			state.LatencyMS = h.Now().Sub(begin).Milliseconds()
			results[i] = state
		})
	}
	probes.Wait()
	states := make(map[string]State, len(dependencies))
	for i, d := range dependencies {
		states[d.Name] = results[i]
	}
	h.states, h.probed = states, now
	return states
}

// bounded runs a probe until ctx ends, also one that does not look at ctx.
func bounded(ctx context.Context, probe func(context.Context) error) error {
	done := make(chan error, 1) // with room: nobody may be waiting any more
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("the probe panicked: %v", p)
			}
		}()
		done <- probe(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
