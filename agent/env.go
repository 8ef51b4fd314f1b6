package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// A Source is what an [Env] reads from. It is safe for concurrent use.
type Source interface {
	Secret(name string) Secret
	Status(ctx context.Context) Status
}

// An Env is what the service offers to a [NewFunc]. The zero Env, for tests, reads
// the process's environment and knows no status.
type Env struct{ source Source }

// NewEnv returns an environment that is backed by source.
func NewEnv(source Source) Env { return Env{source} }

// Secret returns the secret that the variable name+"_SECRET" names in Secret
// Manager (projects/PROJECT/secrets/SECRET/versions/latest), following its rotation
// within minutes, or the value of the variable name. It has its value when Secret
// returns. A secret that is missing, or cannot be read, keeps the service from being
// ready, in an error that names the variable: NewFunc need not check.
func (e Env) Secret(name string) Secret {
	if e.source == nil {
		value := os.Getenv(name)
		return NewSecret(func() string { return value })
	}
	return e.source.Secret(name)
}

// Status returns how the running deployment is. It is safe for concurrent use and
// meant for tools: it may probe what the service relies on, and is cached for
// seconds. What it returns is for operators; see tool.Context.Operator.
func (e Env) Status(ctx context.Context) Status {
	if e.source == nil {
		return Status{}
	}
	return e.source.Status(ctx)
}

// A Secret is a text that no formatting, encoding or logging shows. The zero Secret
// is empty.
type Secret struct{ current func() string }

// NewSecret returns a secret whose value current returns. current is safe for
// concurrent use.
func NewSecret(current func() string) Secret { return Secret{current} }

// Reveal returns the value that holds now. A tool calls it for each use, so that it
// follows the secret's rotation.
func (s Secret) Reveal() string {
	if s.current == nil {
		return ""
	}
	return s.current()
}

const redacted = "[redacted]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, and so covers JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
