package service

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/version"
)

// describe adds GET /, which says what the service is and what each of its
// routes is for.
func describe(routes []api.Route) []api.Route {
	type endpoint struct {
		Method  string `json:"method"`
		Path    string `json:"path"`
		Summary string `json:"description"`
	}
	root := api.Route{Method: http.MethodGet, Path: "/", Public: true, Summary: "What the service is and what it answers: this."}
	all := append([]api.Route{root}, routes...)
	endpoints := make([]endpoint, len(all))
	for i, r := range all {
		endpoints[i] = endpoint{r.Method, r.Path, r.Summary}
	}
	all[0].Handler = func(w http.ResponseWriter, r *http.Request) error {
		return api.WriteSuccess(w, r, "Gatehouse: an AI agent as a service", struct {
			Service   string     `json:"service"`
			Version   string     `json:"version"`
			Endpoints []endpoint `json:"endpoints"`
		}{"gatehouse", version.Version, endpoints})
	}
	return all
}

// deploymentStatus is what the agent's own tool tells of a report: what anybody
// who may ask the agent may know.
func deploymentStatus(r health.Report, store string) agent.DeploymentStatus {
	status := agent.DeploymentStatus{
		Status: r.Status, Environment: r.Environment, Service: r.Service, Version: r.Version, Revision: r.Revision,
		Uptime: (time.Duration(r.UptimeSeconds) * time.Second).String(), UptimeSeconds: r.UptimeSeconds,
		SessionStore: store, Model: r.Agent.Model, Dependencies: []agent.Dependency{},
	}
	if f := r.Figures; f != nil {
		status.Traffic = &agent.Traffic{ErrorRate: f.ErrorRate, RequestCount: f.RequestCount, ErrorCount: f.ErrorCount}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Breakers)) {
		status.Breakers = append(status.Breakers, agent.Breaker{Model: name, State: r.Breakers[name]})
	}
	for _, name := range []string{sessionStore, secretManager, theModel} {
		if state, ok := r.Dependencies[name]; ok {
			status.Dependencies = append(status.Dependencies, agent.Dependency{
				Name: name, Status: state.Status, LatencyMS: state.LatencyMS, Error: state.Error,
			})
		}
	}
	return status
}
