package a2a

import (
	"net/http"
	"strings"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"github.com/a2aproject/a2a-go/v2/a2asrv"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/agentcard"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/version"
)

// describe handles GET /.well-known/agent-card.json.
func (d *door) describe(w http.ResponseWriter, r *http.Request) error {
	if d.Invoke == nil {
		return api.Fail(api.NotReady, nil)
	}
	base := d.Config.ServiceURL
	if base == "" {
		base = d.BaseURL(r)
	}
	if base == "" {
		return api.Malformed("Host", "must be a host")
	}
	keys := d.CardKeys()
	file, err := d.card.Get(base+keys.ID(), func() ([]byte, error) {
		return agentcard.Encode(r.Context(), d.newCard(base), keys, d.Config.CardKeysURL)
	})
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	return file.Serve(w, r)
}

// newCard returns the agent's card: what is public of it at GET / too, and its tools.
func (d *door) newCard(base string) *a2a.AgentCard {
	text, form := "text/plain", "application/json"
	in, out := []string{text, form}, []string{text}
	if files := d.Invoke.Files; files.MaxBytes > 0 {
		in = append(in, files.Types...)
	}
	if d.Agent.Output != nil {
		out = append(out, form)
	}
	description := d.Agent.Description
	if description == "" {
		description = "The agent " + d.Agent.Name + "."
	}
	skills := []a2a.AgentSkill{{ID: d.Agent.Name, Name: d.Agent.Name, Description: description, Examples: d.Agent.Examples, Tags: []string{"agent"}}}
	for _, t := range d.Agent.Tools {
		if t.GeminiTool() == nil {
			skills = append(skills, a2a.AgentSkill{ID: t.Name(), Name: t.Name(), Description: t.Description(), Tags: []string{"tool"}})
		}
	}
	schemes, requirements := d.security()
	return &a2a.AgentCard{
		Name: d.Agent.Name, Description: description, Version: version.Version, DocumentationURL: base + "/docs",
		SupportedInterfaces: []*a2a.AgentInterface{
			{URL: base + path, ProtocolBinding: a2a.TransportProtocolJSONRPC, ProtocolVersion: a2a.Version},
			{URL: base + path, ProtocolBinding: a2a.TransportProtocolJSONRPC, ProtocolVersion: a2av0.Version},
		},
		Capabilities:      a2a.AgentCapabilities{Streaming: true, PushNotifications: d.pushes()},
		DefaultInputModes: in, DefaultOutputModes: out,
		Skills: skills, SecuritySchemes: schemes, SecurityRequirements: requirements,
	}
}

// security describes the credentials that AUTH accepts, each sufficient alone.
func (d *door) security() (a2a.NamedSecuritySchemes, a2a.SecurityRequirementsOptions) {
	schemes, requirements := a2a.NamedSecuritySchemes{}, a2a.SecurityRequirementsOptions{}
	add := func(name a2a.SecuritySchemeName, scheme a2a.SecurityScheme) {
		schemes[name] = scheme
		requirements = append(requirements, a2a.SecurityRequirements{name: {}})
	}
	if d.Config.HasAuth(config.AuthNone) {
		return nil, nil
	}
	for _, issuer := range d.Issuers() {
		name := strings.TrimPrefix(strings.TrimPrefix(issuer, "https://"), "http://")
		add(a2a.SecuritySchemeName(name), a2a.OpenIDConnectSecurityScheme{
			OpenIDConnectURL: strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration",
			Description:      "An ID token of this issuer in Authorization.",
		})
	}
	if d.Config.HasAuth(config.AuthAPIKey) {
		add("apiKey", a2a.APIKeySecurityScheme{Location: a2a.APIKeySecuritySchemeLocationHeader, Name: "X-API-Key", Description: "One of the service's API keys."})
	}
	return schemes, requirements
}

func (d *door) cardRoute() api.Route {
	return api.Route{
		Method: http.MethodGet, Path: a2asrv.WellKnownAgentCardPath, Summary: "The agent's card for A2A.", Media: "application/json", Probe: true, Handler: d.describe,
		Doc: api.Doc{
			ID: "a2aCard", Tag: api.TagAbout, Description: "As A2A has it, for clients of 1.0 and of 0.3.",
			Answers: []api.DocAnswer{
				{Status: http.StatusOK, Description: "The card.", Content: map[string]any{"application/json": map[string]any{}}},
				{Status: http.StatusNotModified, Description: "The copy still holds."},
			},
			Errors: []api.Code{api.MalformedRequest},
		},
	}
}
