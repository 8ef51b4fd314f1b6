// Package config is everything about a deployment that is not code: read from
// the environment once, checked as a whole, so that one error names every
// problem and its mend. What is secret or changes without a deploy comes from
// Secret Manager; the environment then only names it.
//
// What is wrong is reported as a whole and at the start, since each deployment of a wrong
// variable costs minutes and a startup probe that fails. A problem names its variable and
// what to set instead, and shows a value only where it cannot be a secret: problems are
// logged, and the names of the variables are answered to anybody.
//
// Defaults depend on one question, whether this is production ([Config.Production]). Cloud
// Run counts as production unless ENVIRONMENT names another one, so that forgetting a
// variable closes the service and never opens it.
package config

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/models"
)

// A Config is a checked configuration. It does not change. Fields without a tag are
// derived from more than one variable, or parsed, by [Read].
//
// It is safe for concurrent use, since nothing writes to it after Read; who gets a list
// from it must not either. Sizes are in bytes, limits in calls a minute and model tokens a
// day (UTC), and those on tokens are off at 0. MaxConcurrent and the breaker's settings are
// of each instance; the limits on calls and tokens hold across instances.
type Config struct {
	Environment string `env:"ENVIRONMENT"`
	Service     string `env:"K_SERVICE"`  // Cloud Run's name of the service; "" elsewhere
	Revision    string `env:"K_REVISION"` // "" elsewhere
	Port        int    `env:"PORT, default=8080"`
	Project     string `env:"GOOGLE_CLOUD_PROJECT"` // "" when the metadata server must be asked

	Model          string `env:"MODEL"`
	ModelFallbacks []string
	ModelsAllowed  []string     // what a request may name beside Model
	ThinkingLevel  models.Level `env:"THINKING_LEVEL"`      // "" leaves it to the agent and the model
	ModelsSecret   string       `env:"MODELS_TABLE_SECRET"` // a newer table of models
	Gemini         Gemini

	AllowedOrigins       []string
	AllowedOriginsSecret string `env:"ALLOWED_ORIGINS_SECRET"`
	APIKeys              Secret `env:"API_KEYS"`
	APIKeysSecret        string `env:"API_KEYS_SECRET"`
	SecretManager        string `env:"SECRET_MANAGER_ENDPOINT"` // "" is Google's own, as of the two below
	LoggingEndpoint      string `env:"LOGGING_ENDPOINT"`
	TelemetryEndpoint    string `env:"TELEMETRY_ENDPOINT"`

	Auth          []string // modes, in the order they are tried
	OIDCIssuers   string   `env:"OIDC_ISSUERS"`
	OIDCAudiences []string
	Operators     access.Operators

	SessionStore      string        `env:"SESSION_STORE"` // "memory" or "firestore"
	FirestoreDatabase string        `env:"FIRESTORE_DATABASE, default=(default)"`
	FirestoreEmulator string        `env:"FIRESTORE_EMULATOR_HOST"` // "" for the real service
	SessionTTL        time.Duration `env:"SESSION_TTL, default=720h"`
	ApprovalTTL       time.Duration `env:"APPROVAL_TTL, default=72h"` // how long a run waits for a person

	FilesBucket     string   `env:"FILES_BUCKET"` // where files of sessions are kept; "": nowhere
	FileBuckets     []string // that a request's gs:// may name
	FileTypes       files.Types
	MaxFileBytes    int64  `env:"MAX_FILE_BYTES, default=7340032"` // of all files of a request; 0: none are accepted
	StorageEndpoint string `env:"STORAGE_EMULATOR_HOST"`           // "" for the real service

	RequestTimeout  time.Duration `env:"REQUEST_TIMEOUT, default=30s"`
	MaxBodyBytes    int64         `env:"MAX_BODY_BYTES, default=131072"`
	MaxOutputTokens int           `env:"MAX_OUTPUT_TOKENS, default=4096"`
	MaxConcurrent   int           `env:"MAX_CONCURRENT, default=80"`
	MaxInstances    int           `env:"MAX_INSTANCES, default=10"` // an instance's share when limits cannot be counted together
	HistoryTokens   int           `env:"HISTORY_TOKENS, default=32000"`
	MaxToolRounds   int           `env:"MAX_TOOL_ROUNDS, default=8"`

	RateLimitPerMinute       int   `env:"RATE_LIMIT_PER_MINUTE, default=60"`
	CallerRateLimitPerMinute int   `env:"CALLER_RATE_LIMIT_PER_MINUTE, default=600"`
	DailyTokenLimit          int64 `env:"DAILY_TOKEN_LIMIT, default=0"` // 0: none, as of the two below
	CallerDailyTokenLimit    int64 `env:"CALLER_DAILY_TOKEN_LIMIT, default=0"`
	ServiceDailyTokenLimit   int64 `env:"SERVICE_DAILY_TOKEN_LIMIT, default=0"`

	BreakerFailures int           `env:"BREAKER_FAILURES, default=5"`
	BreakerCooldown time.Duration `env:"BREAKER_COOLDOWN, default=60s"`

	RunTimeout        time.Duration `env:"RUN_TIMEOUT, default=25m"`        // of a run in the background
	MaxBackgroundRuns int           `env:"MAX_BACKGROUND_RUNS, default=10"` // of an owner at once
	TasksQueue        string        `env:"TASKS_QUEUE"`                     // "": no queue, unless the process has one
	TasksAccount      string        `env:"TASKS_ACCOUNT"`
	TasksEndpoint     string        `env:"TASKS_ENDPOINT"` // "" is Google's own
	SchedulesAccount  string        `env:"SCHEDULES_ACCOUNT"`
	ServiceURL        string        `env:"SERVICE_URL"` // "" when the metadata server must be asked
	WebhookHosts      []string      // each host or host:port; none: no webhooks
	WebhookSecrets    string        `env:"WEBHOOK_SECRETS_SECRET"`

	Doors    []string // the protocols that are served, of those that the program names; none: all
	MCPTools bool     `env:"MCP_TOOLS, default=false"` // whether MCP clients may call the agent's own tools

	CardKeys       Secret `env:"CARD_KEYS"` // that sign A2A's card; none: it is not signed
	CardKeysSecret string `env:"CARD_KEYS_SECRET"`
	CardURL        string `env:"CARD_URL"`      // the service's own, in the card; "": SERVICE_URL, or that at which it is asked
	CardKeysURL    string `env:"CARD_KEYS_URL"` // of their public halves; "": the signatures name none

	ConversationHeaders []string // headers by which a chat completion names its session
	AllowInstructions   bool     `env:"ALLOW_INSTRUCTIONS, default=false"` // whether OpenAI's clients may instruct the agent

	Playground bool
	AuditLog   string     `env:"AUDIT_LOG, default=agent-audit"`
	AuditNames bool       `env:"AUDIT_NAMES, default=false"` // whether the audit names callers, instead of hashing them
	LogLevel   slog.Level `env:"LOG_LEVEL, default=info"`
	LogContent bool       `env:"LOG_CONTENT, default=false"`
}

// Gemini is how to reach the model.
type Gemini struct {
	// Model Armor's templates for prompts and for answers; "" for none.
	ArmorPrompt   string `env:"MODEL_ARMOR_PROMPT_TEMPLATE"`
	ArmorResponse string `env:"MODEL_ARMOR_RESPONSE_TEMPLATE"`
	VertexAI      bool   `env:"GOOGLE_GENAI_USE_VERTEXAI, default=false"`
	Location      string `env:"GOOGLE_CLOUD_LOCATION, default=global"`
	APIKey        Secret `env:"GEMINI_API_KEY"`
	APIKeySecret  string `env:"GEMINI_API_KEY_SECRET"`
	BaseURL       string `env:"GOOGLE_GEMINI_BASE_URL"`
}

// The modes of AUTH.
const (
	AuthIAM    = "iam"
	AuthOIDC   = "oidc"
	AuthAPIKey = "api_key"
	AuthNone   = "none"
)

// The values of SESSION_STORE.
const (
	StoreMemory    = "memory"
	StoreFirestore = "firestore"
)

// Production reports whether the environment is one that must not be open, forgetful or
// pretending: every one but development and test. Other names, such as staging, count as
// production: what a team shares is reached by others.
func (c *Config) Production() bool {
	return c.Environment != "development" && c.Environment != "test"
}

// Offline reports whether no model is configured, so that the offline stand-in answers.
// [Read] refuses production without a model.
func (c *Config) Offline() bool {
	return !c.Gemini.VertexAI && c.Gemini.APIKey.IsZero() && c.Gemini.APIKeySecret == ""
}

// HasAuth reports whether mode is one of AUTH's.
func (c *Config) HasAuth(mode string) bool { return slices.Contains(c.Auth, mode) }

// NoDoors is the value of DOORS by which no protocol is served but the gate's own.
const NoDoors = "none"

// HasDoor reports whether the protocol of this name is served. Whether the program has such
// a door is not known here.
func (c *Config) HasDoor(name string) bool {
	return len(c.Doors) == 0 || slices.Contains(c.Doors, name)
}

// A Problem is one thing wrong with the environment.
type Problem struct {
	Variable string
	Issue    string // with its mend; never a secret's value
}

// Problems is the error of [Read]: everything that is wrong.
type Problems []Problem

func (ps Problems) Error() string {
	var b strings.Builder
	b.WriteString("the configuration has problems:")
	for _, p := range ps {
		b.WriteString("\n  " + p.Variable + ": " + p.Issue)
	}
	return b.String()
}

// Variables names those at fault, each once. Unlike Issue, which may show a value, they may
// be answered to anybody.
func (ps Problems) Variables() []string {
	var names []string
	for _, p := range ps {
		if !slices.Contains(names, p.Variable) {
			names = append(names, p.Variable)
		}
	}
	return names
}
