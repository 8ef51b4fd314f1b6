// Package agentcard describes an agent by A2A's card, writes that as JSON for clients of 1.0
// and of 0.3 at once, and signs it.
package agentcard

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"github.com/a2aproject/a2a-go/v2/a2asrv"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/jws"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/version"
)

// New returns the agent's card: what is public of it at GET / too, and its tools. The agent is
// called at path of the address base, and pushes if that is set.
func New(room server.Room, base, path string, pushes bool) *a2a.AgentCard {
	text, form := "text/plain", "application/json"
	in, out := []string{text, form}, []string{text}
	if files := room.Invoke.Files; files.MaxBytes > 0 {
		in = append(in, files.Types...)
	}
	if room.Agent.Output != nil {
		out = append(out, form)
	}
	description := room.Agent.Description
	if description == "" {
		description = "The agent " + room.Agent.Name + "."
	}
	skills := []a2a.AgentSkill{{ID: room.Agent.Name, Name: room.Agent.Name, Description: description, Examples: room.Agent.Examples, Tags: []string{"agent"}}}
	for _, t := range room.Agent.Tools {
		if t.GeminiTool() == nil {
			skills = append(skills, a2a.AgentSkill{ID: t.Name(), Name: t.Name(), Description: t.Description(), Tags: []string{"tool"}})
		}
	}
	schemes, requirements := security(room)
	return &a2a.AgentCard{
		Name: room.Agent.Name, Description: description, Version: version.Version, DocumentationURL: base + "/docs",
		SupportedInterfaces: []*a2a.AgentInterface{
			{URL: base + path, ProtocolBinding: a2a.TransportProtocolJSONRPC, ProtocolVersion: a2a.Version},
			{URL: base + path, ProtocolBinding: a2a.TransportProtocolJSONRPC, ProtocolVersion: a2av0.Version},
		},
		Capabilities:      a2a.AgentCapabilities{Streaming: true, PushNotifications: pushes},
		DefaultInputModes: in, DefaultOutputModes: out,
		Skills: skills, SecuritySchemes: schemes, SecurityRequirements: requirements,
	}
}

// security describes the credentials that AUTH accepts, any of which is enough.
func security(room server.Room) (a2a.NamedSecuritySchemes, a2a.SecurityRequirementsOptions) {
	schemes, requirements := a2a.NamedSecuritySchemes{}, a2a.SecurityRequirementsOptions{}
	add := func(name a2a.SecuritySchemeName, scheme a2a.SecurityScheme) {
		schemes[name] = scheme
		requirements = append(requirements, a2a.SecurityRequirements{name: {}})
	}
	if room.Config.HasAuth(config.AuthNone) {
		return nil, nil
	}
	for _, issuer := range room.Issuers() {
		name := strings.TrimPrefix(strings.TrimPrefix(issuer, "https://"), "http://")
		add(a2a.SecuritySchemeName(name), a2a.OpenIDConnectSecurityScheme{
			OpenIDConnectURL: strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration",
			Description:      "An ID token of this issuer in Authorization.",
		})
	}
	if room.Config.HasAuth(config.AuthAPIKey) {
		add("apiKey", a2a.APIKeySecurityScheme{Location: a2a.APIKeySecuritySchemeLocationHeader, Name: "X-API-Key", Description: "One of the service's API keys."})
	}
	return schemes, requirements
}

// Encode returns the card with the signatures of keys, whose public halves are at url; ""
// leaves the place out.
//
// A card has one document and two readings. A client of 1.0 verifies what its SDK read of
// the document, and the SDKs leave out what is empty; a client without such a model
// verifies the document. So each key signs both, and who verifies needs one of them (A2A
// 1.0, 8.4.3).
func Encode(ctx context.Context, c *a2a.AgentCard, keys *jws.Keys, url string) ([]byte, error) {
	document, err := union(ctx, c)
	if err != nil || keys.Len() == 0 {
		encoded, _ := json.Marshal(document) // of JSON
		return encoded, err
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var current map[string]any
	if err := json.Unmarshal(encoded, &current); err != nil {
		return nil, err
	}
	var signatures []jws.Signature
	for _, reading := range []any{withoutEmpty(current), document} {
		encoded, err := json.Marshal(reading)
		if err != nil {
			return nil, err
		}
		more, err := keys.Sign(encoded, url)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, more...)
	}
	document["signatures"] = signatures
	return json.Marshal(document)
}

// union returns a card that clients of both versions can read. The SDK's union of the forms
// lacks that of 1.0 for security schemes, where its own client of 1.0 fails.
func union(ctx context.Context, c *a2a.AgentCard) (map[string]any, error) {
	producer, ok := a2av0.NewStaticAgentCardProducer(c).(a2asrv.AgentCardJSONProducer)
	if !ok {
		return nil, errors.New("the SDK has no card for both versions")
	}
	encoded, err := producer.CardJSON(ctx)
	if err != nil {
		return nil, err
	}
	schemes, err := json.Marshal(c.SecuritySchemes)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	current := map[string]map[string]any{}
	if err := errors.Join(json.Unmarshal(encoded, &document), json.Unmarshal(schemes, &current)); err != nil {
		return nil, err
	}
	old, _ := document["securitySchemes"].(map[string]any)
	for name, scheme := range current {
		if form, ok := old[name].(map[string]any); ok {
			maps.Copy(form, scheme)
			delete(form, "apiKey")
			delete(form, "openIdConnect")
		}
	}
	return document, nil
}

// withoutEmpty returns a value of JSON without empty texts, lists and objects, nil if
// nothing is left.
func withoutEmpty(value any) any {
	switch v := value.(type) {
	case string:
		if v == "" {
			return nil
		}
	case []any:
		var kept []any
		for _, item := range v {
			if item = withoutEmpty(item); item != nil {
				kept = append(kept, item)
			}
		}
		if kept == nil {
			return nil
		}
		return kept
	case map[string]any:
		kept := map[string]any{}
		for name, item := range v {
			if item = withoutEmpty(item); item != nil {
				kept[name] = item
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	}
	return value
}
