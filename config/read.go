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

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/jws"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/internal/secretname"
)

// variables are those of a [Config], and what it derives its other fields from.
//
// Fields here are texts that Read parses or compares, and none of them is kept: what is
// left of them is in Config.
type variables struct {
	Config

	IAMEnforced    bool   `env:"IAM_ENFORCED, default=false"`
	ModelFallbacks string `env:"MODEL_FALLBACKS"`
	ModelsAllowed  string `env:"MODELS_ALLOWED"`
	GoogleAPIKey   Secret `env:"GOOGLE_API_KEY"`
	VertexBaseURL  string `env:"GOOGLE_VERTEX_BASE_URL"`
	AllowedOrigins string `env:"ALLOWED_ORIGINS"`
	Auth           string `env:"AUTH"`
	OIDCAudiences  string `env:"OIDC_AUDIENCES"`
	FileBuckets    string `env:"FILE_BUCKETS"`
	FileTypes      string `env:"FILE_TYPES, default=image/*,application/pdf,audio/*,text/*"`
	Doors          string `env:"DOORS"`
	Conversations  string `env:"CONVERSATION_HEADERS"`
	Operators      string `env:"OPERATORS"`
	Playground     string `env:"PLAYGROUND"`
	WebhookHosts   string `env:"WEBHOOK_HOSTS"`
}

// checks returns what is checked of a variable's text before it becomes a value. The
// greatest values keep the sums and buffers that are computed from them far from their own
// limits; the least durations are short enough for tests. It is a function and not a
// variable, so that a program that imports the package makes nothing before Read.
func checks() map[string]check {
	return map[string]check{
		"PORT":                         whole(0, 65535),
		"SESSION_TTL":                  span(time.Second, 10*365*24*time.Hour),
		"APPROVAL_TTL":                 span(time.Second, 365*24*time.Hour),
		"REQUEST_TIMEOUT":              span(10*time.Millisecond, time.Hour),
		"MAX_BODY_BYTES":               whole(256, 16<<20),
		"MAX_FILE_BYTES":               whole(0, 20<<20), // in base64 within the 32 MiB of a request to Cloud Run
		"MAX_OUTPUT_TOKENS":            whole(1, 65536),
		"MAX_CONCURRENT":               whole(1, 10_000),
		"MAX_INSTANCES":                whole(1, 10_000),
		"HISTORY_TOKENS":               whole(0, 2_000_000),
		"MAX_TOOL_ROUNDS":              whole(0, 64),
		"RATE_LIMIT_PER_MINUTE":        whole(1, 1_000_000),
		"CALLER_RATE_LIMIT_PER_MINUTE": whole(1, 10_000_000),
		"DAILY_TOKEN_LIMIT":            whole(0, 1e15),
		"CALLER_DAILY_TOKEN_LIMIT":     whole(0, 1e15),
		"SERVICE_DAILY_TOKEN_LIMIT":    whole(0, 1e15),
		"RUN_TIMEOUT":                  span(10*time.Millisecond, maxRunTimeout),
		"MAX_BACKGROUND_RUNS":          whole(1, 10_000),
		"BREAKER_FAILURES":             whole(1, 1000),
		"BREAKER_COOLDOWN":             span(time.Millisecond, time.Hour),
		"IAM_ENFORCED":                 boolean,
		"GOOGLE_GENAI_USE_VERTEXAI":    boolean,
		"PLAYGROUND":                   boolean,
		"AUDIT_NAMES":                  boolean,
		"MCP_TOOLS":                    boolean,
		"ALLOW_INSTRUCTIONS":           boolean,
		"LOG_CONTENT":                  boolean,
		"LOG_LEVEL":                    level,
	}
}

// A check returns text in the form that its type is decoded from, and what is wrong
// with it; of wrong text it returns one that can be decoded.
type check func(text string) (valid, issue string)

// whole accepts whole numbers from least to most, both included.
func whole(least, most int64) check {
	return func(text string) (string, string) {
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil:
			return "0", fmt.Sprintf("%s is not a whole number; set one from %d to %d", shape(text), least, most)
		case n < least || n > most:
			return "0", fmt.Sprintf("%d is out of range; set a whole number from %d to %d", n, least, most)
		}
		return strconv.FormatInt(n, 10), ""
	}
}

// span accepts Go durations from least to most, both included. A number without a unit is
// refused: 30 could be meant as seconds or milliseconds.
func span(least, most time.Duration) check {
	return func(text string) (string, string) {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return "0", fmt.Sprintf("%s is not a duration; set one with its unit, such as 30s, 5m or 720h", shape(text))
		case d < least || d > most:
			return "0", fmt.Sprintf("%v is out of range; set a duration from %v to %v", d, least, most)
		}
		return text, ""
	}
}

// boolean accepts what strconv.ParseBool does, and returns "true" or "false" for it.
func boolean(text string) (string, string) {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return "false", shape(text) + " is neither true nor false"
	}
	return strconv.FormatBool(b), ""
}

// level accepts the levels of package slog, of any case.
func level(text string) (string, string) {
	if new(slog.Level).UnmarshalText([]byte(text)) != nil {
		return "info", "is not debug, info, warn or error"
	}
	return text, ""
}

// Read reads and checks the environment by lookup, such as os.LookupEnv; an empty
// variable counts as unset. The error is [Problems], and the Config beside it holds
// what could be read.
//
// It reads no file and no network: a secret is only named here. A Config that comes with
// problems is for logging and for the handlers that report them, not for serving. The
// Config is nil only where the tags of this package are wrong, which its tests exclude.
func Read(lookup func(string) (string, bool)) (*Config, error) {
	var r reader
	var v variables
	all := checks()
	err := envconfig.ProcessWith(context.Background(), &envconfig.Config{
		Target: &v,
		Lookuper: envconfig.LookuperFunc(func(key string) (string, bool) {
			value, ok := lookup(key)
			value = strings.TrimSpace(value)
			return value, ok && value != ""
		}),
		// By itself envconfig stops at the first wrong value.
		Mutators: []envconfig.Mutator{envconfig.MutatorFunc(func(_ context.Context, name, _, _, text string) (string, bool, error) {
			if check, ok := all[name]; ok {
				var issue string
				if text, issue = check(text); issue != "" {
					r.problem(name, "%s", issue)
				}
			}
			return text, false, nil
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err) // a mistake in the tags
	}
	c := &v.Config
	c.OIDCAudiences = list(v.OIDCAudiences)
	r.doors(c, v.Doors)
	c.ConversationHeaders = list(v.Conversations)
	r.conversationHeaders(c.ConversationHeaders)
	// The environment comes before all that asks whether this is production.
	r.environment(c)
	r.models(c, v.ModelFallbacks, v.ModelsAllowed)
	r.gemini(c, &v)
	r.secrets(c)
	r.cardKeys(c)
	r.origins(c, v.AllowedOrigins)
	r.auth(c, &v)
	r.store(c)
	r.files(c, &v)
	r.background(c, v.WebhookHosts)
	c.Playground = !c.Production()
	if v.Playground != "" {
		c.Playground = v.Playground == "true"
	}
	if len(c.AuditLog) > maxAuditLogName || !auditLogName.MatchString(c.AuditLog) {
		r.problem("AUDIT_LOG", "is not a log's name: letters, digits, and - _ . /, at most 512")
	}
	if len(r.problems) > 0 {
		// Some checks run in the order of a map; sorted, one environment always has one error.
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
		return c, r.problems
	}
	return c, nil
}

// doors reads DOORS, whose names are compared with what the program has by who serves
// them.
func (r *reader) doors(c *Config, text string) {
	c.Doors = list(text)
	for _, name := range c.Doors {
		if name == NoDoors && len(c.Doors) > 1 {
			r.problem("DOORS", "lists %s beside others; set it by itself, or the names of those that are served", NoDoors)
			return
		}
	}
}

// A reader gathers what is wrong.
type reader struct{ problems Problems }

// problem records what is wrong with a variable. It must not contain the value of a secret:
// problems are logged at the start.
func (r *reader) problem(variable, format string, args ...any) {
	r.problems = append(r.problems, Problem{variable, fmt.Sprintf(format, args...)})
}

// shape shows a value that is no secret, shortened. What is longer than 40 bytes is only
// counted: it may be a key that was put into the wrong variable.
func shape(text string) string {
	if len(text) > 40 {
		return fmt.Sprintf("a text of %d bytes", len(text))
	}
	return strconv.Quote(text)
}

// conversationHeaders checks the names of headers that name a session. They must begin with
// X-, so that no header with a meaning, such as Authorization or Cookie, becomes a
// session's name.
func (r *reader) conversationHeaders(names []string) {
	for _, name := range names {
		if !matches(headerName, name) || len(name) > 64 {
			r.problem("CONVERSATION_HEADERS", "must list names of headers that begin with X-, such as X-OpenWebUI-Chat-Id")
			return
		}
	}
}

// list splits a list at its commas. White space around an item is ignored, as are empty
// items, so that a list may end with a comma.
func list(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// The forms of names that are always set, without their lengths.
var (
	environmentName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	modelName       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/@-]*$`)
	auditLogName    = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
)

// The most bytes of these names. In the expressions they would unroll into
// hundreds of states, milliseconds of every cold start.
const (
	maxEnvironmentName = 32
	maxModelName       = 128
	maxAuditLogName    = 512
	maxBucketName      = 222
)

func isModelName(name string) bool { return len(name) <= maxModelName && modelName.MatchString(name) }

func isBucketName(name string) bool { return len(name) <= maxBucketName && matches(bucketName, name) }

// files reads what files a request may carry, and where they are kept.
func (r *reader) files(c *Config, v *variables) {
	c.FileBuckets = list(v.FileBuckets)
	for _, name := range c.FileBuckets {
		if !isBucketName(name) {
			r.problem("FILE_BUCKETS", "%s is not the name of a bucket; name buckets without gs:// and without a path", shape(name))
		}
	}
	if c.FilesBucket != "" && !isBucketName(c.FilesBucket) {
		r.problem("FILES_BUCKET", "%s is not the name of a bucket; name one without gs:// and without a path", shape(c.FilesBucket))
	}
	// The service's identity reads both kinds of buckets, and a gs:// address has no owner:
	// what keeps callers apart is that they cannot name this one.
	if c.FilesBucket != "" && slices.Contains(c.FileBuckets, c.FilesBucket) {
		r.problem("FILE_BUCKETS", "holds FILES_BUCKET, so that callers could name other callers' files; take it out")
	}
	var err error
	if c.FileTypes, err = files.ParseTypes(v.FileTypes); err != nil {
		r.problem("FILE_TYPES", "%v", err)
	}
}

// environment reads ENVIRONMENT. Only Cloud Run sets K_SERVICE, so a deployment that does not
// set ENVIRONMENT counts as production, and a laptop as development.
func (r *reader) environment(c *Config) {
	if c.Environment == "" {
		c.Environment = "development"
		if c.Service != "" {
			c.Environment = "production"
		}
	}
	if len(c.Environment) > maxEnvironmentName || !environmentName.MatchString(c.Environment) {
		r.problem("ENVIRONMENT", "%s is not a lower-case word such as production or development", shape(c.Environment))
	}
}

// maxFallbacks bounds MODEL_FALLBACKS.
const maxFallbacks = 5

// maxAllowed bounds MODELS_ALLOWED: each model has a breaker and series of metrics.
const maxAllowed = 16

// noFallbacks is the value of MODEL_FALLBACKS by which no model stands in: an
// empty variable is an unset one.
const noFallbacks = "none"

// models reads which models answer. The defaults are the table's. A name that the table
// does not know is allowed, since models appear more often than releases: its requests
// carry the least that any model takes, and its costs are unknown. The default fallback is
// left out where MODEL is that model.
func (r *reader) models(c *Config, fallbacks, allowed string) {
	table := models.BuiltIn()
	c.Model = cmp.Or(c.Model, table.Default)
	switch fallbacks {
	case "":
		if c.Model != table.Fallback {
			c.ModelFallbacks = []string{table.Fallback}
		}
	case noFallbacks:
	default:
		c.ModelFallbacks = list(fallbacks)
	}
	for _, name := range append([]string{c.Model}, c.ModelFallbacks...) {
		if !isModelName(name) {
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
	c.ModelsAllowed = list(allowed)
	if len(c.ModelsAllowed) > maxAllowed {
		r.problem("MODELS_ALLOWED", "names %d models; set at most %d", len(c.ModelsAllowed), maxAllowed)
	}
	for i, name := range c.ModelsAllowed {
		switch {
		case !isModelName(name):
			r.problem("MODELS_ALLOWED", "%s is not a model's name; set one such as %s", shape(name), table.Default)
		case slices.Contains(c.ModelsAllowed[:i], name):
			r.problem("MODELS_ALLOWED", "%s is there twice", shape(name))
		}
	}
	if c.ThinkingLevel == "" {
		return
	}
	// Of a model that the table does not know, any level may be right.
	profile := table.Model(c.Model)
	switch {
	case !slices.Contains(models.Levels(), c.ThinkingLevel):
		r.problem("THINKING_LEVEL", "%s is not a level; set one of %v", shape(string(c.ThinkingLevel)), models.Levels())
	case profile != nil && !slices.Contains(profile.Levels(), c.ThinkingLevel):
		r.problem("THINKING_LEVEL", "%s is not a level of %s; set one of %v, or unset it", c.ThinkingLevel, c.Model, profile.Levels())
	}
}

// gemini reads how the model is reached, and refuses settings that contradict each other:
// the SDK would take one of them silently. A base URL without a key is refused too: the
// offline stand-in would answer, and the server at that address would never be called.
func (r *reader) gemini(c *Config, v *variables) {
	if !v.GoogleAPIKey.IsZero() { // which the SDK prefers
		c.Gemini.APIKey = v.GoogleAPIKey
	}
	for _, template := range [][2]string{{"MODEL_ARMOR_PROMPT_TEMPLATE", c.Gemini.ArmorPrompt}, {"MODEL_ARMOR_RESPONSE_TEMPLATE", c.Gemini.ArmorResponse}} {
		switch {
		case template[1] == "":
		case !models.IsArmorTemplate(template[1]):
			r.problem(template[0], "%s is not a template's name; set projects/PROJECT/locations/LOCATION/templates/TEMPLATE", shape(template[1]))
		case !c.Gemini.VertexAI:
			r.problem(template[0], "is set without Vertex AI, which calls Model Armor; set GOOGLE_GENAI_USE_VERTEXAI=true")
		}
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

// secrets checks the names of secrets, and the addresses of Google's APIs, to which
// credentials are sent. Whether a secret exists is known only at the first fetch. An
// address needs its port: none is assumed.
func (r *reader) secrets(c *Config) {
	for variable, name := range map[string]string{
		"MODELS_TABLE_SECRET": c.ModelsSecret, "GEMINI_API_KEY_SECRET": c.Gemini.APIKeySecret, "ALLOWED_ORIGINS_SECRET": c.AllowedOriginsSecret, "API_KEYS_SECRET": c.APIKeysSecret,
		"WEBHOOK_SECRETS_SECRET": c.WebhookSecrets, "CARD_KEYS_SECRET": c.CardKeysSecret,
	} {
		if name == "" {
			continue
		}
		if err := secretname.Check(name); err != nil {
			r.problem(variable, "is not a secret version's name; set projects/PROJECT/secrets/SECRET/versions/latest")
		}
	}
	for variable, endpoint := range map[string]string{
		"STORAGE_EMULATOR_HOST":   strings.TrimPrefix(c.StorageEndpoint, "http://"),
		"SECRET_MANAGER_ENDPOINT": c.SecretManager, "LOGGING_ENDPOINT": c.LoggingEndpoint, "TELEMETRY_ENDPOINT": c.TelemetryEndpoint, "TASKS_ENDPOINT": c.TasksEndpoint,
	} {
		host, port, err := net.SplitHostPort(endpoint)
		n, portErr := strconv.ParseUint(port, 10, 16)
		if endpoint != "" && (err != nil || portErr != nil || host == "" || n == 0) {
			r.problem(variable, "%s is not host:port, such as secretmanager.europe-west1.rep.googleapis.com:443", shape(endpoint))
		}
	}
}

// cardKeys checks what signs the agent's card.
//
// A card that is signed has an address that is configured. One of the request's Host would let
// anybody have the agent's name signed over an address of their own. The place of the public
// keys is in each signature, so it is nothing without one; who verifies asks it by https only.
func (r *reader) cardKeys(c *Config) {
	if !c.CardKeys.IsZero() {
		if c.CardKeysSecret != "" {
			r.problem("CARD_KEYS", "is set beside CARD_KEYS_SECRET; unset one of them")
		}
		switch keys, err := jws.ParseKeys([]byte(c.CardKeys.Reveal())); {
		case err != nil:
			r.problem("CARD_KEYS", "%v", err)
		case keys.Len() == 0:
			r.problem("CARD_KEYS", "has no key; unset it, or add one (go run ./cmd/key -card NAME makes one)")
		}
	}
	signed := !c.CardKeys.IsZero() || c.CardKeysSecret != ""
	switch {
	case c.CardURL != "" && !isServiceURL(c.CardURL, !c.Production()):
		r.problem("CARD_URL", "is not https://host or https://host:port, without a path or a slash at the end")
	case signed && c.CardURL == "" && c.ServiceURL == "":
		r.problem("CARD_URL", "is not set, and the card is signed; set the address at which clients reach the service, https://host")
	}
	switch u, err := url.Parse(c.CardKeysURL); {
	case c.CardKeysURL == "":
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "":
		r.problem("CARD_KEYS_URL", "is not the https URL of a JWK set")
	case !signed:
		r.problem("CARD_KEYS_URL", "is set without CARD_KEYS or CARD_KEYS_SECRET, the private keys; set one of them, or unset it")
	}
}

// origins reads ALLOWED_ORIGINS. Those of ALLOWED_ORIGINS_SECRET are read at each fetch.
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

// ParseOrigins reads a list of browser origins, separated by commas or white space:
// scheme://host or scheme://host:port, exactly as a browser sends them. strict refuses
// http. No wildcard is ever taken. The text may come from a secret, so errors count the
// entries and do not show them. Anything that a browser would not send exactly is refused
// instead of corrected, because it is compared byte by byte: an origin with a slash at its
// end would never match, without any error.
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

// auth reads who may call. In production the default is Cloud Run's own check. On Cloud Run
// in another environment there is none: development's default would leave the service open.
//
// iam is the mode that verifies nothing itself: it believes tokens that Cloud Run has
// verified, so it must not run where that check can be off. K_SERVICE shows Cloud Run, and
// IAM_ENFORCED is set by Terraform only where the invoker check is on. none beside other
// modes is allowed outside production; a credential that is sent is still verified.
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
	if c.HasAuth(AuthIAM) && !(v.IAMEnforced && c.Service != "") {
		r.problem("IAM_ENFORCED", "AUTH has iam, which trusts Cloud Run's own check; it works only on Cloud Run (K_SERVICE) with IAM_ENFORCED=true, which states that the check is on")
	}
	if c.HasAuth(AuthOIDC) && c.OIDCIssuers == "" {
		r.problem("OIDC_ISSUERS", "AUTH has oidc; set at least one issuer, as https://issuer|audience")
	}
	if c.OIDCIssuers != "" {
		if _, err := access.ParseIssuers(c.OIDCIssuers, c.OIDCAudiences, !c.Production()); err != nil {
			r.problem("OIDC_ISSUERS", "%v", err)
		}
	}
	var err error
	if c.Operators, err = access.ParseOperators(list(v.Operators), !c.Production()); err != nil {
		r.problem("OPERATORS", "%v", err)
	}
	if !c.APIKeys.IsZero() && c.APIKeysSecret != "" {
		r.problem("API_KEYS", "is set beside API_KEYS_SECRET; unset one of them")
	}
	if !c.APIKeys.IsZero() {
		if keys, err := access.ParseKeys([]byte(c.APIKeys.Reveal())); err != nil {
			r.problem("API_KEYS", "%v", err)
		} else if keys.Len() == 0 {
			r.problem("API_KEYS", "the list has no entry; unset it, or add one (go run ./cmd/key NAME makes it)")
		}
	}
	if c.HasAuth(AuthAPIKey) && c.APIKeys.IsZero() && c.APIKeysSecret == "" {
		r.problem("API_KEYS_SECRET", "AUTH has api_key; name the secret that holds the keys (go run ./cmd/key NAME makes an entry)")
	}
}

// store reads where sessions are kept. Production keeps them in Firestore, since an
// instance may end at any time and takes its memory with it. A missing project is found
// here only where nobody could supply it: Cloud Run has the metadata server, and for the
// emulator any name does.
func (r *reader) store(c *Config) {
	if c.SessionStore == "" {
		c.SessionStore = StoreMemory
		if c.Production() {
			c.SessionStore = StoreFirestore
		}
	}
	switch c.SessionStore {
	case StoreFirestore:
		if c.Project == "" && c.FirestoreEmulator == "" && c.Service == "" {
			r.problem("GOOGLE_CLOUD_PROJECT", "is not set, and outside of Google Cloud there is no metadata server to ask; set the project that has the Firestore database")
		}
	case StoreMemory:
		if c.Production() {
			r.problem("SESSION_STORE", "memory forgets every session with its instance and is not for production; use firestore")
		}
	default:
		r.problem("SESSION_STORE", "%s is neither firestore nor memory", shape(c.SessionStore))
	}
}
