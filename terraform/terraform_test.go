// Package terraform_test holds terraform/ against the rest of the repository:
// the variables that the code reads, the documents and queries that it has in
// Firestore, the run-book, and this directory's own README.
//
// What is planned comes from Terraform itself, by its tests with a mocked
// provider, so it is the plan and not the text that is compared.
package terraform_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	all := map[string]string{
		"private":     "",
		"application": "web_access = \"application\"\nauth = [\"oidc\", \"api_key\"]\noidc_issuers = [{ issuer = \"https://issuer.example\", audience = \"a\" }]",
		"iap":         "web_access = \"iap\"\niap_members = [\"group:people@example.com\"]",
		"delivery":    "delivery = { repository = \"projects/p/locations/l/connections/c/repositories/r\" }",
		"small":       example("small.tfvars"),
		"serious":     example("serious.tfvars"),
		"everything set": `
			model_backend = "gemini"
			model_url     = "https://models.example.com"
			model_fallbacks = ["gemini-3.1-flash-lite"]
			operators = ["key:a"]
			otel = { OTEL_TRACES_EXPORTER = "none" }
			allowed_origins_from_secret = true
			models_table_from_secret = true
			models_allowed = ["gemini-3.8-flash"]
			thinking_level = "medium"
			files = { keep = true, types = [], read_buckets = ["papers"] }`,
		"model armor": `
			model_armor = {
			  prompt_template   = "projects/p/locations/us/templates/in"
			  response_template = "projects/p/locations/us/templates/out"
			}`,
		"doors": `doors = { open = ["openai"], sign_card = true, card_keys_url = "https://keys.example.com/jwks.json", conversation_headers = ["X-Conversation-Id"] }`,
		"background": `
			webhook_hosts = ["hooks.example.com"]
			schedules = { digest = { cron = "0 7 * * 1-5", query = "What changed?", end_user = "ada", webhook = "https://hooks.example.com/digest" } }`,
		"another prefix": `
			prefix = "other"
			web_access = "application"
			auth = ["api_key"]
			delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", smoke_key_secret = "smoke-key" }
			load_balancer = { domain = "other.example.com" }
			agent_secrets = { RATES_KEY = { version = "1" } }
			alert_emails = ["ops@example.com"]`,
		"the usual prefix": `
			web_access = "application"
			auth = ["api_key"]
			delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", smoke_key_secret = "smoke-key" }
			load_balancer = { domain = "agent.example.com" }
			agent_secrets = { RATES_KEY = { version = "1" }, OTHER_RATES_KEY = {} }
			alert_emails = ["ops@example.com"]`,
		"origins in plain": `allowed_origins = ["https://app.example.com"]`,
	}
	// Settings in the documents.
	for _, page := range []string{"README.md", "../docs/your-agent.md", "../docs/deploy.md", "../docs/background.md"} {
		source, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range regexp.MustCompile("(?ms)^```hcl\n(.*?)^```").FindAllSubmatch(source, -1) {
			settings := string(block[1])
			if strings.Contains(settings, "module \"") {
				continue // a root
			}
			if strings.Contains(settings, "smoke_key_secret") {
				settings += "web_access = \"application\"\nauth = [\"api_key\"]\n"
			}
			all[fmt.Sprintf("%s %d", strings.TrimSuffix(filepath.Base(page), ".md"), i+1)] = settings
		}
	}
	return all
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
