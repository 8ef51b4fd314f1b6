package terraform_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/terraformtest"
)

// Input that a plan refuses: what is wrong with it, the variables (separated by a
// semicolon), and the refusal's text.
var refused = []struct{ name, variables, words string }{
	// Where
	{"no project name", `project_id = "My Project"`, "project_id is not a project's ID"},
	{"project number", `project_id = "123456789012"`, "project_id is not a project's ID"},
	{"unknown region", `region = "europe-west99"`, "region is not one that has Cloud Run"},
	{"a zone", `region = "europe-west1-b"`, "region is not one that has Cloud Run"},
	{"unknown firestore location", `firestore_location = "moon"`, "firestore_location is neither the region itself nor the multi-region of its continent"},
	{"firestore across the ocean", `region = "europe-west1"; firestore_location = "nam5"`, "firestore_location is neither the region itself nor the multi-region of its continent"},
	{"database with capitals", `firestore_database = "Sessions"`, "firestore_database is neither"},
	{"second region alone", `second_region = "us-east1"`, "second_region is reached only by the load balancer"},
	{"second region is the first", `second_region = "us-central1"; load_balancer = { domain = "a.example.com" }`, "second_region is the region itself"},
	{"unknown second region", `second_region = "x"; load_balancer = { domain = "a.example.com" }`, "second_region is not one that has Cloud Run"},
	{"label with capitals", `labels = { Team = "a" }`, "labels hold one that Google Cloud refuses"},
	{"the label by which services are known", `labels = { app = "a" }`, "labels hold app, which is the prefix"},
	{"development deployed", `environment = "development"`, "environment is not a lower-case word such as production or staging"},

	// What
	{"image latest", `image = "us-central1-docker.pkg.dev/my-project/r/n:latest"`, "image names no digest, NAME@sha256"},
	{"image by a tag", `image = "us-central1-docker.pkg.dev/my-project/r/n:0123456789ab"`, "image names no digest, NAME@sha256"},
	{"image elsewhere", `image = "docker.io/library/n@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`, "image is not in Artifact Registry"},
	{"image of another project", `image = "us-central1-docker.pkg.dev/other-project/r/n@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`, "image is in the registry of a project that is neither project_id nor among image_projects"},
	{"image projects by number", `image_projects = ["123456789012"]`, "image_projects hold what is not a project's ID"},
	{"prefix too long", `prefix = "abcdefghijklmnop"`, "prefix is longer than 15 characters"},
	{"prefix with a hyphen", `prefix = "team-agent"`, "prefix is not lower-case letters and digits"},
	{"model with a space", `model = "gemini 2.5"`, "model is not a model's name"},
	{"a model that is allowed twice", `models_allowed = ["gemini-3.8-flash", "gemini-3.8-flash"]`, "models_allowed hold what is not a model's name"},
	{"a template that is none", `model_armor = { prompt_template = "in" }`, "model_armor holds what is not a template's name"},
	{"a template without Vertex AI", `model_backend = "gemini"; model_armor = { prompt_template = "projects/p/locations/us/templates/in" }`, "model_armor is called by Vertex AI"},
	{"evaluation on a model without Vertex AI", `delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r", evaluation = { model = "m" } }; model_backend = "gemini"`, "delivery.evaluation.model is asked by Vertex AI"},
	{"evaluation on what is no model", `delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r", evaluation = { model = "a model" } }`, "delivery.evaluation holds what is not a model's name"},
	{"a judge without a model", `delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r", evaluation = { judge = "m" } }`, "delivery.evaluation.judge judges what"},
	{"a report bucket by its address", `delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r", evaluation = { report_bucket = "gs://reports" } }`, "delivery.evaluation.report_bucket is not a bucket's name"},
	{"an unknown thinking level", `thinking_level = "much"`, "thinking_level"},
	{"unknown backend", `model_backend = "openai"`, "model_backend is neither vertex nor gemini"},
	{"a model's server by http", `model_backend = "gemini"; model_url = "http://models.example.com"`, "model_url is not the https:// address of a server"},
	{"a model's server and Vertex AI", `model_url = "https://models.example.com"`, "model_url is of a server with the Gemini API"},
	{"unknown vertex location", `vertex_location = "mars"`, "vertex_location is neither global, us or eu"},

	// Who may call
	{"unknown access", `web_access = "public"`, "web_access is not private, application or iap"},
	{"no authentication", `auth = ["none"]`, "auth holds a mode that no deployment has"},
	{"empty auth", `auth = []`, "auth is empty or lists a mode twice"},
	{"mode twice", `auth = ["iam", "iam"]`, "auth is empty or lists a mode twice"},
	{"application without credentials", `web_access = "application"`, "web_access is application"},
	{"application with iam", `web_access = "application"; auth = ["api_key", "iam"]`, "auth holds iam, which believes what Cloud Run's own check has verified"},
	{"iap with iam", `web_access = "iap"; auth = ["iam"]; iap_members = ["user:a@example.com"]`, "auth holds iam, which believes what Cloud Run's own check has verified"},
	{"iap with keys", `web_access = "iap"; auth = ["oidc", "api_key"]; iap_members = ["user:a@example.com"]`, "web_access is iap, where IAP's own token is the only credential"},
	{"oidc without issuer", `web_access = "application"; auth = ["oidc"]`, "auth holds oidc: name at least one issuer and its audience in oidc_issuers"},
	{"issuer without oidc", `oidc_issuers = [{ issuer = "https://issuer.example", audience = "a" }]`, "oidc_issuers are named, but auth does not hold oidc"},
	{"issuer by http", `web_access = "application"; auth = ["oidc"]; oidc_issuers = [{ issuer = "http://issuer.example", audience = "a" }]`, "oidc_issuers hold an issuer that is not an https address as its tokens name it"},
	{"issuer without audience", `web_access = "application"; auth = ["oidc"]; oidc_issuers = [{ issuer = "https://issuer.example", audience = "" }]`, "oidc_issuers hold an audience or a claim that is empty or has a comma"},
	{"audience with a bar", `web_access = "application"; auth = ["oidc"]; oidc_issuers = [{ issuer = "https://issuer.example", audience = "a|b" }]`, "oidc_issuers hold an audience or a claim that is empty or has a comma"},
	{"issuer beside iap", `web_access = "iap"; auth = ["oidc"]; iap_members = ["user:a@example.com"]; oidc_issuers = [{ issuer = "https://issuer.example", audience = "a" }]`, "oidc_issuers are named, but auth does not hold oidc"},
	{"all users", `invokers = ["allUsers"]`, "invokers hold allUsers or allAuthenticatedUsers"},
	{"all authenticated users", `invokers = ["user:a@example.com", "allAuthenticatedUsers"]`, "invokers hold allUsers or allAuthenticatedUsers"},
	{"bare address as invoker", `invokers = ["a@example.com"]`, "invokers hold what is no member of IAM"},
	{"invokers of an application", `web_access = "application"; auth = ["api_key"]; invokers = ["user:a@example.com"]`, "invokers pass Cloud Run's own check"},
	{"everybody at health", `health_invokers = ["allUsers"]`, "health_invokers hold what is no member of IAM"},
	{"everybody through iap", `web_access = "iap"; iap_members = ["allUsers"]`, "iap_members hold what is no member of IAM"},
	{"iap for nobody", `web_access = "iap"`, "iap_members and web_access iap belong together"},
	{"iap members without iap", `iap_members = ["user:a@example.com"]`, "iap_members and web_access iap belong together"},
	{"every origin", `allowed_origins = ["*"]`, "allowed_origins hold a *"},
	{"every subdomain", `allowed_origins = ["https://*.example.com"]`, "allowed_origins hold a *"},
	{"origin by http", `allowed_origins = ["http://app.example.com"]`, "allowed_origins hold what no browser sends as an https origin"},
	{"origin with a path", `allowed_origins = ["https://app.example.com/"]`, "allowed_origins hold what no browser sends as an https origin"},
	{"origins from two places", `allowed_origins = ["https://app.example.com"]; allowed_origins_from_secret = true`, "allowed_origins are named here and taken from the secret"},
	{"operators in one text", `operators = ["key:a, key:b"]`, "operators hold one without its kind"},
	{"an operator without a kind", `operators = ["ops@example.com"]`, "operators hold one without its kind"},
	{"an operator without an issuer", `operators = ["email:ops@example.com"]`, "operators hold one without its kind"},

	// How much
	{"video files", `files = { types = ["video/mp4"] }`, "files.types hold what the service cannot check"},
	{"files of 30 MiB", `files = { max_bytes = 31457280 }`, "files.max_bytes is not a whole number from 0 to 20971520"},
	{"everybody's files", `files = { read_buckets = ["my-project-gatehouse-files"] }`, "files.read_buckets hold what is not a bucket's name"},
	{"a bucket by its address", `files = { read_buckets = ["gs://papers"] }`, "files.read_buckets hold what is not a bucket's name"},
	{"three cpus", `capacity = { cpu = 3 }`, "capacity.cpu is not 1, 2, 4, 6 or 8"},
	{"half a cpu", `capacity = { cpu = 0.5 }`, "capacity.cpu is not 1, 2, 4, 6 or 8"},
	{"four cpus with little memory", `capacity = { cpu = 4, memory_mib = 1024 }`, "refused by Cloud Run together"},
	{"one cpu with much memory", `capacity = { cpu = 1, memory_mib = 8192 }`, "refused by Cloud Run together"},
	{"too little memory", `capacity = { memory_mib = 128 }`, "refused by Cloud Run together"},
	{"concurrency 0", `capacity = { concurrency = 0 }`, "capacity.concurrency is not a whole number from 1 to 1000"},
	{"concurrency 2000", `capacity = { concurrency = 2000 }`, "capacity.concurrency is not a whole number from 1 to 1000"},
	{"minimum over maximum", `capacity = { min_instances = 11 }`, "capacity.min_instances is below 0 or over capacity.max_instances"},
	{"no instances", `capacity = { max_instances = 0 }`, "capacity.max_instances is not a whole number from 1 to 1000"},
	{"no time", `request_timeout_seconds = 0`, "request_timeout_seconds is not a whole number from 1 to 3585"},
	{"two hours", `request_timeout_seconds = 7200`, "request_timeout_seconds is not a whole number from 1 to 3585"},
	{"negative limit", `limits = { daily_tokens = -1 }`, "limits hold a number below 0 or with a fraction"},
	{"no calls", `limits = { calls_per_minute = 0 }`, "limits.calls_per_minute is not from 1 to 1000000"},
	{"budget beyond counting", `limits = { service_daily_tokens = 10000000000000000 }`, "limits hold a daily budget of more than 10^15 tokens"},
	{"tiny bodies", `limits = { body_bytes = 1 }`, "limits.body_bytes is not from 256 to 16777216"},
	{"endless answers", `limits = { output_tokens = 1000000 }`, "limits hold what the service refuses"},
	{"breaker that never opens", `breaker = { failures = 0 }`, "breaker.failures is not a whole number from 1 to 1000"},
	{"breaker that never closes", `breaker = { cooldown_seconds = 86400 }`, "breaker.cooldown_seconds is not a whole number from 1 to 3600"},
	{"background behind iap", `background = { enabled = true }; web_access = "iap"; iap_members = ["group:people@example.com"]`, "background is enabled, and web_access is iap"},
	{"a run of an hour", `background = { run_timeout_minutes = 60 }`, "background.run_timeout_minutes is not a whole number from 1 to 29"},
	{"no run at once", `background = { concurrent_runs = 0 }`, "background.runs_per_owner is not a whole number from 1 to 10000"},
	{"a queue in a zone", `background = { location = "us-central1-a" }`, "background.location is not a region"},
	{"a webhook host by its address", `webhook_hosts = ["https://hooks.example.com"]`, "webhook_hosts hold what is not the name of a public host"},
	{"the metadata server as a webhook host", `webhook_hosts = ["metadata.google.internal"]`, "webhook_hosts hold what is not the name of a public host"},
	{"a number as a webhook host", `webhook_hosts = ["169.254.169.254"]`, "webhook_hosts hold what is not the name of a public host"},
	{"a door that is none", `doors = { open = ["none"] }`, "doors.open holds what is not a protocol's name"},
	{"public keys of a card that is not signed", `doors = { card_keys_url = "https://keys.example.com/jwks.json" }`, "doors.sign_card is not set"},
	{"public keys in plaintext", `doors = { sign_card = true, card_keys_url = "http://keys.example.com/jwks.json" }`, "doors.card_keys_url is no https URL"},
	{"an app of no project", `doors = { gemini_enterprise = { project_number = "my-project", app = "my-app" } }`, "doors.gemini_enterprise has a project_number that is no number"},
	{"Gemini Enterprise at an application", `web_access = "application"; auth = ["api_key"]; doors = { gemini_enterprise = { project_number = "123456789012", app = "my-app" } }`, "can be let in only by Cloud Run's own check"},
	{"a credential as a conversation", `doors = { conversation_headers = ["Authorization"] }`, "doors.conversation_headers hold what is not the name of a header"},
	{"webhooks without a queue", `background = { enabled = false }; webhook_hosts = ["hooks.example.com"]`, "webhook_hosts need the queue"},
	{"a schedule with capitals", `schedules = { Digest = { cron = "0 7 * * *", query = "q" } }`, "schedules hold a name"},
	{"a schedule of four fields", `schedules = { digest = { cron = "0 7 * *", query = "q" } }`, "schedules hold a cron that is not five fields"},
	{"a schedule that asks nothing", `schedules = { digest = { cron = "0 7 * * *", query = " " } }`, "schedules hold a query that is empty"},
	{"a schedule for two lines", `schedules = { digest = { cron = "0 7 * * *", query = "q", end_user = "a\nb" } }`, "schedules hold an end_user"},
	{"a schedule's webhook elsewhere", `schedules = { digest = { cron = "0 7 * * *", query = "q", webhook = "https://evil.example/" } }`, "schedules hold a webhook that is not an https URL on one of webhook_hosts"},
	{"schedules behind iap", `schedules = { digest = { cron = "0 7 * * *", query = "q" } }; web_access = "iap"; iap_members = ["group:people@example.com"]`, "schedules call without a person's sign-in"},
	{"approvals without a life", `approval_ttl_hours = 0`, "approval_ttl_hours is not a whole number from 1 to 8760"},
	{"sessions without a life", `session_ttl_hours = 0`, "session_ttl_hours is not a whole number from 1 to 87600"},

	// What is kept and reported
	{"backups for years", `backup_retention_days = 365`, "backup_retention_days is not a whole number from 1 to 98"},
	{"audit for ever", `audit_log = { retention_days = 36500 }`, "audit_log.retention_days is not a whole number from 1 to 3650"},
	{"rotation never", `secret_rotation_days = 0`, "secret_rotation_days is not a whole number from 1 to 3650"},
	{"unknown log level", `log_level = "trace"`, "log_level is not debug, info, warn or error"},
	{"more than every trace", `trace_sample_ratio = 10`, "trace_sample_ratio is not a number from 0 to 1"},
	{"promise in percent", `slo = { availability = 99.5 }`, "slo.availability or slo.latency is not from 0.5 to 0.9999"},
	{"slower than the timeout", `slo = { latency_seconds = 60 }`, "slo.latency_seconds is not above 0 and at most request_timeout_seconds"},
	{"no address", `alert_emails = ["ops"]`, "alert_emails hold what is no e-mail address"},
	{"no channel", `notification_channels = ["ops"]`, "notification_channels hold what is no channel's name"},
	{"run book by path", `run_book_url = "docs/run-book.md"`, "run_book_url is not an https address without a #"},
	{"no billing account", `billing_account = "my account"`, "billing_account is not of the form XXXXXX-XXXXXX-XXXXXX"},
	{"budget of nothing", `monthly_budget = 0`, "monthly_budget is not a whole number from 1 on"},

	// What is off by default
	{"network without a name", `vpc = { network = "", subnetwork = "s" }`, "vpc names no network or no subnetwork"},
	{"domain with a scheme", `load_balancer = { domain = "https://agent.example.com" }`, "load_balancer.domain is not a domain such as agent.example.com"},
	{"one request a minute", `load_balancer = { domain = "agent.example.com", requests_per_minute_ip = 1 }`, "load_balancer.requests_per_minute_ip is not from 10 to 1000000"},
	{"a key's version", `kms_key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"`, "kms_key is not a key's name"},
	{"key elsewhere", `kms_key = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"`, "kms_key is in one region"},
	{"repository by url", `delivery = { repository = "https://github.com/a/b" }`, "delivery.repository is not a repository connected to Cloud Build"},
	{"every branch", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", branch = "main" }`, "delivery.branch is not a whole branch's name as a regular expression"},
	{"two branches", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", branch = "^(main|live)$" }`, "delivery.branch is more than one branch"},
	{"variables elsewhere", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", var_file = "../other/my.tfvars" }`, "delivery.var_file is not the path of a .tfvars file"},
	{"a key in place of its secret", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", smoke_key_secret = "projects/p/secrets/s" }; web_access = "application"; auth = ["api_key"]`, "delivery.smoke_key_secret is not a secret's name within the project"},
	{"a key that opens nothing", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", smoke_key_secret = "smoke-key" }`, "delivery.smoke_key_secret holds an API key"},
	{"a delivery without a key", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r" }; web_access = "application"; auth = ["oidc"]; oidc_issuers = [{ issuer = "https://issuer.example", audience = "a" }]`, "delivery cannot call a new revision before it takes traffic"},
	{"a delivery behind iap", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r" }; web_access = "iap"; iap_members = ["group:people@example.com"]`, "delivery cannot call a new revision before it takes traffic"},
	{"a delivery to two regions", `delivery = { repository = "projects/p/locations/l/connections/c/repositories/r" }; second_region = "us-east1"; load_balancer = { domain = "agent.example.com" }`, "delivery moves the traffic of one region"},
	{"a setting that is not telemetry's", `otel = { MODEL = "gemini-3" }`, "otel holds a name that is not one of OpenTelemetry's"},
	{"credentials of a collector", `otel = { OTEL_EXPORTER_OTLP_HEADERS = "authorization=secret" }`, "otel holds headers, which are credentials and would lie in the state in plain"},
	{"a second sampler", `otel = { OTEL_TRACES_SAMPLER = "always_on" }`, "otel holds headers, which are credentials and would lie in the state in plain"},

	// An agent of one's own
	{"a fallback that is the model", `model_fallbacks = ["gemini-3.5-flash-lite"]`, "model_fallbacks hold what is not a model's name"},
	{"an agent secret in lower case", `agent_secrets = { rates_key = {} }`, "agent_secrets hold a name that is not a variable's"},
	{"an agent secret that ends in _SECRET", `agent_secrets = { RATES_SECRET = {} }`, "agent_secrets hold a name that is not a variable's"},
	{"an agent secret's value", `agent_secrets = { RATES_KEY = { version = "sk-1234" } }`, "agent_secrets hold a version that is neither latest nor a number"},
	{"an agent secret of the service's", `agent_secrets = { API_KEYS = {} }`, "agent_secrets hold a variable of the service's own or of the platform's"},
	{"an agent secret whose variable is the service's", `agent_secrets = { GEMINI_API_KEY = {} }`, "agent_secrets hold a variable of the service's own or of the platform's"},
	{"an agent secret of the platform's", `agent_secrets = { K_SERVICE = {} }`, "agent_secrets hold a variable of the service's own or of the platform's"},
	{"an agent variable in lower case", `agent_environment = { rates_url = "x" }`, "agent_environment holds a name that is not a variable's"},
	{"an agent variable of the service's", `agent_environment = { IAM_ENFORCED = "true" }`, "agent_environment holds a variable of the service's own or of the platform's"},
	{"an agent variable of the platform's", `agent_environment = { GOOGLE_APPLICATION_CREDENTIALS = "x" }`, "agent_environment holds a variable of the service's own or of the platform's"},
	{"an agent's secret in plain, too", `agent_secrets = { RATES_KEY = {} }; agent_environment = { RATES_KEY = "x" }`, "agent_environment and agent_secrets set one variable twice"},
	{"an end user's budget above the service's", `limits = { daily_tokens = 30000000 }`, "limits let one end user"},
}

// A plan takes half a second, and reports every variable that is wrong: values that
// nothing else depends on are refused many at once.
func TestInputIsRefusedInWords(t *testing.T) {
	slowtest.Skip(t, "what terraform/ refuses")
	plans := map[string]string{} // what each plan sets, by its name
	planOf := map[string]string{}
	seen := map[string]int{}
	for i, r := range refused {
		variable, _, _ := strings.Cut(r.variables, " =")
		plan := fmt.Sprintf("case_%d", i)
		if !strings.Contains(r.variables, "; ") && !slices.Contains(dependedOn, variable) {
			plan = fmt.Sprintf("round_%d", seen[variable])
			seen[variable]++
		}
		plans[plan] += strings.ReplaceAll(r.variables, "; ", "\n") + "\n"
		planOf[r.name] = plan
	}
	refusals, skip, failure := terraformtest.Refusals(t, "..", plans)
	if skip != "" && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: what terraform/ refuses. " + skip)
	}
	if skip+failure != "" {
		t.Fatal(skip + failure)
	}
	for _, r := range refused {
		if got := refusals[planOf[r.name]]; !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, r.words) }) {
			t.Errorf("%s: %s: refused with %q, want %q", r.name, r.variables, got, r.words)
		}
	}
}

// Variables that the validation of another reads, which is left out where they are
// refused themselves.
var dependedOn = []string{
	"project_id", "prefix", "region", "second_region", "firestore_location", "load_balancer", "model", "model_backend", "web_access", "auth", "agent_secrets", "image_projects", "background", "webhook_hosts", "request_timeout_seconds",
}
