package config_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	gojson "github.com/go-json-experiment/json"

	"example.com/gatehouse/config"
)

const hidden = "hunter2-that-nobody-may-see"

// leaks reports whether text holds the secret in any form that is easily read.
func leaks(text string) bool {
	for _, form := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden), fmt.Sprintf("% x", hidden), fmt.Sprintf("%d", []byte(hidden))} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func TestASecretIsNotShownByAnyVerb(t *testing.T) {
	t.Parallel()
	s := config.NewSecret(hidden)
	values := map[string]any{
		"itself":               s,
		"a pointer":            &s,
		"in a struct":          struct{ S config.Secret }{s},
		"in a pointer's":       &struct{ S config.Secret }{s},
		"in a list":            []config.Secret{s},
		"in a map":             map[string]config.Secret{"k": s},
		"as a key":             map[config.Secret]int{s: 1},
		"in an interface":      []any{s},
		"in an unnamed struct": struct{ any }{s},
		"in a private field":   struct{ s config.Secret }{s},
		"in a private struct":  struct{ c config.Config }{config.Config{APIKeys: s}},
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var shown []string
			for _, flags := range []string{"", "+", "#", "-40", "040", "."} {
				for verb := 'A'; verb <= 'z'; verb++ {
					if text := fmt.Sprintf("%"+flags+string(verb), value); leaks(text) {
						shown = append(shown, "%"+flags+string(verb))
					}
				}
			}
			if len(shown) > 0 {
				t.Errorf("shown by %d forms: %.100s", len(shown), strings.Join(shown, " "))
			}
			texts := []string{fmt.Sprint(value), fmt.Sprintln(value)}
			for _, format := range []string{"no verb", "%!", "%[2]v", "%*d", "%"} {
				texts = append(texts, fmt.Sprintf(format, value))
			}
			for _, text := range texts {
				if leaks(text) {
					t.Errorf("printed %s", text)
				}
			}
		})
	}
}

func TestASecretIsNotShownByAnyEncoding(t *testing.T) {
	t.Parallel()
	c := config.Config{APIKeys: config.NewSecret(hidden), Gemini: config.Gemini{APIKey: config.NewSecret(hidden)}}
	var lines bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewJSONHandler(&lines, nil)), slog.New(slog.NewTextHandler(&lines, nil))} {
		log.Info("config", "config", c, "pointer", &c, "key", c.APIKeys, "group", slog.GroupValue(slog.Any("key", c.APIKeys)), "list", []config.Secret{c.APIKeys})
	}
	encodings := map[string]func() ([]byte, error){
		"slog":                 func() ([]byte, error) { return lines.Bytes(), nil },
		"encoding/json":        func() ([]byte, error) { return json.Marshal(c) },
		"json, as a key":       func() ([]byte, error) { return json.Marshal(map[config.Secret]int{c.APIKeys: 1}) },
		"go-json-experiment":   func() ([]byte, error) { return gojson.Marshal(c.Gemini) },
		"encoding/xml":         func() ([]byte, error) { return xml.Marshal(c.Gemini) },
		"a text, as a library": func() ([]byte, error) { return c.APIKeys.MarshalText() },
	}
	for name, encode := range encodings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := encode()
			if err != nil || leaks(string(text)) {
				t.Errorf("%s, %v", text, err)
			}
			if !bytes.Contains(text, []byte("redacted")) {
				t.Errorf("does not tell that there is a secret: %s", text)
			}
		})
	}
}

func TestReveal(t *testing.T) {
	t.Parallel()
	if got := config.NewSecret(hidden).Reveal(); got != hidden {
		t.Errorf("%q", got)
	}
}

// What is secret, or may be put in a wrong variable by mistake, is in no error
// and in no form of the Config.
func TestNoSecretsValueIsShown(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{"GOOGLE_API_KEY", "GEMINI_API_KEY", "API_KEYS", "CARD_KEYS", "GEMINI_API_KEY_SECRET", "API_KEYS_SECRET", "ALLOWED_ORIGINS_SECRET", "ALLOWED_ORIGINS"} {
		for form, value := range map[string]string{
			"plain":           hidden,
			"an entry":        `[{"name":"` + hidden + `","sha256":"` + hidden + `"}]`,
			"a private key":   `{"keys":[{"kty":"` + hidden + `","kid":"` + hidden + `"}]}`,
			"an unknown name": `[{"` + hidden + `":1}]`,
			"broken JSON":     `[{"name":"` + hidden,
		} {
			t.Run(variable+", "+form, func(t *testing.T) {
				t.Parallel()
				for _, others := range [][]string{nil, {"ENVIRONMENT=production"}, {"AUTH=api_key"}, {"GEMINI_API_KEY_SECRET=x", "API_KEYS_SECRET=x", "ALLOWED_ORIGINS_SECRET=x"}} {
					c, err := config.Read(env(with(others, variable+"="+value)...))
					if err != nil && leaks(err.Error()) {
						t.Errorf("the error: %v", err)
					}
					if ps, ok := errors.AsType[config.Problems](err); ok && leaks(fmt.Sprintf("%#v", ps)) {
						t.Errorf("the problems: %#v", ps)
					}
					if strings.HasSuffix(variable, "_SECRET") || variable == "ALLOWED_ORIGINS" {
						continue // these are names, and a mistake there stays in the Config
					}
					for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
						if text := fmt.Sprintf(verb, c); leaks(text) {
							t.Errorf("%s: %s", verb, text)
						}
						if text := fmt.Sprintf(verb, *c); leaks(text) {
							t.Errorf("%s: %s", verb, text)
						}
					}
					if text, err := json.Marshal(c); err != nil || leaks(string(text)) {
						t.Errorf("JSON: %s, %v", text, err)
					}
				}
			})
		}
	}
}
