package config

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethvargo/go-envconfig"

	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/gcp/gcpsecret"
	"example.com/gatehouse/internal/models"
)

// variables are the environment's, with their defaults. All are text here, so
// that reading never stops at the first that is wrong.
type variables struct {
	Environment string `env:"ENVIRONMENT"`
	KService    string `env:"K_SERVICE"`
	KRevision   string `env:"K_REVISION"`
	IAMEnforced string `env:"IAM_ENFORCED, default=false"`
	Port        string `env:"PORT, default=8080"`
	Project     string `env:"GOOGLE_CLOUD_PROJECT"`

	Model          string `env:"MODEL"`
	ModelFallbacks string `env:"MODEL_FALLBACKS"`
	ThinkingLevel  string `env:"THINKING_LEVEL"`
	ModelsSecret   string `env:"MODELS_TABLE_SECRET"`
	UseVertexAI    string `env:"GOOGLE_GENAI_USE_VERTEXAI, default=false"`
	Location       string `env:"GOOGLE_CLOUD_LOCATION, default=global"`
	GoogleAPIKey   string `env:"GOOGLE_API_KEY"`
	GeminiAPIKey   string `env:"GEMINI_API_KEY"`
	GeminiBaseURL  string `env:"GOOGLE_GEMINI_BASE_URL"`
	VertexBaseURL  string `env:"GOOGLE_VERTEX_BASE_URL"`

	GeminiAPIKeySecret   string `env:"GEMINI_API_KEY_SECRET"`
	AllowedOriginsSecret string `env:"ALLOWED_ORIGINS_SECRET"`
	APIKeysSecret        string `env:"API_KEYS_SECRET"`
	SecretManager        string `env:"SECRET_MANAGER_ENDPOINT"`
	Logging              string `env:"LOGGING_ENDPOINT"`
	Telemetry            string `env:"TELEMETRY_ENDPOINT"`
	AllowedOrigins       string `env:"ALLOWED_ORIGINS"`
	APIKeys              string `env:"API_KEYS"`

	Auth          string `env:"AUTH"`
	OIDCIssuers   string `env:"OIDC_ISSUERS"`
	OIDCAudiences string `env:"OIDC_AUDIENCES"`
	Operators     string `env:"OPERATORS"`

	SessionStore      string `env:"SESSION_STORE"`
	FirestoreDatabase string `env:"FIRESTORE_DATABASE, default=(default)"`
	FirestoreEmulator string `env:"FIRESTORE_EMULATOR_HOST"`
	SessionTTL        string `env:"SESSION_TTL, default=720h"`

	RequestTimeout  string `env:"REQUEST_TIMEOUT, default=30s"`
	MaxBodyBytes    string `env:"MAX_BODY_BYTES, default=131072"`
	MaxOutputTokens string `env:"MAX_OUTPUT_TOKENS, default=4096"`
	MaxConcurrent   string `env:"MAX_CONCURRENT, default=80"`
	MaxInstances    string `env:"MAX_INSTANCES, default=10"`
	HistoryTokens   string `env:"HISTORY_TOKENS, default=32000"`
	MaxToolRounds   string `env:"MAX_TOOL_ROUNDS, default=8"`

	RateLimit              string `env:"RATE_LIMIT_PER_MINUTE, default=60"`
	CallerRateLimit        string `env:"CALLER_RATE_LIMIT_PER_MINUTE, default=600"`
	DailyTokenLimit        string `env:"DAILY_TOKEN_LIMIT, default=0"`
	CallerDailyTokenLimit  string `env:"CALLER_DAILY_TOKEN_LIMIT, default=0"`
	ServiceDailyTokenLimit string `env:"SERVICE_DAILY_TOKEN_LIMIT, default=0"`

	BreakerFailures string `env:"BREAKER_FAILURES, default=5"`
	BreakerCooldown string `env:"BREAKER_COOLDOWN, default=60s"`

	Playground string `env:"PLAYGROUND"`
	AuditLog   string `env:"AUDIT_LOG, default=agent-audit"`
	AuditNames string `env:"AUDIT_NAMES, default=false"`
	LogLevel   string `env:"LOG_LEVEL, default=info"`
	LogContent string `env:"LOG_CONTENT, default=false"`
}

// Read reads and checks the environment that lookup gives, as os.LookupEnv
// does; an empty variable counts as unset. The error is [Problems], and the
// Config beside it holds what could be read.
func Read(lookup func(string) (string, bool)) (*Config, error) {
	var v variables
	nonEmpty := envconfig.LookuperFunc(func(key string) (string, bool) {
		value, ok := lookup(key)
		value = strings.TrimSpace(value)
		return value, ok && value != ""
	})
	if err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: &v, Lookuper: nonEmpty}); err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err) // a mistake in variables' tags
	}
	var r reader
	c := &Config{
		Environment: v.Environment, Service: v.KService, Revision: v.KRevision, Project: v.Project,
		SecretManager: v.SecretManager, LoggingEndpoint: v.Logging, TelemetryEndpoint: v.Telemetry,
		ThinkingLevel: models.Level(v.ThinkingLevel), ModelsSecret: v.ModelsSecret,
		OIDCIssuers: v.OIDCIssuers, OIDCAudiences: list(v.OIDCAudiences),
		FirestoreDatabase: v.FirestoreDatabase, FirestoreEmulator: v.FirestoreEmulator, AuditLog: v.AuditLog,
		AllowedOriginsSecret: v.AllowedOriginsSecret, APIKeysSecret: v.APIKeysSecret, APIKeys: NewSecret(v.APIKeys),

		Port:            int(r.integer("PORT", v.Port, 0, 65535)),
		SessionTTL:      r.duration("SESSION_TTL", v.SessionTTL, time.Second, 10*365*24*time.Hour),
		RequestTimeout:  r.duration("REQUEST_TIMEOUT", v.RequestTimeout, 10*time.Millisecond, time.Hour),
		MaxBodyBytes:    r.integer("MAX_BODY_BYTES", v.MaxBodyBytes, 256, 16<<20),
		MaxOutputTokens: int(r.integer("MAX_OUTPUT_TOKENS", v.MaxOutputTokens, 1, 65536)),
		MaxConcurrent:   int(r.integer("MAX_CONCURRENT", v.MaxConcurrent, 1, 10_000)),
		MaxInstances:    int(r.integer("MAX_INSTANCES", v.MaxInstances, 1, 10_000)),
		HistoryTokens:   int(r.integer("HISTORY_TOKENS", v.HistoryTokens, 0, 2_000_000)),
		MaxToolRounds:   int(r.integer("MAX_TOOL_ROUNDS", v.MaxToolRounds, 0, 64)),

		RateLimitPerMinute:       int(r.integer("RATE_LIMIT_PER_MINUTE", v.RateLimit, 1, 1_000_000)),
		CallerRateLimitPerMinute: int(r.integer("CALLER_RATE_LIMIT_PER_MINUTE", v.CallerRateLimit, 1, 10_000_000)),
		DailyTokenLimit:          r.integer("DAILY_TOKEN_LIMIT", v.DailyTokenLimit, 0, 1e15),
		CallerDailyTokenLimit:    r.integer("CALLER_DAILY_TOKEN_LIMIT", v.CallerDailyTokenLimit, 0, 1e15),
		ServiceDailyTokenLimit:   r.integer("SERVICE_DAILY_TOKEN_LIMIT", v.ServiceDailyTokenLimit, 0, 1e15),

		BreakerFailures: int(r.integer("BREAKER_FAILURES", v.BreakerFailures, 1, 1000)),
		BreakerCooldown: r.duration("BREAKER_COOLDOWN", v.BreakerCooldown, time.Millisecond, time.Hour),
		LogContent:      r.boolean("LOG_CONTENT", v.LogContent),
		AuditNames:      r.boolean("AUDIT_NAMES", v.AuditNames),
	}
	r.environment(c)
	r.models(c, &v)
	r.gemini(c, &v)
	r.secrets(c)
	r.origins(c, v.AllowedOrigins)
	r.auth(c, &v)
	r.store(c, v.SessionStore)
	c.Playground = !c.Production()
	if v.Playground != "" {
		c.Playground = r.boolean("PLAYGROUND", v.Playground)
	}
	if err := c.LogLevel.UnmarshalText([]byte(v.LogLevel)); err != nil {
		c.LogLevel = slog.LevelInfo
		r.problem("LOG_LEVEL", "is not debug, info, warn or error")
	}
	if len(c.AuditLog) > maxAuditLogName || !auditLogName.MatchString(c.AuditLog) {
		r.problem("AUDIT_LOG", "is not a log's name: letters, digits, and - _ . /, at most 512")
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
		return c, r.problems
	}
	return c, nil
}

// A reader turns text into values and gathers what is wrong with it.
type reader struct{ problems Problems }

func (r *reader) problem(variable, format string, args ...any) {
	r.problems = append(r.problems, Problem{variable, fmt.Sprintf(format, args...)})
}

func (r *reader) integer(name, text string, least, most int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		r.problem(name, "%s is not a whole number; set one from %d to %d", shape(text), least, most)
	case n < least || n > most:
		r.problem(name, "%d is out of range; set a whole number from %d to %d", n, least, most)
	}
	return n
}

func (r *reader) duration(name, text string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		r.problem(name, "%s is not a duration; set one with its unit, such as 30s, 5m or 720h", shape(text))
	case d < least || d > most:
		r.problem(name, "%v is out of range; set a duration from %v to %v", d, least, most)
	}
	return d
}

func (r *reader) boolean(name, text string) bool {
	b, err := strconv.ParseBool(text)
	if err != nil {
		r.problem(name, "%s is neither true nor false", shape(text))
	}
	return b
}

// shape shows a value that is no secret, shortened.
func shape(text string) string {
	if len(text) > 40 {
		return fmt.Sprintf("a text of %d bytes", len(text))
	}
	return strconv.Quote(text)
}

func list(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

var (
	environmentName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	modelName       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/@-]*$`)
	auditLogName    = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
)

// The most bytes of these names. In the expressions they would unroll into
// hundreds of states, milliseconds of every cold start.
const (
	maxModelName    = 128
	maxAuditLogName = 512
)

func (r *reader) environment(c *Config) {
	if c.Environment == "" {
		c.Environment = "development"
		if c.Service != "" {
			c.Environment = "production"
		}
	}
	if !environmentName.MatchString(c.Environment) {
		r.problem("ENVIRONMENT", "%s is not a lower-case word such as production or development", shape(c.Environment))
	}
}

// maxFallbacks bounds MODEL_FALLBACKS.
const maxFallbacks = 5

// noFallbacks is the value of MODEL_FALLBACKS by which no model stands in: an
// empty variable is an unset one.
const noFallbacks = "none"

// models reads which models answer. The defaults are the table's.
func (r *reader) models(c *Config, v *variables) {
	table := models.BuiltIn()
	c.Model = cmp.Or(v.Model, table.Default)
	switch v.ModelFallbacks {
	case "":
		if c.Model != table.Fallback {
			c.ModelFallbacks = []string{table.Fallback}
		}
	case noFallbacks:
	default:
		c.ModelFallbacks = list(v.ModelFallbacks)
	}
	for _, name := range append([]string{c.Model}, c.ModelFallbacks...) {
		if len(name) > maxModelName || !modelName.MatchString(name) {
			variable := "MODEL_FALLBACKS"
			if name == c.Model {
				variable = "MODEL"
			}
			r.problem(variable, "%s is not a model's name; set one such as %s", shape(name), table.Default)
		}
	}
	if len(c.ModelFallbacks) > maxFallbacks {
		r.problem("MODEL_FALLBACKS", "names %d models; at most %d share what is left of a request's time", len(c.ModelFallbacks), maxFallbacks)
	}
	for i, name := range c.ModelFallbacks {
		if name == c.Model || slices.Contains(c.ModelFallbacks[:i], name) {
			r.problem("MODEL_FALLBACKS", "%s is asked before already; name each model once", shape(name))
		}
	}
	if c.ThinkingLevel == "" {
		return
	}
	// Of a model that the table does not know, any level may be right.
	profile := table.Model(c.Model)
	switch {
	case !slices.Contains(models.Levels(), c.ThinkingLevel):
		r.problem("THINKING_LEVEL", "%s is not a level; set one of %v", shape(v.ThinkingLevel), models.Levels())
	case profile != nil && !slices.Contains(profile.Levels(), c.ThinkingLevel):
		r.problem("THINKING_LEVEL", "%s is not a level of %s; set one of %v, or unset it", c.ThinkingLevel, c.Model, profile.Levels())
	}
}

func (r *reader) gemini(c *Config, v *variables) {
	c.Gemini = Gemini{
		VertexAI: r.boolean("GOOGLE_GENAI_USE_VERTEXAI", v.UseVertexAI), Location: v.Location,
		APIKey: NewSecret(v.GoogleAPIKey), APIKeySecret: v.GeminiAPIKeySecret, BaseURL: v.GeminiBaseURL,
	}
	if c.Gemini.APIKey.IsZero() {
		c.Gemini.APIKey = NewSecret(v.GeminiAPIKey)
	}
	baseURL := "GOOGLE_GEMINI_BASE_URL"
	if c.Gemini.VertexAI {
		c.Gemini.BaseURL, baseURL = v.VertexBaseURL, "GOOGLE_VERTEX_BASE_URL"
	}
	if u, err := url.Parse(c.Gemini.BaseURL); c.Gemini.BaseURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		r.problem(baseURL, "is not the URL of a server; set one such as https://host/")
	}
	if !c.Gemini.APIKey.IsZero() && c.Gemini.APIKeySecret != "" {
		r.problem("GEMINI_API_KEY_SECRET", "is set beside a key in plain; unset one of them")
	}
	switch {
	case !c.Offline():
	case c.Production():
		r.problem("GEMINI_API_KEY_SECRET", "no model is set up, and the offline one is not for production; set GOOGLE_GENAI_USE_VERTEXAI=true, or name the secret that holds a key")
	case c.Gemini.BaseURL != "":
		r.problem("GEMINI_API_KEY", "is not set, so %s would not be used; set any key that the server there takes", baseURL)
	}
}

func (r *reader) secrets(c *Config) {
	for variable, name := range map[string]string{
		"MODELS_TABLE_SECRET": c.ModelsSecret, "GEMINI_API_KEY_SECRET": c.Gemini.APIKeySecret, "ALLOWED_ORIGINS_SECRET": c.AllowedOriginsSecret, "API_KEYS_SECRET": c.APIKeysSecret,
	} {
		if name == "" {
			continue
		}
		if err := gcpsecret.CheckName(name); err != nil {
			r.problem(variable, "is not a secret version's name; set projects/PROJECT/secrets/SECRET/versions/latest")
		}
	}
	for variable, endpoint := range map[string]string{
		"SECRET_MANAGER_ENDPOINT": c.SecretManager, "LOGGING_ENDPOINT": c.LoggingEndpoint, "TELEMETRY_ENDPOINT": c.TelemetryEndpoint,
	} {
		host, port, err := net.SplitHostPort(endpoint)
		n, portErr := strconv.ParseUint(port, 10, 16)
		if endpoint != "" && (err != nil || portErr != nil || host == "" || n == 0) {
			r.problem(variable, "%s is not host:port, such as secretmanager.europe-west1.rep.googleapis.com:443", shape(endpoint))
		}
	}
}

func (r *reader) origins(c *Config, text string) {
	if text == "" {
		return
	}
	if c.AllowedOriginsSecret != "" {
		r.problem("ALLOWED_ORIGINS", "is set beside ALLOWED_ORIGINS_SECRET; unset one of them")
	}
	origins, err := ParseOrigins(text, c.Production())
	if err != nil {
		r.problem("ALLOWED_ORIGINS", "%v", err)
	}
	c.AllowedOrigins = origins
}

// ParseOrigins reads a list of browser origins, separated by commas or white
// space: scheme://host or scheme://host:port, exactly as a browser sends them.
// strict refuses http. No wildcard is ever taken.
func ParseOrigins(text string, strict bool) ([]string, error) {
	items := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
	for i, item := range items {
		u, err := url.Parse(item)
		switch {
		case strings.Contains(item, "*"):
			return nil, fmt.Errorf("a wildcard would let every page call with its visitor's credentials; name each origin")
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || item != u.Scheme+"://"+u.Host || strings.HasSuffix(u.Host, ":"):
			return nil, fmt.Errorf("origin %d is not scheme://host or scheme://host:port, without a path or a slash at the end", i+1)
		case item != strings.ToLower(item):
			return nil, fmt.Errorf("origin %d has capital letters; browsers send origins in lower case", i+1)
		case strict && u.Scheme != "https":
			return nil, fmt.Errorf("origin %d is http, which anybody on the way can speak for; use https", i+1)
		}
	}
	return items, nil
}

func (r *reader) auth(c *Config, v *variables) {
	c.Auth = list(v.Auth)
	if len(c.Auth) == 0 {
		c.Auth = []string{AuthNone}
		if c.Production() {
			c.Auth = []string{AuthIAM}
		} else if c.Service != "" {
			r.problem("AUTH", "is not set on Cloud Run (K_SERVICE), where ENVIRONMENT=%s would leave the service open; set iam, oidc or api_key, or none if everybody may call", c.Environment)
		}
	}
	for i, mode := range c.Auth {
		switch {
		case !slices.Contains([]string{AuthIAM, AuthOIDC, AuthAPIKey, AuthNone}, mode):
			r.problem("AUTH", "%s is not a mode; list some of iam, oidc, api_key, none", shape(mode))
		case slices.Contains(c.Auth[:i], mode):
			r.problem("AUTH", "%s is listed twice", mode)
		}
	}
	if c.HasAuth(AuthNone) && c.Production() {
		r.problem("AUTH", "none is for development only; use iam, oidc or api_key")
	}
	enforced := r.boolean("IAM_ENFORCED", v.IAMEnforced)
	if c.HasAuth(AuthIAM) && !(enforced && c.Service != "") {
		r.problem("IAM_ENFORCED", "AUTH has iam, which believes what Cloud Run's own check has verified; it only works on Cloud Run (K_SERVICE) with IAM_ENFORCED=true, which says that the check is on")
	}
	if c.HasAuth(AuthOIDC) && c.OIDCIssuers == "" {
		r.problem("OIDC_ISSUERS", "AUTH has oidc; set at least one issuer, as https://issuer|audience")
	}
	if c.OIDCIssuers != "" {
		if _, err := auth.ParseIssuers(c.OIDCIssuers, c.OIDCAudiences, !c.Production()); err != nil {
			r.problem("OIDC_ISSUERS", "%v", err)
		}
	}
	var err error
	if c.Operators, err = auth.ParseOperators(list(v.Operators), !c.Production()); err != nil {
		r.problem("OPERATORS", "%v", err)
	}
	if !c.APIKeys.IsZero() && c.APIKeysSecret != "" {
		r.problem("API_KEYS", "is set beside API_KEYS_SECRET; unset one of them")
	}
	if !c.APIKeys.IsZero() {
		if keys, err := auth.ParseKeys([]byte(c.APIKeys.Reveal())); err != nil {
			r.problem("API_KEYS", "%v", err)
		} else if keys.Len() == 0 {
			r.problem("API_KEYS", "the list has no entry; unset it, or add one (go run ./cmd/key NAME makes it)")
		}
	}
	if c.HasAuth(AuthAPIKey) && c.APIKeys.IsZero() && c.APIKeysSecret == "" {
		r.problem("API_KEYS_SECRET", "AUTH has api_key; name the secret that holds the keys (go run ./cmd/key NAME makes an entry)")
	}
}

func (r *reader) store(c *Config, text string) {
	c.SessionStore = text
	if c.SessionStore == "" {
		c.SessionStore = StoreMemory
		if c.Production() {
			c.SessionStore = StoreFirestore
		}
	}
	switch c.SessionStore {
	case StoreFirestore:
		if c.Project == "" && c.FirestoreEmulator == "" && c.Service == "" {
			r.problem("GOOGLE_CLOUD_PROJECT", "is not set, and outside of Google Cloud no metadata server tells it; set the project that has the Firestore database")
		}
	case StoreMemory:
		if c.Production() {
			r.problem("SESSION_STORE", "memory forgets every session with its instance and is not for production; use firestore")
		}
	default:
		r.problem("SESSION_STORE", "%s is neither firestore nor memory", shape(c.SessionStore))
	}
}
