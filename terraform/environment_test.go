package terraform_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/terraformtest"
)

// What the code reads and a deployment does not set, and why.
var notSet = map[string]string{
	"K_SERVICE":               "Cloud Run sets it",
	"K_REVISION":              "Cloud Run sets it",
	"PORT":                    "of the local run",
	"GOOGLE_API_KEY":          "a secret in plain",
	"GEMINI_API_KEY":          "a secret in plain",
	"API_KEYS":                "secrets in plain",
	"CARD_KEYS":               "secrets in plain",
	"GOOGLE_VERTEX_BASE_URL":  "Google's own is used",
	"SECRET_MANAGER_ENDPOINT": "Google's own is used",
	"LOGGING_ENDPOINT":        "Google's own is used",
	"TELEMETRY_ENDPOINT":      "Google's own is used",
	"TASKS_ENDPOINT":          "Google's own is used",
	"SERVICE_URL":             "the metadata server's region and project make it",
	"FIRESTORE_EMULATOR_HOST": "of tests",
	"STORAGE_EMULATOR_HOST":   "of tests",
	"OIDC_AUDIENCES":          "each issuer is paired with its own audience",
}

// What a deployment sets for others to read, and who does.
var forOthers = map[string]string{
	"FUNCTION_TARGET":         "the functions framework",
	"GOMEMLIMIT":              "the Go runtime",
	"OTEL_TRACES_SAMPLER":     "internal/telemetry",
	"OTEL_TRACES_SAMPLER_ARG": "internal/telemetry",
	"OTEL_TRACES_EXPORTER":    "internal/telemetry",
}

// environmentTags returns the tags env of the fields in package config.
func environmentTags(t *testing.T) []string {
	t.Helper()
	var tags []string
	for _, name := range []string{"../config/config.go", "../config/read.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok && field.Tag != nil {
				tag, _ := strconv.Unquote(field.Tag.Value)
				tags = append(tags, reflect.StructTag(tag).Get("env"))
			}
			return true
		})
	}
	return tags
}

// readByCode are the variables in the tags of package config.
func readByCode(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, tag := range environmentTags(t) {
		if name, _, _ := strings.Cut(tag, ","); name != "" {
			names[name] = true
		}
	}
	if len(names) < 30 {
		t.Fatalf("only %d variables found in package config", len(names))
	}
	return names
}

func TestADeploymentSetsWhatTheCodeReads(t *testing.T) {
	set := map[string]bool{}
	for name, changes := range plans(t) {
		for _, c := range changes {
			if c.Type != "google_cloud_run_v2_service" {
				continue
			}
			env := list(terraformtest.Dig(c.Change.After, "template", "containers", "env"))
			if len(env) < 10 {
				t.Errorf("%s: %s has %d variables planned", name, c.Address, len(env))
			}
			for _, e := range env {
				set[text(terraformtest.Dig(e, "name"))] = true
			}
		}
	}
	read := readByCode(t)
	for _, name := range slices.Sorted(maps.Keys(read)) {
		if _, known := notSet[name]; set[name] == known {
			t.Errorf("%s is read by the code: set by a deployment %t, said not to be %t", name, set[name], known)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if strings.Contains(name, "RATES_") {
			continue // the agent's own, by agent_secrets and agent_environment
		}
		if _, known := forOthers[name]; read[name] == known {
			t.Errorf("%s is set: read by package config %t, said to be read by others %t", name, read[name], known)
		}
	}
	for name := range notSet {
		if !read[name] {
			t.Errorf("%s is said not to be set, and the code does not read it", name)
		}
	}
}

// Terraform's defaults are those of the code, if both have one, except for values that
// Terraform sets on purpose.
func TestDefaultsAgree(t *testing.T) {
	raw, err := os.ReadFile("../internal/models/models.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Default, Fallback string }
	if err := json.Unmarshal(raw, &table); err != nil || table.Default == "" || table.Fallback == "" {
		t.Fatalf("the table of models: %v, %v", table, err)
	}
	onPurpose := map[string]string{"IAM_ENFORCED": "true", "SERVICE_DAILY_TOKEN_LIMIT": "20000000", "DAILY_TOKEN_LIMIT": "2000000", "MODEL": table.Default, "MODEL_FALLBACKS": table.Fallback, "GOOGLE_GENAI_USE_VERTEXAI": "true"}
	defaults := map[string]string{}
	of := regexp.MustCompile(`^([A-Z_]+), default=(.*)$`)
	for _, tag := range environmentTags(t) {
		if m := of.FindStringSubmatch(tag); m != nil {
			defaults[m[1]] = m[2]
		}
	}
	compared := 0
	for _, c := range plans(t)["private"] {
		if c.Address != `google_cloud_run_v2_service.function["invoke"]` {
			continue
		}
		for _, e := range list(terraformtest.Dig(c.Change.After, "template", "containers", "env")) {
			name, value := text(terraformtest.Dig(e, "name")), text(terraformtest.Dig(e, "value"))
			want, ok := defaults[name]
			if purpose, set := onPurpose[name]; set {
				want, ok = purpose, true
			}
			if !ok {
				continue
			}
			if compared++; value != want {
				t.Errorf("%s is %q by default here, %q in the code", name, value, want)
			}
		}
	}
	if compared < 15 {
		t.Errorf("only %d defaults compared", compared)
	}
}

// What the service reads, no agent's variable may be called.
func TestTheServicesOwnVariablesAreReserved(t *testing.T) {
	source, err := os.ReadFile("variables.tf")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)\n  reserved_variables = \[(.*?)\]`).FindSubmatch(source)
	pattern := regexp.MustCompile(`\n  reserved_pattern += "(.*)"`).FindSubmatch(source)
	if list == nil || pattern == nil {
		t.Fatal("variables.tf has no reserved_variables or no reserved_pattern")
	}
	platform := regexp.MustCompile(string(pattern[1]))
	var got, want []string
	for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllSubmatch(list[1], -1) {
		got = append(got, string(name[1]))
	}
	all := readByCode(t)
	for name := range forOthers {
		all[name] = true
	}
	for name := range all {
		if !platform.MatchString(name) {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("reserved_variables in variables.tf (-got +want):\n%s", diff)
	}
}
