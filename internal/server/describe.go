package server

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/openapi"
	"example.com/gatehouse/internal/playground"
	"example.com/gatehouse/internal/version"
	"example.com/gatehouse/invoke"
)

// describe adds GET /, which lists the routes and what each is for.
func (s *Server) describe(routes []api.Route, about *openapi.AgentDescription) []api.Route {
	const message = "Gatehouse: an AI agent as a service"
	answers := []api.DocAnswer{{
		Status: http.StatusOK, Description: "The service, and its routes.",
		Data: openapi.Description{},
	}}
	if s.Config.Playground {
		answers[0].Description += " The playground, where `Accept` prefers HTML."
		answers[0].Content = map[string]any{"text/html": ""}
		answers = append(answers, api.DocAnswer{Status: http.StatusNotModified, Name: "NotModified"})
	}
	root := api.Route{
		Method: http.MethodGet, Path: "/", Public: true, Summary: "Describe the service and its routes.",
		Doc: api.Doc{ID: "getDescription", Tag: api.TagAbout, Params: []string{"If-None-Match"}, Answers: answers},
	}
	all := append([]api.Route{root}, routes...)
	var endpoints []openapi.Endpoint
	for _, r := range all {
		if r.Doc.ID != "" {
			endpoints = append(endpoints, openapi.Endpoint{Method: r.Method, Path: r.Path, Description: r.Summary})
		}
	}
	all[0].Handler = func(w http.ResponseWriter, r *http.Request) error {
		return api.WriteSuccess(w, r, message,
			openapi.Description{Service: "gatehouse", Version: version.Version, Agent: about, Endpoints: endpoints})
	}
	return all
}

// document adds the routes that describe routes, and themselves, to programs and people.
// The document describes the routes that describe it, which exist only after this call: so
// it gets a function, and reads the list at its first request.
func (s *Server) document(routes []api.Route, p *parts) []api.Route {
	var about *openapi.AgentDescription
	if p != nil && p.agent.Name != "" {
		about = &openapi.AgentDescription{Name: p.agent.Name, Description: p.agent.Description, Examples: p.agent.Examples}
	}
	var all []api.Route
	all = s.describe(slices.Concat(routes, openapi.Routes(s.Config, about, func() []api.Route { return all })), about)
	return all
}

// shown is what the playground shows of the agent.
func (s *Server) shown(p *parts) playground.Agent {
	about := playground.Agent{Tools: []playground.Tool{}, FileTypes: []string{}, MaxQuery: invoke.MaxQuery}
	if p == nil {
		return about
	}
	about.Name, about.Model, about.Offline = p.agent.Name, s.ModelName(), s.Config.Offline()
	for _, t := range p.agent.Tools {
		about.Tools = append(about.Tools, playground.Tool{Name: t.Name(), Description: t.Description(), Effect: t.HasEffect(), Confirm: t.Asks()})
	}
	if s.Config.MaxFileBytes > 0 {
		about.FileTypes, about.MaxFileBytes, about.MaxFiles = s.Config.FileTypes, s.Config.MaxFileBytes, files.Max
	}
	return about
}

// deploymentStatus is what the agent's own tool returns of a report: what anybody
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
