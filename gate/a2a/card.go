package a2a

import (
	"cmp"
	"net/http"

	"github.com/a2aproject/a2a-go/v2/a2asrv"

	"example.com/gatehouse/internal/agentcard"
	"example.com/gatehouse/internal/api"
)

// describe handles GET /.well-known/agent-card.json.
func (d *door) describe(w http.ResponseWriter, r *http.Request) error {
	if d.Invoke == nil {
		return api.Fail(api.NotReady, nil)
	}
	base := cmp.Or(d.Config.CardURL, d.Config.ServiceURL)
	if base == "" { // of who asks: such a card is never signed
		base = d.BaseURL(r)
	}
	if base == "" {
		return api.Malformed("Host", "must be a host")
	}
	keys := d.CardKeys()
	file, err := d.card.Get(base+keys.ID(), func() ([]byte, error) {
		return agentcard.Encode(r.Context(), agentcard.New(d.Room, base, path, d.pushes()), keys, d.Config.CardKeysURL)
	})
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	return file.Serve(w, r)
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
