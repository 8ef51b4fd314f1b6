package config

import (
	"fmt"
	"io"
	"log/slog"
)

// A Secret is a string that no formatting, encoding or logging shows. Reveal
// gives it to the one place that needs it.
type Secret string

const redacted = "[redacted]"

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, and so covers JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
