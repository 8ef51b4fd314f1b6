package delivery

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A pipeline is the part of a Cloud Build configuration that is checked.
type pipeline struct {
	ServiceAccount string            `yaml:"serviceAccount"`
	Timeout        string            `yaml:"timeout"`
	Substitutions  map[string]string `yaml:"substitutions"`
	Options        struct {
		Logging string   `yaml:"logging"`
		Dynamic bool     `yaml:"dynamicSubstitutions"`
		Machine string   `yaml:"machineType"`
		Env     []string `yaml:"env"`
	} `yaml:"options"`
	Steps []struct {
		ID         string   `yaml:"id"`
		Name       string   `yaml:"name"`
		Entrypoint string   `yaml:"entrypoint"`
		Args       []string `yaml:"args"`
		Env        []string `yaml:"env"`
		WaitFor    []string `yaml:"waitFor"`
		MayFail    bool     `yaml:"allowFailure"`
	} `yaml:"steps"`
}

var (
	// An exact version or a digest; never latest or another tag that moves.
	pinned   = regexp.MustCompile(`^\S+(:v?\d+\.\d+\.\d+(-[a-z]+)?|@sha256:[0-9a-f]{64})$`)
	image    = regexp.MustCompile(`(?:gcr\.io|docker\.pkg\.dev)/[a-z0-9./-]+[:@][\w.:-]+`)
	script   = regexp.MustCompile(`\.delivery/steps/([a-z]+)\b`)
	used     = regexp.MustCompile(`\$\{?(_[A-Z_]+)\}?`)
	builtIn  = regexp.MustCompile(`\$\{?([A-Z][A-Z_]*)\}?`)
	builtIns = []string{"PROJECT_ID", "BUILD_ID", "LOCATION", "TRIGGER_NAME", "COMMIT_SHA"}
)

func TestPipelines(t *testing.T) {
	for _, file := range []string{"../cloudbuild.yaml", "apply.yaml", "build.yaml", "weekly.yaml"} {
		t.Run(file, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var p pipeline
			decoder := yaml.NewDecoder(strings.NewReader(string(raw)))
			decoder.KnownFields(true) // Cloud Build rejects unknown keys too
			if err := decoder.Decode(&p); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(p.ServiceAccount, "projects/$PROJECT_ID/serviceAccounts/") || p.Options.Logging != "CLOUD_LOGGING_ONLY" || p.Timeout == "" {
				t.Errorf("account %q, logging %q, timeout %q", p.ServiceAccount, p.Options.Logging, p.Timeout)
			}
			if !p.Options.Dynamic {
				t.Error("defaults that name the project need dynamicSubstitutions")
			}

			text := regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(string(raw), "")
			found := map[string]bool{}
			for _, match := range used.FindAllStringSubmatch(text, -1) {
				found[match[1]] = true
				if _, ok := p.Substitutions[match[1]]; !ok {
					t.Errorf("%s is used and not declared", match[1])
				}
			}
			for name := range p.Substitutions {
				if !found[name] {
					t.Errorf("%s is declared and not used", name)
				}
			}
			for _, match := range builtIn.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(builtIns, match[1]) {
					t.Errorf("$%s is no substitution of Cloud Build's", match[1])
				}
			}

			seen := []string{"-"}
			for _, step := range p.Steps {
				if !pinned.MatchString(step.Name) {
					t.Errorf("step %s: the image %s is not pinned", step.ID, step.Name)
				}
				// Only the comparison of models may fail, and no step may wait for it.
				if step.MayFail != (step.ID == "models" && file != "weekly.yaml") {
					t.Errorf("step %s: allowFailure is %v", step.ID, step.MayFail)
				}
				for _, before := range step.WaitFor {
					if before == "models" {
						t.Errorf("step %s waits for a step that may fail", step.ID)
					}
					if !slices.Contains(seen, before) {
						t.Errorf("step %s waits for %s, which is not before it", step.ID, before)
					}
				}
				seen = append(seen, step.ID)
				for _, arg := range step.Args {
					for _, name := range image.FindAllString(arg, -1) {
						if !pinned.MatchString(name) {
							t.Errorf("step %s: the image %s is not pinned", step.ID, name)
						}
					}
					for _, name := range script.FindAllStringSubmatch(arg, -1) {
						info, err := os.Stat(name[1])
						if err != nil || info.Mode().Perm()&0o111 == 0 {
							t.Errorf("step %s: delivery/%s cannot be run: %v", step.ID, name[1], err)
						}
					}
				}
			}
		})
	}
}

// TestScriptsPinWhatTheyRun searches for tools and images without a version.
func TestScriptsPinWhatTheyRun(t *testing.T) {
	for _, name := range []string{"check", "build"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`go run (\S+)`).FindAllStringSubmatch(string(raw), -1) {
			if !regexp.MustCompile(`@v\d+\.\d+\.\d+$`).MatchString(match[1]) {
				t.Errorf("%s runs %s, which is not pinned", name, match[1])
			}
		}
		for _, line := range strings.Split(string(raw), "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for _, reference := range image.FindAllString(line, -1) {
				if !pinned.MatchString(reference) {
					t.Errorf("%s uses %s, which is not pinned", name, reference)
				}
			}
		}
	}
}

// One version of Go builds, tests and runs: the one in go.mod.
func TestOneVersionOfGo(t *testing.T) {
	match := regexp.MustCompile(`(?m)^toolchain go(\d+\.\d+\.\d+)$`).FindStringSubmatch(read(t, "../go.mod"))
	if match == nil {
		t.Fatal("go.mod has no toolchain line with an exact version")
	}
	for _, file := range []string{"../cloudbuild.yaml", "apply.yaml", "weekly.yaml"} {
		images := regexp.MustCompile(`golang:(\S+)-bookworm`).FindAllStringSubmatch(read(t, file), -1)
		if len(images) == 0 {
			t.Errorf("%s runs no Go", file)
		}
		for _, image := range images {
			if image[1] != match[1] {
				t.Errorf("%s runs Go %s, go.mod names %s", file, image[1], match[1])
			}
		}
	}
}

// A reverted commit must not reach a later delivery through a cache.
func TestNothingIsKeptBetweenDeliveries(t *testing.T) {
	for _, file := range []string{"../cloudbuild.yaml", "apply.yaml", "build.yaml", "build"} {
		for line := range strings.SplitSeq(read(t, file), "\n") {
			code, _, _ := strings.Cut(strings.TrimSpace(line), "#")
			if regexp.MustCompile(`(?i)--cache|cache_bucket|gs://|storage cp|--previous-image`).MatchString(code) {
				t.Errorf("%s: %s", file, line)
			}
		}
	}
	// Caches of a build are in its workspace.
	for _, variable := range []string{"GOMODCACHE=/workspace/", "GOCACHE=/workspace/"} {
		if !strings.Contains(read(t, "../cloudbuild.yaml"), variable) {
			t.Errorf("cloudbuild.yaml does not set %s", variable)
		}
	}
}
