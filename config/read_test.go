package config_test

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/models"
)

// defaults are those of an empty environment.
func defaults() *config.Config {
	return &config.Config{
		Environment: "development", Port: 8080,
		Model: models.BuiltIn().Default, ModelFallbacks: []string{models.BuiltIn().Fallback}, Gemini: config.Gemini{Location: "global"},
		Auth:         []string{config.AuthNone},
		SessionStore: config.StoreMemory, FirestoreDatabase: "(default)", SessionTTL: 720 * time.Hour, ApprovalTTL: 72 * time.Hour,
		FileTypes: []string{
			"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "application/pdf", "audio/wav", "audio/mpeg", "audio/aac", "audio/ogg", "audio/flac",
			"text/plain", "text/markdown", "text/csv",
		}, MaxFileBytes: 7 << 20,
		RequestTimeout: 30 * time.Second, MaxBodyBytes: 131072, MaxOutputTokens: 4096, MaxConcurrent: 80, MaxInstances: 10, HistoryTokens: 32000, MaxToolRounds: 8,
		RateLimitPerMinute: 60, CallerRateLimitPerMinute: 600, RunTimeout: 25 * time.Minute, MaxBackgroundRuns: 10,
		BreakerFailures: 5, BreakerCooldown: time.Minute,
		Playground: true, AuditLog: "agent-audit", LogLevel: slog.LevelInfo,
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := config.Read(env())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, defaults(), secretsByText); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if c.Production() || !c.Offline() {
		t.Errorf("production %t, offline %t", c.Production(), c.Offline())
	}
}

func TestDefaultsInProduction(t *testing.T) {
	t.Parallel()
	c, err := config.Read(env(with(production, "K_REVISION=gatehouse-00001")...))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Environment, want.Service, want.Revision = "production", "gatehouse", "gatehouse-00001"
	want.Gemini.VertexAI, want.Auth, want.SessionStore, want.Playground = true, []string{config.AuthIAM}, config.StoreFirestore, false
	if diff := cmp.Diff(c, want, secretsByText); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if !c.Production() || c.Offline() {
		t.Errorf("production %t, offline %t", c.Production(), c.Offline())
	}
}

func TestEveryVariable(t *testing.T) {
	t.Parallel()
	c, err := config.Read(env(
		"ENVIRONMENT=staging", "K_SERVICE=svc", "K_REVISION=rev", "IAM_ENFORCED=true", "PORT=0", "GOOGLE_CLOUD_PROJECT=proj",
		"MODEL=gemini-3-pro", "MODEL_FALLBACKS= gemini-2.5-flash , gemini-2.0-flash,", "MODELS_ALLOWED=gemini-3.8-flash, gemini-2.5-pro",
		"MODEL_ARMOR_PROMPT_TEMPLATE=projects/p/locations/l/templates/in", "MODEL_ARMOR_RESPONSE_TEMPLATE=projects/p/locations/l/templates/out", "GOOGLE_GENAI_USE_VERTEXAI=1", "GOOGLE_CLOUD_LOCATION=europe-west4",
		"GOOGLE_VERTEX_BASE_URL=https://vertex.example/", "GEMINI_API_KEY_SECRET=projects/p/secrets/gemini/versions/latest",
		"ALLOWED_ORIGINS=https://a.example,https://b.example:8443", "API_KEYS_SECRET=projects/p/secrets/keys/versions/3",
		"SECRET_MANAGER_ENDPOINT=secretmanager.europe-west4.rep.googleapis.com:443", "LOGGING_ENDPOINT=127.0.0.1:9999", "TELEMETRY_ENDPOINT=telemetry.europe-west4.rep.googleapis.com:443",
		"AUTH=iam, oidc ,api_key", "OIDC_ISSUERS=https://issuer.example|aud", "OIDC_AUDIENCES=x,y", "OPERATORS=email:ops@example.com@https://issuer.example, key:backend",
		"SESSION_STORE=firestore", "FIRESTORE_DATABASE=db", "SESSION_TTL=1h30m", "APPROVAL_TTL=24h",
		"FILES_BUCKET=my-files", "FILE_BUCKETS=papers, scans.example.com", "FILE_TYPES=image/png, text/*", "MAX_FILE_BYTES=1000", "STORAGE_EMULATOR_HOST=127.0.0.1:4443",
		"REQUEST_TIMEOUT=1m", "MAX_BODY_BYTES=1024", "MAX_OUTPUT_TOKENS=100", "MAX_CONCURRENT=1", "MAX_INSTANCES=3", "HISTORY_TOKENS=0", "MAX_TOOL_ROUNDS=0",
		"RATE_LIMIT_PER_MINUTE=1", "CALLER_RATE_LIMIT_PER_MINUTE=2", "DAILY_TOKEN_LIMIT=3", "CALLER_DAILY_TOKEN_LIMIT=4", "SERVICE_DAILY_TOKEN_LIMIT=20000000",
		"BREAKER_FAILURES=6", "BREAKER_COOLDOWN=90s", "PLAYGROUND=true", "AUDIT_LOG=my/audit", "LOG_LEVEL=debug", "LOG_CONTENT=true", "AUDIT_NAMES=true",
		"RUN_TIMEOUT=10m", "MAX_BACKGROUND_RUNS=3", "TASKS_QUEUE=projects/proj/locations/europe-west4/queues/runs", "TASKS_ACCOUNT=tasks@proj.iam.gserviceaccount.com",
		"TASKS_ENDPOINT=127.0.0.1:9998", "SCHEDULES_ACCOUNT=schedules@proj.iam.gserviceaccount.com", "SERVICE_URL=https://svc-1.europe-west4.run.app",
		"WEBHOOK_HOSTS=hooks.example.com, ci.example.com:8443", "WEBHOOK_SECRETS_SECRET=projects/p/secrets/webhooks/versions/latest",
		"DOORS=mcp, openai", "MCP_TOOLS=true", "CONVERSATION_HEADERS=X-OpenWebUI-Chat-Id, X-Conversation-Id", "ALLOW_INSTRUCTIONS=true",
		"CARD_KEYS_SECRET=projects/p/secrets/card-keys/versions/latest", "CARD_KEYS_URL=https://keys.example.com/jwks.json", "CARD_URL=https://agent.example.com",
	))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Environment: "staging", Service: "svc", Revision: "rev", Project: "proj",
		Model: "gemini-3-pro", ModelFallbacks: []string{"gemini-2.5-flash", "gemini-2.0-flash"}, ModelsAllowed: []string{"gemini-3.8-flash", "gemini-2.5-pro"},
		Gemini: config.Gemini{
			ArmorPrompt: "projects/p/locations/l/templates/in", ArmorResponse: "projects/p/locations/l/templates/out",
			VertexAI: true, Location: "europe-west4", BaseURL: "https://vertex.example/", APIKeySecret: "projects/p/secrets/gemini/versions/latest",
		},
		AllowedOrigins: []string{"https://a.example", "https://b.example:8443"}, APIKeysSecret: "projects/p/secrets/keys/versions/3",
		SecretManager: "secretmanager.europe-west4.rep.googleapis.com:443", LoggingEndpoint: "127.0.0.1:9999", TelemetryEndpoint: "telemetry.europe-west4.rep.googleapis.com:443",
		Auth: []string{"iam", "oidc", "api_key"}, OIDCIssuers: "https://issuer.example|aud", OIDCAudiences: []string{"x", "y"},
		Operators: access.Operators{{Kind: "email", Value: "ops@example.com", Issuer: "https://issuer.example"}, {Kind: "key", Value: "backend"}}, SessionStore: "firestore", FirestoreDatabase: "db", SessionTTL: 90 * time.Minute, ApprovalTTL: 24 * time.Hour,
		FilesBucket: "my-files", FileBuckets: []string{"papers", "scans.example.com"}, MaxFileBytes: 1000, StorageEndpoint: "127.0.0.1:4443",
		FileTypes:      []string{"image/png", "text/plain", "text/markdown", "text/csv"},
		RequestTimeout: time.Minute, MaxBodyBytes: 1024, MaxOutputTokens: 100, MaxConcurrent: 1, MaxInstances: 3,
		RateLimitPerMinute: 1, CallerRateLimitPerMinute: 2, DailyTokenLimit: 3, CallerDailyTokenLimit: 4, ServiceDailyTokenLimit: 20_000_000,
		BreakerFailures: 6, BreakerCooldown: 90 * time.Second, Playground: true, AuditLog: "my/audit", LogLevel: slog.LevelDebug, LogContent: true, AuditNames: true,
		RunTimeout: 10 * time.Minute, MaxBackgroundRuns: 3, TasksQueue: "projects/proj/locations/europe-west4/queues/runs", TasksAccount: "tasks@proj.iam.gserviceaccount.com",
		TasksEndpoint: "127.0.0.1:9998", SchedulesAccount: "schedules@proj.iam.gserviceaccount.com", ServiceURL: "https://svc-1.europe-west4.run.app",
		WebhookHosts: []string{"hooks.example.com", "ci.example.com:8443"}, WebhookSecrets: "projects/p/secrets/webhooks/versions/latest",
		CardKeysSecret: "projects/p/secrets/card-keys/versions/latest", CardKeysURL: "https://keys.example.com/jwks.json", CardURL: "https://agent.example.com",
		Doors: []string{"mcp", "openai"}, MCPTools: true, ConversationHeaders: []string{"X-OpenWebUI-Chat-Id", "X-Conversation-Id"}, AllowInstructions: true,
	}
	if diff := cmp.Diff(c, want, secretsByText); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestEmptyVariablesCountAsUnset(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", " ", "\t\n"} {
		c, err := config.Read(func(string) (string, bool) { return value, true })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, defaults(), secretsByText); diff != "" {
			t.Errorf("with %q (-got +want):\n%s", value, diff)
		}
	}
}

// The values that each variable refuses. Every problem names it, once.
func TestBadValues(t *testing.T) {
	t.Parallel()
	bad := map[string][]string{
		"ENVIRONMENT":                   {"Production", "prod env", "1", "prod!", strings.Repeat("a", 33)},
		"PORT":                          {"-1", "65536", "http", "80.5", "0x50", "8080tcp"},
		"IAM_ENFORCED":                  {"yes", "2", "on"},
		"MODEL":                         {"gemini 2.5", "../x", "a\nb", strings.Repeat("a", 129), "-x", "gémini"},
		"MODEL_FALLBACKS":               {"gemini 2.5", "gemini-2.5-pro,../x", models.BuiltIn().Default, "a,b,a", "a,b,c,d,e,f"},
		"GOOGLE_GENAI_USE_VERTEXAI":     {"yes", "vertex"},
		"THINKING_LEVEL":                {"none", "LOW", "1024"},
		"MODELS_TABLE_SECRET":           {"table", "projects/p/secrets/s"},
		"GEMINI_API_KEY_SECRET":         {"gemini", "projects/p/secrets/s", "projects/p/secrets/s/versions/0", "projects/p/secrets/s/versions/latest/x"},
		"ALLOWED_ORIGINS_SECRET":        {"origins"},
		"API_KEYS_SECRET":               {"keys"},
		"SECRET_MANAGER_ENDPOINT":       {"secretmanager.googleapis.com", "https://secretmanager.googleapis.com", "host:", ":443", "host:https", "host:0", "host:65536"},
		"TELEMETRY_ENDPOINT":            {"telemetry.googleapis.com", "https://telemetry.googleapis.com:443"},
		"LOGGING_ENDPOINT":              {"logging.googleapis.com", "https://logging.googleapis.com", "host:", ":443", "host:99999"},
		"ALLOWED_ORIGINS":               {"*", "https://*.example", "a.example", "https://a.example/", "https://a.example,ftp://b.example", "https://A.example", "null"},
		"API_KEYS":                      {"[]", "key", `[{"name":"x"}]`, `[{"name":"x","sha256":"short"}]`},
		"AUTH":                          {"basic", "none,none", "IAM", "none;api_key"},
		"OIDC_ISSUERS":                  {"issuer.example|aud", "https://issuer.example", "http://issuer.example|aud", "|aud"},
		"OPERATORS":                     {"ops@example.com", "backend", "email:ops@example.com", "key:", "key:good,user:x", "sub:1@http://issuer.example"},
		"SESSION_STORE":                 {"redis", "Memory", "memory,firestore"},
		"SESSION_TTL":                   {"720", "0s", "-1h", "1d", "forever", "200000h"},
		"APPROVAL_TTL":                  {"72", "0s", "-1h", "3d", "forever", "9000h"},
		"REQUEST_TIMEOUT":               {"30", "0", "9ms", "2h", "-30s", "soon"},
		"MAX_BODY_BYTES":                {"0", "255", "16777217", "128KiB", "1e5", "99999999999999999999"},
		"MAX_FILE_BYTES":                {"-1", "20971521", "7MiB"},
		"FILE_TYPES":                    {"image", "*/*", "video/mp4", "image/png,image/svg+xml", "image/png;q=1"},
		"FILES_BUCKET":                  {"gs://files", "files/path", "Files", "f", "-files", strings.Repeat("f", 223)},
		"FILE_BUCKETS":                  {"gs://files", "files,other/path", "*", "a b"},
		"STORAGE_EMULATOR_HOST":         {"localhost", "https://storage.googleapis.com", "host:", ":443", "host:0"},
		"MAX_OUTPUT_TOKENS":             {"0", "-1", "65537", "many"},
		"MAX_CONCURRENT":                {"0", "10001", "x"},
		"MAX_INSTANCES":                 {"0", "10001", "x"},
		"HISTORY_TOKENS":                {"-1", "2000001", "x"},
		"MAX_TOOL_ROUNDS":               {"-1", "65", "x"},
		"RATE_LIMIT_PER_MINUTE":         {"0", "-1", "1000001", "60/min"},
		"CALLER_RATE_LIMIT_PER_MINUTE":  {"0", "10000001", "x"},
		"DAILY_TOKEN_LIMIT":             {"-1", "1000000000000001", "x"},
		"CALLER_DAILY_TOKEN_LIMIT":      {"-1", "x"},
		"SERVICE_DAILY_TOKEN_LIMIT":     {"-1", "20 million"},
		"BREAKER_FAILURES":              {"0", "1001", "x"},
		"BREAKER_COOLDOWN":              {"60", "0s", "2h"},
		"PLAYGROUND":                    {"yes", "off"},
		"AUDIT_LOG":                     {"agent audit", "audit!", strings.Repeat("a", 513)},
		"AUDIT_NAMES":                   {"yes"},
		"DOORS":                         {"none,mcp"},
		"MCP_TOOLS":                     {"yes"},
		"CONVERSATION_HEADERS":          {"Authorization", "X-A, Cookie", "X-a b", "X-" + strings.Repeat("a", 63)},
		"ALLOW_INSTRUCTIONS":            {"yes"},
		"LOG_LEVEL":                     {"verbose", "1", "warning!"},
		"LOG_CONTENT":                   {"yes"},
		"GOOGLE_GEMINI_BASE_URL":        {"gemini.example", "ftp://gemini.example", "https://", "://"},
		"MODELS_ALLOWED":                {"gemini 2.5", "a,b,a", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"},
		"MODEL_ARMOR_PROMPT_TEMPLATE":   {"in", "projects/p/templates/in", "projects//locations/l/templates/in", "projects/p/locations/l/templates/in"},
		"MODEL_ARMOR_RESPONSE_TEMPLATE": {"out", "projects/p/locations/l/templates/a b"},
		"RUN_TIMEOUT":                   {"25", "0s", "30m", "1h"},
		"MAX_BACKGROUND_RUNS":           {"0", "10001", "x"},
		"TASKS_QUEUE":                   {"runs", "projects/p/queues/q", "projects/p/locations/l/queues/q_1", "projects/p/locations/l/queues/q/tasks/t"},
		"TASKS_ACCOUNT":                 {"tasks", "ada@example.com", "serviceAccount:tasks@p.iam.gserviceaccount.com"},
		"TASKS_ENDPOINT":                {"cloudtasks.googleapis.com", "https://cloudtasks.googleapis.com:443"},
		"SCHEDULES_ACCOUNT":             {"schedules", "ada@example.com"},
		"SERVICE_URL":                   {"service.example", "http://service.example", "https://service.example/", "https://service.example/x", "https://", "https://user@service.example"},
		"WEBHOOK_HOSTS":                 {"*.example.com", "https://hooks.example.com", "hooks.example.com/x", "Hooks.example.com", "8.8.8.8", "10.0.0.1", "[::2]:443", "localhost.", "hooks", "metadata.google.internal", "hooks.example.com:0", "hooks.example.com:99999", "hooks.example.com:0443", "a.example.com,user@b.example.com"},
		"WEBHOOK_SECRETS_SECRET":        {"webhooks"},
		"CARD_KEYS":                     {"key", "[]", `{"keys":[]}`, `{"keys":[{"kty":"EC"},{"kty":"oct","k":"c2VjcmV0"}]}`, "-----BEGIN PRIVATE KEY-----"},
		"CARD_KEYS_SECRET":              {"card-keys"},
		"CARD_URL":                      {"agent.example", "http://agent.example", "https://agent.example/", "https://user@agent.example"},
		"CARD_KEYS_URL":                 {"keys.example.com", "http://keys.example.com/jwks.json", "https://", "https://ada@keys.example.com/", "https://keys.example.com/#a", "https://keys.example.com/jwks.json"},
	}
	for variable, values := range bad {
		for _, value := range values {
			t.Run(fmt.Sprintf("%s=%.40q", variable, value), func(t *testing.T) {
				t.Parallel()
				pairs := []string{variable + "=" + value}
				if variable == "GOOGLE_GEMINI_BASE_URL" {
					pairs = append(pairs, "GEMINI_API_KEY=k")
				}
				c, err := config.Read(env(pairs...))
				ps := problems(t, err)
				if !slices.Contains(ps.Variables(), variable) {
					t.Fatalf("not at fault; the problems are: %v", err)
				}
				if c == nil {
					t.Error("no Config beside the error")
				}
				for _, p := range ps {
					if len(p.Issue) < 10 || len(p.Issue) > 400 || strings.Contains(p.Issue, "\n") && variable != "API_KEYS" && variable != "CARD_KEYS" {
						t.Errorf("%s: the issue is %q", p.Variable, p.Issue)
					}
				}
			})
		}
	}
	// No variable is left out of the table. Those below take any text.
	free := []string{"K_SERVICE", "K_REVISION", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_VERTEX_BASE_URL",
		"OIDC_AUDIENCES", "FIRESTORE_DATABASE", "FIRESTORE_EMULATOR_HOST"}
	for _, variable := range variables(t) {
		if _, ok := bad[variable]; !ok && !slices.Contains(free, variable) {
			t.Errorf("%s is not tested", variable)
		}
	}
}

// variables are those that Read asks for.
func variables(t testing.TB) []string {
	t.Helper()
	var names []string
	_, err := config.Read(func(name string) (string, bool) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		return "", false
	})
	if err != nil || len(names) < 40 {
		t.Fatalf("Read asked for %d variables: %v", len(names), err)
	}
	return names
}

func TestAProblemShowsWhatIsWrongAndHowToMendIt(t *testing.T) {
	t.Parallel()
	_, err := config.Read(env("REQUEST_TIMEOUT=30", "MAX_CONCURRENT=0"))
	const want = `the configuration has problems:
  MAX_CONCURRENT: 0 is out of range; set a whole number from 1 to 10000
  REQUEST_TIMEOUT: "30" is not a duration; set one with its unit, such as 30s, 5m or 720h`
	if diff := cmp.Diff(fmt.Sprint(err), want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	// One value that all but a few refuse.
	_, err := config.Read(func(name string) (string, bool) { return "!bad value!", true })
	got := problems(t, err).Variables()
	want := []string{
		"ALLOWED_ORIGINS", "ALLOWED_ORIGINS_SECRET", "API_KEYS", "API_KEYS_SECRET", "AUDIT_LOG", "AUDIT_NAMES", "AUTH", "BREAKER_COOLDOWN", "BREAKER_FAILURES",
		"CALLER_DAILY_TOKEN_LIMIT", "CALLER_RATE_LIMIT_PER_MINUTE", "DAILY_TOKEN_LIMIT", "ENVIRONMENT", "FILES_BUCKET", "FILE_BUCKETS", "FILE_TYPES", "GEMINI_API_KEY_SECRET",
		"GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_USE_VERTEXAI", "HISTORY_TOKENS", "IAM_ENFORCED", "LOGGING_ENDPOINT", "LOG_CONTENT", "LOG_LEVEL",
		"MAX_BODY_BYTES", "MAX_CONCURRENT", "MAX_FILE_BYTES", "MAX_INSTANCES", "MAX_OUTPUT_TOKENS", "MAX_TOOL_ROUNDS", "MODEL", "OIDC_ISSUERS", "PLAYGROUND", "PORT",
		"RATE_LIMIT_PER_MINUTE", "REQUEST_TIMEOUT", "SECRET_MANAGER_ENDPOINT", "SERVICE_DAILY_TOKEN_LIMIT", "SESSION_STORE", "SESSION_TTL", "STORAGE_EMULATOR_HOST", "TELEMETRY_ENDPOINT",
	}
	var missing []string
	for _, variable := range want {
		if !slices.Contains(got, variable) {
			missing = append(missing, variable)
		}
	}
	if len(missing) > 0 || !slices.IsSorted(got) {
		t.Errorf("not reported: %v; reported: %v", missing, got)
	}
}

func TestRulesThatJoinVariables(t *testing.T) {
	t.Parallel()
	const hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	const keys = `API_KEYS=[{"name":"backend","sha256":"` + hash + `"}]`
	// RFC 8037, appendix A.1.
	const cardKeys = `CARD_KEYS={"keys":[{"kid":"a","kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	tests := []struct {
		name    string
		pairs   []string
		atFault []string
	}{
		{"production in order", production, nil},
		{"files, kept and read", []string{"FILES_BUCKET=files", "FILE_BUCKETS=papers, scans.example.com", "FILE_TYPES=image/*,application/pdf", "MAX_FILE_BYTES=0"}, nil},
		{"everybody's files to read", []string{"FILES_BUCKET=files", "FILE_BUCKETS=papers,files"}, []string{"FILE_BUCKETS"}},
		{"no files", []string{"FILE_TYPES=none"}, nil},
		{"production by name", []string{"ENVIRONMENT=production", "GEMINI_API_KEY=k", "AUTH=api_key", keys, "GOOGLE_CLOUD_PROJECT=p"}, nil},
		{"any other name is production", []string{"ENVIRONMENT=staging", "GEMINI_API_KEY=k"}, []string{"GOOGLE_CLOUD_PROJECT", "IAM_ENFORCED"}},
		{"a test is not production", []string{"ENVIRONMENT=test"}, nil},
		{"development on Cloud Run, open without a word", []string{"ENVIRONMENT=development", "K_SERVICE=x"}, []string{"AUTH"}},
		{"a test on Cloud Run, open without a word", []string{"ENVIRONMENT=test", "K_SERVICE=x", "AUTH= "}, []string{"AUTH"}},
		{"development on Cloud Run, a list of nothing", []string{"ENVIRONMENT=development", "K_SERVICE=x", "AUTH=,"}, []string{"AUTH"}},
		{"development on Cloud Run, open as it says", []string{"ENVIRONMENT=development", "K_SERVICE=x", "AUTH=none"}, nil},
		{"development on Cloud Run, with keys", []string{"ENVIRONMENT=development", "K_SERVICE=x", "AUTH=api_key", keys}, nil},
		{"iam without the check", []string{"K_SERVICE=x", "GOOGLE_GENAI_USE_VERTEXAI=true"}, []string{"IAM_ENFORCED"}},
		{"iam with the check off", []string{"K_SERVICE=x", "GOOGLE_GENAI_USE_VERTEXAI=true", "IAM_ENFORCED=false"}, []string{"IAM_ENFORCED"}},
		{"iam elsewhere than on Cloud Run", []string{"AUTH=iam", "IAM_ENFORCED=true"}, []string{"IAM_ENFORCED"}},
		{"iam in development, on Cloud Run", []string{"ENVIRONMENT=development", "K_SERVICE=x", "AUTH=iam", "IAM_ENFORCED=true"}, nil},
		{"the check without iam", []string{"IAM_ENFORCED=true"}, nil},
		{"iam among others, without the check", []string{"AUTH=api_key,iam", keys}, []string{"IAM_ENFORCED"}},
		{"none in production", with(production, "AUTH=none"), []string{"AUTH"}},
		{"none among others in production", with(production, "AUTH=iam,none"), []string{"AUTH"}},
		{"none where the environment has another name", []string{"ENVIRONMENT=qa", "GEMINI_API_KEY=k", "AUTH=none"}, []string{"AUTH", "GOOGLE_CLOUD_PROJECT"}},
		{"memory in production", with(production, "SESSION_STORE=memory"), []string{"SESSION_STORE"}},
		{"no model in production", []string{"K_SERVICE=x", "IAM_ENFORCED=true"}, []string{"GEMINI_API_KEY_SECRET"}},
		{"a key in production", []string{"K_SERVICE=x", "IAM_ENFORCED=true", "GEMINI_API_KEY=k"}, nil},
		{"a key's secret in production", []string{"K_SERVICE=x", "IAM_ENFORCED=true", "GEMINI_API_KEY_SECRET=projects/p/secrets/s/versions/1"}, nil},
		{"an origin in plaintext in production", with(production, "ALLOWED_ORIGINS=http://localhost:3000"), []string{"ALLOWED_ORIGINS"}},
		{"an origin in plaintext in development", []string{"ALLOWED_ORIGINS=http://localhost:3000"}, nil},
		{"every origin in development", []string{"ALLOWED_ORIGINS=*"}, []string{"ALLOWED_ORIGINS"}},
		{"both forms of a key", []string{"GEMINI_API_KEY=k", "GEMINI_API_KEY_SECRET=projects/p/secrets/s/versions/1"}, []string{"GEMINI_API_KEY_SECRET"}},
		{"both forms of a key, by the other name", []string{"GOOGLE_API_KEY=k", "GEMINI_API_KEY_SECRET=projects/p/secrets/s/versions/1"}, []string{"GEMINI_API_KEY_SECRET"}},
		{"both forms of the origins", []string{"ALLOWED_ORIGINS=https://a.example", "ALLOWED_ORIGINS_SECRET=projects/p/secrets/s/versions/1"}, []string{"ALLOWED_ORIGINS"}},
		{"both forms of the API keys", []string{keys, "API_KEYS_SECRET=projects/p/secrets/s/versions/1"}, []string{"API_KEYS"}},
		{"a signed card", []string{cardKeys, "CARD_KEYS_URL=https://keys.example.com/jwks.json", "CARD_URL=http://127.0.0.1:8080"}, nil},
		{"a card signed for the service's address", []string{cardKeys, "SERVICE_URL=http://127.0.0.1:8080"}, nil},
		{"a card signed for any host that is asked", []string{cardKeys}, []string{"CARD_URL"}},
		{"an address of the card in plaintext in production", with(production, "CARD_URL=http://127.0.0.1:8080"), []string{"CARD_URL"}},
		{"both forms of the card's keys", []string{cardKeys, "CARD_URL=http://127.0.0.1:8080", "CARD_KEYS_SECRET=projects/p/secrets/s/versions/1"}, []string{"CARD_KEYS"}},
		{"the place of keys that do not sign", []string{"CARD_KEYS_URL=https://keys.example.com/jwks.json"}, []string{"CARD_KEYS_URL"}},
		{"api_key without keys", []string{"AUTH=api_key"}, []string{"API_KEYS_SECRET"}},
		{"oidc without issuers", []string{"AUTH=oidc"}, []string{"OIDC_ISSUERS"}},
		{"issuers with audiences beside them", []string{"AUTH=oidc", "OIDC_ISSUERS=https://issuer.example", "OIDC_AUDIENCES=aud"}, nil},
		{"an issuer on loopback in development", []string{"AUTH=oidc", "OIDC_ISSUERS=http://127.0.0.1:9000|aud"}, nil},
		{"an issuer on loopback in production", with(production, "AUTH=oidc", "OIDC_ISSUERS=http://127.0.0.1:9000|aud"), []string{"OIDC_ISSUERS"}},
		{"a queue", []string{"TASKS_QUEUE=projects/p/locations/l/queues/q", "TASKS_ACCOUNT=t@p.iam.gserviceaccount.com", "SERVICE_URL=http://127.0.0.1:8080"}, nil},
		{"a queue in production", with(production, "TASKS_QUEUE=projects/p/locations/l/queues/q", "TASKS_ACCOUNT=t@p.iam.gserviceaccount.com"), nil},
		{"a queue without its account", with(production, "TASKS_QUEUE=projects/p/locations/l/queues/q"), []string{"TASKS_ACCOUNT"}},
		{"an account without its queue", with(production, "TASKS_ACCOUNT=t@p.iam.gserviceaccount.com"), []string{"TASKS_QUEUE"}},
		{"a queue elsewhere than on Cloud Run, without an address", []string{"TASKS_QUEUE=projects/p/locations/l/queues/q", "TASKS_ACCOUNT=t@p.iam.gserviceaccount.com"}, []string{"SERVICE_URL"}},
		{"schedules elsewhere, without an address", []string{"SCHEDULES_ACCOUNT=s@p.iam.gserviceaccount.com"}, []string{"SERVICE_URL"}},
		{"an address in plaintext in production", with(production, "SERVICE_URL=http://127.0.0.1:8080"), []string{"SERVICE_URL"}},
		{"webhooks without a secret", []string{"WEBHOOK_HOSTS=hooks.example.com"}, []string{"WEBHOOK_SECRETS_SECRET"}},
		{"webhooks to this machine in development", []string{"WEBHOOK_HOSTS=127.0.0.1:9,localhost:9", "WEBHOOK_SECRETS_SECRET=projects/p/secrets/s/versions/1"}, nil},
		{"webhooks to this machine in production", with(production, "WEBHOOK_HOSTS=127.0.0.1:9", "WEBHOOK_SECRETS_SECRET=projects/p/secrets/s/versions/1"), []string{"WEBHOOK_HOSTS"}},
		{"a base URL that would not be used", []string{"GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:1"}, []string{"GEMINI_API_KEY"}},
		{"a base URL with a key", []string{"GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:1", "GEMINI_API_KEY=k"}, nil},
		{"Vertex at a base URL that is none", []string{"GOOGLE_GENAI_USE_VERTEXAI=true", "GOOGLE_VERTEX_BASE_URL=vertex"}, []string{"GOOGLE_VERTEX_BASE_URL"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Read(env(tt.pairs...))
			if diff := cmp.Diff(problems(t, err).Variables(), tt.atFault); diff != "" {
				t.Errorf("at fault (-got +want):\n%s\n%v", diff, err)
			}
		})
	}
}

func TestTheOtherNameOfTheKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"one", []string{"GEMINI_API_KEY=a"}, "a"},
		{"the other", []string{"GOOGLE_API_KEY=b"}, "b"},
		{"both: as the SDK chooses", []string{"GEMINI_API_KEY=a", "GOOGLE_API_KEY=b"}, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := config.Read(env(tt.pairs...))
			if err != nil || c.Gemini.APIKey.Reveal() != tt.want || c.Offline() {
				t.Errorf("%q, offline %t, %v", c.Gemini.APIKey.Reveal(), c.Offline(), err)
			}
		})
	}
}

func TestParseOrigins(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		text   string
		strict bool
		want   []string
		ok     bool
	}{
		{"none", "", true, nil, true},
		{"one", "https://a.example", true, []string{"https://a.example"}, true},
		{"by commas", "https://a.example,https://b.example:8443", true, []string{"https://a.example", "https://b.example:8443"}, true},
		{"by white space, as a secret may hold them", "https://a.example\r\n https://b.example\t,\n", true, []string{"https://a.example", "https://b.example"}, true},
		{"an IPv6 address", "https://[::1]:8080", true, []string{"https://[::1]:8080"}, true},
		{"http where that is allowed", "http://localhost:3000", false, []string{"http://localhost:3000"}, true},
		{"http where it is not", "http://localhost:3000", true, nil, false},
		{"one that is http", "https://a.example http://b.example", true, nil, false},
		{"a wildcard", "*", false, nil, false},
		{"a wildcard for a name", "https://*.example", false, nil, false},
		{"no scheme", "a.example", false, nil, false},
		{"another scheme", "chrome-extension://abc", false, nil, false},
		{"a script", "javascript:alert(1)", false, nil, false},
		{"no host", "https://", false, nil, false},
		{"a port alone", "https://:443", false, nil, false},
		{"a slash at the end", "https://a.example/", false, nil, false},
		{"a path", "https://a.example/x", false, nil, false},
		{"a query", "https://a.example?x=1", false, nil, false},
		{"an empty query", "https://a.example?", false, nil, false},
		{"a fragment", "https://a.example#x", false, nil, false},
		{"an empty fragment", "https://a.example#", false, nil, false},
		{"a user", "https://user@a.example", false, nil, false},
		{"capitals", "https://A.example", false, nil, false},
		{"a scheme in capitals", "HTTPS://a.example", false, nil, false},
		{"a port that is empty", "https://a.example:", false, nil, false},
		{"a port that is no number", "https://a.example:x", false, nil, false},
		{"null", "null", false, nil, false},
		{"a semicolon", "https://a.example;https://b.example", false, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := config.ParseOrigins(tt.text, tt.strict)
			if (err == nil) != tt.ok {
				t.Fatalf("%q, %v", got, err)
			}
			if diff := cmp.Diff(slices.Clip(got), tt.want); diff != "" && len(got)+len(tt.want) > 0 {
				t.Errorf("(-got +want):\n%s", diff)
			}
			if err != nil && tt.text != "*" && strings.Contains(err.Error(), tt.text) {
				t.Errorf("the error repeats what may be a secret's: %v", err)
			}
		})
	}
}

func TestHasAuth(t *testing.T) {
	t.Parallel()
	c := config.Config{Auth: []string{config.AuthIAM, config.AuthOIDC}}
	if !c.HasAuth(config.AuthOIDC) || c.HasAuth(config.AuthNone) {
		t.Errorf("of %v: oidc %t, none %t", c.Auth, c.HasAuth(config.AuthOIDC), c.HasAuth(config.AuthNone))
	}
}

// The machine's own environment is as good as any.
func TestTheMachinesEnvironment(t *testing.T) {
	t.Parallel()
	c, err := config.Read(os.LookupEnv)
	problems(t, err)
	if c == nil {
		t.Error("no Config")
	}
}

func FuzzRead(f *testing.F) {
	f.Add("AUTH", "iam", "K_SERVICE", "x")
	f.Add("ALLOWED_ORIGINS", "https://a.example", "API_KEYS", `[{"name":"x"}]`)
	f.Add("OIDC_ISSUERS", "https://i|a|b=c", "MODEL_FALLBACKS", ",,")
	f.Add("SESSION_TTL", "9999999h", "GOOGLE_GEMINI_BASE_URL", "http://[::1")
	f.Add("MODEL", "$MODEL", "LOG_LEVEL", "info+2147483647")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		c, err := config.Read(env(name1+"="+value1, name2+"="+value2))
		ps := problems(t, err)
		if c == nil {
			t.Fatal("no Config")
		}
		if err != nil && len(ps) == 0 {
			t.Fatal("an error without a problem")
		}
		if err == nil && (c.MaxConcurrent < 1 || c.RequestTimeout <= 0 || len(c.Auth) == 0 || c.SessionStore == "" || c.MaxBodyBytes < 1) {
			t.Fatalf("unusable: %+v", c)
		}
		if c.Production() && err == nil && (c.HasAuth(config.AuthNone) || c.Offline() || c.SessionStore == config.StoreMemory) {
			t.Fatalf("open, forgetful or pretending in production: %+v", c)
		}
	})
}

func TestModels(t *testing.T) {
	t.Parallel()
	table := models.BuiltIn()
	for _, tt := range []struct {
		name      string
		pairs     []string
		model     string
		fallbacks []string
		fault     string // the variable; "" for none
	}{
		{"the defaults", nil, table.Default, []string{table.Fallback}, ""},
		{"another model", []string{"MODEL=gemini-3.8-flash"}, "gemini-3.8-flash", []string{table.Fallback}, ""},
		{"the default fallback as the model has none itself", []string{"MODEL=" + table.Fallback}, table.Fallback, nil, ""},
		{"no fallback", []string{"MODEL_FALLBACKS=none"}, table.Default, nil, ""},
		{"a level that the model has", []string{"THINKING_LEVEL=minimal"}, table.Default, []string{table.Fallback}, ""},
		{"a level that the model does not have", []string{"MODEL=gemini-3.8-flash", "THINKING_LEVEL=minimal"}, "gemini-3.8-flash", []string{table.Fallback}, "THINKING_LEVEL"},
		{"a level of a model by its version", []string{"MODEL=gemini-3.8-flash-001", "THINKING_LEVEL=minimal"}, "gemini-3.8-flash-001", []string{table.Fallback}, "THINKING_LEVEL"},
		{"any level of a model that the table does not know", []string{"MODEL=gemini-9", "THINKING_LEVEL=high"}, "gemini-9", []string{table.Fallback}, ""},
		{"no level of anything", []string{"MODEL=gemini-9", "THINKING_LEVEL=most"}, "gemini-9", []string{table.Fallback}, "THINKING_LEVEL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := config.Read(env(tt.pairs...))
			if c.Model != tt.model || !slices.Equal(c.ModelFallbacks, tt.fallbacks) {
				t.Errorf("%s, then %v; want %s, then %v", c.Model, c.ModelFallbacks, tt.model, tt.fallbacks)
			}
			var want []string
			if tt.fault != "" {
				want = []string{tt.fault}
			}
			if got := problems(t, err).Variables(); !slices.Equal(got, want) {
				t.Errorf("at fault: %v, want %v: %v", got, want, err)
			}
		})
	}
}
