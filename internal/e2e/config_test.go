package e2e_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
)

// unused is an address at which nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// production returns an environment that production accepts, with overrides:
// NAME=value sets a variable, NAME removes it.
func production(t *testing.T, overrides ...string) []string {
	t.Helper()
	env := []string{
		"K_SERVICE=gatehouse-invoke", "K_REVISION=gatehouse-invoke-00001-abc", "K_CONFIGURATION=gatehouse-invoke",
		"GOOGLE_CLOUD_PROJECT=project-1", "FIRESTORE_EMULATOR_HOST=" + unused(t),
		"AUTH=iam", "IAM_ENFORCED=true", "GEMINI_API_KEY=" + apiKey,
	}
	for _, override := range overrides {
		name, _, set := strings.Cut(override, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		if set {
			env = append(env, override)
		}
	}
	return env
}

func TestProductionIsAccepted(t *testing.T) {
	t.Parallel()
	startLocal(t, production(t, "ALLOWED_ORIGINS=https://app.example.com,https://admin.example.com")...)
}

func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-is-the-secret"
	tests := []struct {
		name   string
		env    []string
		names  []string
		hidden []string
	}{
		{"everything at once", []string{
			"SESSION_STORE=mongo", "AUTH=magic", "REQUEST_TIMEOUT=soon", "MAX_BODY_BYTES=-1", "MAX_OUTPUT_TOKENS=0",
			"HISTORY_TOKENS=many", "MAX_TOOL_ROUNDS=-3", "SESSION_TTL=-1h", "LOG_LEVEL=loud", "ALLOWED_ORIGINS=app.example.com",
		}, []string{
			"SESSION_STORE", "AUTH", "REQUEST_TIMEOUT", "MAX_BODY_BYTES", "MAX_OUTPUT_TOKENS",
			"HISTORY_TOKENS", "MAX_TOOL_ROUNDS", "SESSION_TTL", "LOG_LEVEL", "ALLOWED_ORIGINS",
		}, nil},
		{"a port that is none", []string{"PORT=99999"}, []string{"PORT"}, nil},
		{"a port in words", []string{"PORT=http"}, []string{"PORT"}, nil},
		{"a timeout of nothing", []string{"REQUEST_TIMEOUT=0s"}, []string{"REQUEST_TIMEOUT"}, nil},
		{"a number with a fraction", []string{"MAX_BODY_BYTES=1.5"}, []string{"MAX_BODY_BYTES"}, nil},
		{"a switch that is neither on nor off", []string{"LOG_CONTENT=perhaps"}, []string{"LOG_CONTENT"}, nil},
		{"iam without the promise that it is enforced", []string{"AUTH=iam"}, []string{"IAM_ENFORCED"}, nil},
		{"iam enforced elsewhere than on Cloud Run", []string{"AUTH=iam", "IAM_ENFORCED=true"}, []string{"AUTH"}, nil},
		{"oidc without issuers", []string{"AUTH=oidc"}, []string{"OIDC_ISSUERS"}, nil},
		{"no authentication beside another mode", []string{"AUTH=none,api_key"}, []string{"AUTH"}, nil},
		{"a secret both plain and by name", []string{"GEMINI_API_KEY=" + secret, "GEMINI_API_KEY_SECRET=projects/p/secrets/s/versions/1"}, []string{"GEMINI_API_KEY", "GEMINI_API_KEY_SECRET"}, []string{secret}},
		{"origins both plain and by name", []string{"ALLOWED_ORIGINS=https://a.example", "ALLOWED_ORIGINS_SECRET=projects/p/secrets/s/versions/1"}, []string{"ALLOWED_ORIGINS", "ALLOWED_ORIGINS_SECRET"}, nil},
		{"a secret's name that is none", []string{"GEMINI_API_KEY_SECRET=" + secret}, []string{"GEMINI_API_KEY_SECRET"}, nil},
		{"keys that are not JSON", []string{"AUTH=api_key", "API_KEYS=" + secret}, []string{"API_KEYS"}, []string{secret}},
		{"a key that is not a hash", []string{"AUTH=api_key", `API_KEYS=[{"name": "backend", "sha256": "` + secret + `"}]`}, []string{"API_KEYS"}, []string{secret}},
		{"Firestore without a project", []string{"SESSION_STORE=firestore"}, []string{"GOOGLE_CLOUD_PROJECT"}, nil},

		{"production without authentication", production(t, "AUTH=none"), []string{"AUTH"}, []string{apiKey}},
		{"production with sessions in memory", production(t, "SESSION_STORE=memory"), []string{"SESSION_STORE"}, []string{apiKey}},
		{"production with the offline model", production(t, "GEMINI_API_KEY"), []string{"GEMINI_API_KEY"}, nil},
		{"production for pages from anywhere", production(t, "ALLOWED_ORIGINS=*"), []string{"ALLOWED_ORIGINS"}, []string{apiKey}},
		{"production for a page in plain text", production(t, "ALLOWED_ORIGINS=https://a.example,http://b.example"), []string{"ALLOWED_ORIGINS"}, []string{apiKey}},
		{"production named, off Cloud Run", []string{"ENVIRONMENT=production"}, []string{"AUTH", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT"}, nil},
		{"production wrong in every way", production(t, "AUTH=none", "SESSION_STORE=memory", "GEMINI_API_KEY", "ALLOWED_ORIGINS=*"), []string{"AUTH", "SESSION_STORE", "GEMINI_API_KEY", "ALLOWED_ORIGINS"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			program, err := localProgram()
			if err != nil {
				t.Fatal(err)
			}
			env := test.env
			if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PORT=") }) {
				env = append(env, "PORT=0")
			}
			p := spawn(t, program, env...)
			if code := p.wait(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			said := p.stdout.String() + p.stderr.String()
			for _, name := range test.names {
				if !strings.Contains(said, name) {
					t.Errorf("%s is not named", name)
				}
			}
			for _, value := range test.hidden {
				if strings.Contains(said, value) {
					t.Errorf("a secret's value is shown: %s", value)
				}
			}
			if strings.Contains(said, "goroutine ") || strings.Contains(said, "ready at") {
				t.Errorf("said: %s", said)
			}
		})
	}
}

func TestEmptyVariablesAreUnset(t *testing.T) {
	t.Parallel()
	s := startLocal(t, "MODEL=", "AUTH=", "SESSION_STORE=", "REQUEST_TIMEOUT=", "GEMINI_API_KEY=", "ALLOWED_ORIGINS=")
	s.invoke(t, map[string]any{"query": "hello"})
}

func TestModelIsChosen(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "MODEL=gemini-2.5-pro")
	gemini.Enqueue(geminitest.Text("Well."))
	if got := s.invoke(t, map[string]any{"query": "hello"}); got.Model != "gemini-2.5-pro" || gemini.Requests()[0].Model != "gemini-2.5-pro" {
		t.Errorf("model %s, asked %s", got.Model, gemini.Requests()[0].Model)
	}
}
