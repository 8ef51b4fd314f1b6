package openapi

import (
	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/auth"
)

// secure says which credentials the service takes, into schemes, and what an
// operation that needs one asks for.
func (d *document) secure(schemes map[string]*huma.SecurityScheme) {
	add := func(name string, scheme huma.SecurityScheme) {
		schemes[name] = &scheme
		d.security = append(d.security, map[string][]string{name: {}})
	}
	for _, mode := range d.config.Auth {
		switch mode {
		case config.AuthIAM:
			add("iam", huma.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT",
				Description: "An ID token of a Google identity that may invoke the service, with the service's URL as audience. Cloud Run verifies it."})
			add("iamServerless", huma.SecurityScheme{Type: "apiKey", In: "header", Name: "X-Serverless-Authorization",
				Description: "The same, as `Bearer TOKEN`, where `Authorization` is the application's own."})
		case config.AuthOIDC:
			token, iap := d.issuers()
			if token {
				add("oidc", huma.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT",
					Description: "An ID token of an issuer that the service trusts, for its audience."})
			}
			if iap {
				add("iap", huma.SecurityScheme{Type: "apiKey", In: "header", Name: "X-Goog-IAP-JWT-Assertion",
					Description: "Set by Identity-Aware Proxy for who has signed in; clients do not send it."})
			}
		case config.AuthAPIKey:
			add("apiKey", huma.SecurityScheme{Type: "apiKey", In: "header", Name: "X-API-Key", Description: "A key that the service knows the hash of."})
		}
	}
	d.refuses = d.security != nil
	if d.config.HasAuth(config.AuthNone) && d.security != nil {
		d.security = append([]map[string][]string{{}}, d.security...)
	}
}

// issuers says whether tokens in Authorization, and IAP's, are taken.
func (d *document) issuers() (token, iap bool) {
	issuers, err := auth.ParseIssuers(d.config.OIDCIssuers, d.config.OIDCAudiences, !d.config.Production())
	if err != nil {
		return false, false // the configuration was refused: nobody can call
	}
	for _, issuer := range issuers {
		if issuer.URL == auth.IAPIssuer {
			iap = true
		} else {
			token = true
		}
	}
	return token, iap
}
