package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
)

func TestTheZeroEnvReadsTheEnvironment(t *testing.T) {
	t.Setenv("RATES_KEY", "k-1")
	if got := (agent.Env{}).Secret("RATES_KEY").Reveal(); got != "k-1" {
		t.Errorf("%q", got)
	}
	if got := (agent.Env{}).Status(t.Context()); got.Status != "" {
		t.Errorf("%+v", got)
	}
	if got := (agent.Secret{}).Reveal(); got != "" {
		t.Errorf("the zero Secret: %q", got)
	}
}

func TestASecretIsNotShown(t *testing.T) {
	t.Parallel()
	s := agent.NewSecret(func() string { return "hunter2" })
	within := struct{ Key agent.Secret }{s}
	var shown bytes.Buffer
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("x", "key", s, "within", within)
	encoded, err := json.Marshal(within)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+verb, s, within)
	}
	if text := shown.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") {
		t.Errorf("shown: %s", text)
	}
}
