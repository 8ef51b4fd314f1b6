package config

import (
	"fmt"
	"io"
	"log/slog"
)

// A Secret is a text that no formatting, encoding or logging shows. Reveal returns it
// to the one place that needs it. The zero Secret is no text.
//
// The text is behind a pointer: package fmt prints the fields of a struct that
// it cannot call methods on, and of a pointer there it prints the address.
type Secret struct{ text *string }

const redacted = "[redacted]"

// NewSecret hides text. An empty text is no secret: a variable that is set to nothing
// counts as unset.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the secret itself. It returns "" of the zero Secret. Call it where the
// secret is sent or compared, and keep the result out of structs that are printed.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is none.
func (s Secret) IsZero() bool { return s.text == nil }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, and so covers JSON. A configuration that
// is encoded and decoded again has lost its secrets.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText implements encoding.TextUnmarshaler: it hides text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
