// Package config is everything about a deployment that is not code: read from
// the environment once, checked as a whole, so that one error names every
// problem and its mend. What is secret or changes without a deploy comes from
// Secret Manager; the environment then only names it.
package config

import (
	"log/slog"
	"strings"
	"time"

	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/models"
)

// A Config is a checked configuration. It does not change.
type Config struct {
	Environment string
	Service     string // K_SERVICE, Cloud Run's name of the service; "" elsewhere
	Revision    string // K_REVISION; "" elsewhere
	Port        int    // of the local run
	Project     string // GOOGLE_CLOUD_PROJECT; "" when it must be asked of the metadata server

	Model          string
	ModelFallbacks []string
	ThinkingLevel  models.Level // "" leaves it to the agent and the model
	ModelsSecret   string       // MODELS_TABLE_SECRET: a newer table of models
	Gemini         Gemini

	AllowedOrigins       []string
	AllowedOriginsSecret string
	APIKeys              Secret
	APIKeysSecret        string
	SecretManager        string // endpoint; "" is the service's own
	LoggingEndpoint      string
	TelemetryEndpoint    string

	Auth          []string // modes, in the order they are tried
	OIDCIssuers   string
	OIDCAudiences []string
	Operators     auth.Operators

	SessionStore      string // "memory" or "firestore"
	FirestoreDatabase string
	FirestoreEmulator string // FIRESTORE_EMULATOR_HOST; "" for the real service
	SessionTTL        time.Duration

	RequestTimeout  time.Duration
	MaxBodyBytes    int64
	MaxOutputTokens int
	MaxConcurrent   int
	MaxInstances    int // of the deployment: an instance's share when limits cannot be counted together
	HistoryTokens   int
	MaxToolRounds   int

	RateLimitPerMinute       int
	CallerRateLimitPerMinute int
	DailyTokenLimit          int64 // 0: none
	CallerDailyTokenLimit    int64 // 0: none
	ServiceDailyTokenLimit   int64 // 0: none

	BreakerFailures int
	BreakerCooldown time.Duration

	Playground bool
	AuditLog   string
	AuditNames bool // whether the audit names callers, rather than hashing them
	LogLevel   slog.Level
	LogContent bool
}

// Gemini says how to reach the model.
type Gemini struct {
	VertexAI     bool
	Location     string
	APIKey       Secret
	APIKeySecret string
	BaseURL      string
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

// Production reports whether the environment is one that must not be open,
// forgetful or pretending: every one but development and test.
func (c *Config) Production() bool {
	return c.Environment != "development" && c.Environment != "test"
}

// Offline reports whether no model is configured, so that the offline stand-in
// answers.
func (c *Config) Offline() bool {
	return !c.Gemini.VertexAI && c.Gemini.APIKey.IsZero() && c.Gemini.APIKeySecret == ""
}

// HasAuth reports whether mode is one of AUTH's.
func (c *Config) HasAuth(mode string) bool {
	for _, m := range c.Auth {
		if m == mode {
			return true
		}
	}
	return false
}

// A Problem is one thing wrong with the environment.
type Problem struct {
	Variable string
	Issue    string // with its mend; never a secret's value
}

// Problems is the error that [Read] gives: everything that is wrong.
type Problems []Problem

func (ps Problems) Error() string {
	var b strings.Builder
	b.WriteString("the configuration has problems:")
	for _, p := range ps {
		b.WriteString("\n  " + p.Variable + ": " + p.Issue)
	}
	return b.String()
}

// Variables names those at fault, each once.
func (ps Problems) Variables() []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range ps {
		if !seen[p.Variable] {
			seen[p.Variable] = true
			names = append(names, p.Variable)
		}
	}
	return names
}
