// Package health reports the state of the service: to the platform's probes, to those
// who watch it, and to the agent's own tool. All of them see one [Report].
package health

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/rescue"
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

// What the share of errors makes of the status, in percent of what is judged. It
// is judged from so many requests on that one failure on a quiet night wakes
// nobody.
const (
	judgedFrom       = 10
	degradedPercent  = 5  // above it
	unhealthyPercent = 50 // above it
)

// A Dependency is something the service needs, and how to see whether it is there.
type Dependency struct {
	Name     string
	Required bool // without it the service is unhealthy, not just degraded
	Probe    func(context.Context) error
}

// A Service is what health asks of a service that is ready. Its methods are safe for
// concurrent use.
type Service interface {
	// Dependencies returns what is probed, the same ones each time.
	Dependencies() []Dependency

	// Figures returns the last five minutes of all instances; nil: they are not counted.
	// It is asked with the dependencies, as often as they are.
	Figures(context.Context) (*figures.Sum, error)

	// Warnings returns sentences for operators on what makes the service work less well
	// than it should, or will soon: with any it is degraded.
	Warnings(context.Context) []string

	// Degraded reports whether the service works less well than it should, beside what
	// its dependencies show.
	Degraded() bool
}

// A Config is what health reports on.
type Config struct {
	Service     string
	Revision    string
	Environment string
	Agent       func() string // the name of the agent in this process; "" where there is none
	Model       string
	Started     time.Time

	// Ready returns the service, or why it cannot answer: an [*api.Error], which is the
	// answer of the probe.
	Ready func(context.Context) (Service, error)

	// Details reports whether the caller may see more than the status.
	Details func(context.Context) bool

	Log *slog.Logger
	Now func() time.Time
}

// A Health answers the probes and GET /health. It is safe for concurrent use.
type Health struct {
	Config

	mu     sync.Mutex // held while probing: one prober at a time
	probed time.Time
	found  *findings // nil before the first probe
}

// findings are what a probe found, not to be changed: reports share them.
type findings struct {
	states  map[string]State
	sum     *figures.Sum // nil when it is not known
	unknown bool         // it should be known, and could not be read
}

// New makes a Health.
func New(c Config) *Health { return &Health{Config: c} }

// A Report is all that is known of how the service is.
type Report struct {
	Status        string `json:"status"`
	Service       string `json:"service,omitempty"`
	Version       string `json:"version,omitempty"`
	Revision      string `json:"revision,omitempty"`
	Environment   string `json:"environment,omitempty"`
	UptimeSeconds int64  `json:"uptime_seconds" required:"false"`
	Agent         *Agent `json:"agent,omitempty"`

	// Figures are nil, and their fields left out, when they are not known: 0 would
	// be a claim.
	*Figures

	Dependencies map[string]State `json:"dependencies,omitempty"`
	// Breakers are by model the worst state that an instance reports: "closed",
	// "half_open" or "open".
	Breakers map[string]string `json:"breakers,omitempty"`
	// Warnings are sentences on what an operator should do something about.
	Warnings []string `json:"warnings,omitempty"`
}

// Figures are what all instances answered in the last five minutes, probes and
// health not counted.
type Figures struct {
	// ErrorRate, from 0 to 1, is the share of errors among the requests that
	// measure the service. Those that were refused for what their caller
	// did, and those turned away on purpose, are not among them, so that callers
	// can neither raise nor hide it.
	ErrorRate    float64 `json:"error_rate" required:"false"`
	RequestCount int64   `json:"request_count" required:"false"`
	ErrorCount   int64   `json:"error_count" required:"false"`
}

// An Agent is what answers.
type Agent struct {
	// Name is left out while it is not known: the function "health" reads it from
	// what the instances that answer have counted.
	Name  string `json:"name,omitempty"`
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

// ProbeRoutes returns the platform's probes, which both functions serve.
func (h *Health) ProbeRoutes() []api.Route {
	return []api.Route{
		{Method: http.MethodGet, Path: "/health/live", Public: true, Probe: true, Handler: h.live, Summary: "Liveness probe: the process serves.",
			Doc: api.Doc{
				ID: "getLiveness", Tag: api.TagHealth,
				Answers: []api.DocAnswer{{Status: http.StatusOK, Description: "The process serves.", Data: Status{"live"}}},
			}},
		{Method: http.MethodGet, Path: "/health/ready", Public: true, Probe: true, Handler: h.ready, Summary: "Startup probe: the service is set up and can answer.",
			Doc: api.Doc{
				ID: "getReadiness", Tag: api.TagHealth, Errors: []api.Code{api.NotReady},
				Description: "Otherwise `details` names the variables at fault.",
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The service is ready.", Data: Status{"ready"}}},
			}},
	}
}

// Routes returns the routes of the function "health".
func (h *Health) Routes() []api.Route {
	return []api.Route{
		{Method: http.MethodGet, Path: "/health", Public: true, Uncounted: true, Handler: h.health, Summary: "State of the service; for operators, in detail.",
			Doc: api.Doc{
				ID: "getHealth", Tag: api.TagHealth, Errors: []api.Code{api.Unhealthy}, FailureData: Report{},
				Description: "All but `status` is for operators. The error `unhealthy` has the same data.",
				Answers: []api.DocAnswer{
					{Status: http.StatusOK, Description: "Healthy, or degraded.", Data: Report{}},
				},
			}},
	}
}

func (h *Health) live(w http.ResponseWriter, r *http.Request) error {
	return api.WriteSuccess(w, r, "The process serves", Status{Status: "live"})
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.Config.Ready(r.Context()); err != nil {
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
		Agent:         &Agent{Name: h.Agent(), Model: h.Model},
	}
	service, err := h.Config.Ready(ctx)
	if err != nil {
		report.Status = Unhealthy
		return report
	}
	dependencies := service.Dependencies()
	found := h.probe(ctx, service, dependencies)
	report.Dependencies = found.states
	for _, d := range dependencies {
		switch {
		case found.states[d.Name].Status == Healthy:
		case d.Required:
			report.worsen(Unhealthy)
		default:
			report.worsen(Degraded)
		}
	}
	if found.sum != nil {
		report.judge(*found.sum)
		report.Agent.Name = cmp.Or(report.Agent.Name, found.sum.Agent)
	}
	if _, err := h.Config.Ready(ctx); err != nil { // the probes may just have found out
		report.worsen(Unhealthy)
	}
	report.Warnings = service.Warnings(ctx)
	if len(report.Warnings) > 0 {
		report.worsen(Degraded)
	}
	if found.unknown || service.Degraded() {
		report.worsen(Degraded)
	}
	return report
}

// worsen makes the status the given one, unless it is worse already.
func (r *Report) worsen(status string) {
	if r.Status != Unhealthy {
		r.Status = status
	}
}

// judge takes what was counted into the report.
func (r *Report) judge(sum figures.Sum) {
	r.Figures = &Figures{ErrorRate: sum.ErrorRate(), RequestCount: sum.Requests, ErrorCount: sum.Errors}
	r.Breakers = sum.Breakers
	if sum.Judged >= judgedFrom {
		switch percent := 100 * sum.Errors; {
		case percent > unhealthyPercent*sum.Judged:
			r.worsen(Unhealthy)
		case percent > degradedPercent*sum.Judged:
			r.worsen(Degraded)
		}
	}
	if slices.Contains(slices.Collect(maps.Values(sum.Breakers)), breaker.Open.String()) {
		r.worsen(Degraded)
	}
}

// probe asks each dependency and for the figures, side by side, unless that was
// done a moment ago. It does not end with the request that caused it, whose
// result others share.
func (h *Health) probe(ctx context.Context, service Service, dependencies []Dependency) *findings {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.Now()
	if h.found != nil && now.Sub(h.probed) < probeLife {
		return h.found
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	found := &findings{states: make(map[string]State, len(dependencies))}
	results := make([]State, len(dependencies))
	var probes sync.WaitGroup
	for i, d := range dependencies {
		probes.Go(func() {
			begin := h.Now()
			state := State{Status: Healthy, CheckedAt: now.UTC()}
			if _, err := bounded(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, d.Probe(ctx) }); err != nil {
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
	probes.Go(func() {
		sum, err := bounded(ctx, service.Figures)
		if err != nil {
			found.unknown = true
			h.Log.WarnContext(ctx, "The service's figures could not be read; health reports none.", "error", err.Error())
			return
		}
		found.sum = sum
	})
	probes.Wait()
	for i, d := range dependencies {
		found.states[d.Name] = results[i]
	}
	h.found, h.probed = found, now
	return found
}

// bounded runs a probe until ctx ends, also one that does not look at ctx.
func bounded[T any](ctx context.Context, probe func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1) // with room: nobody may be waiting any more
	go func() {
		var r result
		r.err = rescue.Call(func() (err error) {
			r.value, err = probe(ctx)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
