package openapi

import (
	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/access"
)

// secure describes the credentials that the service accepts. Each mode is an alternative,
// in AUTH's order. With none among them, a request without a credential is an alternative
// too.
func (d *document) secure() {
	add := func(name string, scheme huma.SecurityScheme) {
		d.schemes[name] = &scheme
		d.security = append(d.security, map[string][]string{name: {}})
	}
	for _, mode := range d.config.Auth {
		switch mode {
		case config.AuthIAM:
			add("iam", huma.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT",
				Description: "An ID token of a Google identity that may invoke the service, with the service's URL as audience. Cloud Run verifies it."})
			add("iamServerless", huma.SecurityScheme{Type: "apiKey", In: "header", Name: "X-Serverless-Authorization",
				Description: "The same, as `Bearer TOKEN`, where the application uses `Authorization` itself."})
		case config.AuthOIDC:
			token, iap := d.issuers()
			if token {
				add("oidc", huma.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT",
					Description: "An ID token of an issuer that the service trusts, for its audience."})
			}
			if iap {
				add("iap", huma.SecurityScheme{Type: "apiKey", In: "header", Name: "X-Goog-IAP-JWT-Assertion",
					Description: "Set by Identity-Aware Proxy for the signed-in user; clients do not send it."})
			}
		case config.AuthAPIKey:
			add("apiKey", huma.SecurityScheme{Type: "apiKey", In: "header", Name: "X-API-Key", Description: "One of the service's API keys."})
		}
	}
	if d.config.HasAuth(config.AuthNone) && d.security != nil {
		d.security = append([]map[string][]string{{}}, d.security...)
	}
}

// issuers reports whether tokens in Authorization, and IAP's, are accepted.
func (d *document) issuers() (token, iap bool) {
	issuers, err := access.ParseIssuers(d.config.OIDCIssuers, d.config.OIDCAudiences, !d.config.Production())
	if err != nil {
		return false, false // the configuration was refused: nobody can call
	}
	for _, issuer := range issuers {
		if issuer.URL == access.IAPIssuer {
			iap = true
		} else {
			token = true
		}
	}
	return token, iap
}
