package server

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/openapi"
	"example.com/gatehouse/internal/version"
)

// describe adds GET /, which says what the service is and what each of its
// routes is for.
func describe(routes []api.Route, about *openapi.AgentDescription) []api.Route {
	root := api.Route{Method: http.MethodGet, Path: "/", Public: true, Summary: "What the service is and what it answers: this."}
	all := append([]api.Route{root}, routes...)
	endpoints := make([]openapi.Endpoint, len(all))
	for i, r := range all {
		endpoints[i] = openapi.Endpoint{Method: r.Method, Path: r.Path, Description: r.Summary}
	}
	all[0].Handler = func(w http.ResponseWriter, r *http.Request) error {
		return api.WriteSuccess(w, r, "Gatehouse: an AI agent as a service",
			openapi.Description{Service: "gatehouse", Version: version.Version, Agent: about, Endpoints: endpoints})
	}
	return all
}

// document adds the description of routes, and of itself, for programs and
// people.
func (s *Server) document(routes []api.Route, p *parts) []api.Route {
	var about *openapi.AgentDescription
	if p != nil && p.agent.Name != "" {
		about = &openapi.AgentDescription{Name: p.agent.Name, Description: p.agent.Description, Examples: p.agent.Examples}
	}
	var all []api.Route
	all = describe(slices.Concat(routes, openapi.Routes(s.Config, about, func() []api.Route { return all })), about)
	return all
}

// deploymentStatus is what the agent's own tool tells of a report: what anybody
// who may ask the agent may know.
func deploymentStatus(r health.Report, store string) agent.Status {
	status := agent.Status{
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
	for _, name := range []string{sessionStore, secretManager, modelAPI} {
		if state, ok := r.Dependencies[name]; ok {
			status.Dependencies = append(status.Dependencies, agent.Dependency{
				Name: name, Status: state.Status, LatencyMS: state.LatencyMS, Error: state.Error,
			})
		}
	}
	return status
}
