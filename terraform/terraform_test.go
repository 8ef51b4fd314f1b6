// Package terraform_test holds terraform/ against the rest of the repository:
// the variables that the code reads, the documents and queries that it has in
// Firestore, the run-book, and this directory's own README.
//
// What is planned comes from Terraform itself, by its tests with a mocked
// provider, so it is the plan and not the text that is compared.
package terraform_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"example.com/gatehouse/internal/terraformtest"
)

// The deployments that are planned, by name: what each sets beside project_id.
func deployments(t *testing.T) map[string]string {
	t.Helper()
	example := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "environments", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return map[string]string{
		"private":     "",
		"application": "web_access = \"application\"\nauth = [\"oidc\", \"api_key\"]\noidc_issuers = [{ issuer = \"https://issuer.example\", audience = \"a\" }]",
		"iap":         "web_access = \"iap\"\niap_members = [\"group:people@example.com\"]",
		"delivery":    "delivery = { repository = \"projects/p/locations/l/connections/c/repositories/r\" }",
		"small":       example("small.tfvars"),
		"serious":     "region = \"europe-west1\"\n" + example("serious.tfvars"),
		"everything set": `
			model_backend = "gemini"
			model_fallbacks = ["gemini-3.1-flash-lite"]
			operators = ["a"]
			otel = { OTEL_TRACES_EXPORTER = "none" }
			allowed_origins_from_secret = true
			models_table_from_secret = true
			thinking_level = "medium"`,
		"origins in plain": `allowed_origins = ["https://app.example.com"]`,
	}
}

var planned struct {
	sync.Once
	plans map[string][]terraformtest.Change
	fail  string
	skip  string
}

// plans are what Terraform plans for each of the deployments.
func plans(t *testing.T) map[string][]terraformtest.Change {
	t.Helper()
	planned.Do(func() { planned.plans, planned.skip, planned.fail = terraformtest.Plan(t, "..", deployments(t)) })
	if planned.skip != "" && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: what terraform/ plans. " + planned.skip)
	}
	if planned.skip+planned.fail != "" {
		t.Fatal(planned.skip + planned.fail)
	}
	return planned.plans
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
