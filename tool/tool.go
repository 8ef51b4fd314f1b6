// Package tool turns a typed Go function into something a model can call.
//
// A [Tool] is made by [New] from func(ctx, In) (Out, error). The JSON schema
// that the model receives comes from In, and the arguments that the model
// sends are checked against that schema before the function runs, so the
// function sees only well-formed input. Out is turned into the JSON object that
// goes back to the model. For whom a call works, [From] returns.
package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
)

// MaxOutputBytes bounds the JSON that one call of a tool may return to the
// model, as encoding/json writes it and as it is sent and stored: <, > and & are six
// bytes each. A longer output is an error that the model receives: it would
// cost tokens in this turn and in every later one of the session.
const MaxOutputBytes = 64 << 10

// ErrArguments is wrapped by the errors of [Tool.Call] that blame the
// arguments: the function did not run.
var ErrArguments = errors.New("invalid arguments")

// A Tool is a function that the model may call. It is immutable and safe for
// concurrent use when its function is.
type Tool struct {
	name, description string
	schema            *jsonschema.Schema
	timeout           time.Duration // 0: the agent's
	shown             bool
	value             any
	prepare           func(args map[string]any) (json.RawMessage, error) // checks them
	call              func(ctx context.Context, args json.RawMessage) (any, error)
	effect            bool
	reconcile         func(ctx context.Context, args json.RawMessage) (any, bool, error)
	question          func(args json.RawMessage) (string, error)
	gemini            *genai.Tool // run by Gemini; nil for a function
}

// Name is the name the model calls the tool by.
func (t Tool) Name() string { return t.name }

// Description is what the model reads of what the tool is for.
func (t Tool) Description() string { return t.description }

// Schema is the JSON schema of the tool's arguments, an object; nil for one of Gemini's
// own.
func (t Tool) Schema() *jsonschema.Schema { return t.schema }

// Timeout bounds each call of the tool; 0: the agent's ToolTimeout does.
func (t Tool) Timeout() time.Duration { return t.timeout }

// Shown reports whether clients see the tool's outputs; see [Show].
func (t Tool) Shown() bool { return t.shown }

// Value keeps value with the tool, for the package that makes it: [Tool.Value] returns it.
func Value(value any) Option {
	return func(t *Tool) error {
		t.value = value
		return nil
	}
}

// Value returns what [Value] keeps with the tool; nil without.
func (t Tool) Value() any { return t.value }

// validName is what Gemini accepts as the name of a function
// (https://ai.google.dev/api/caching#FunctionDeclaration).
// As part of the expression, the length would unroll into as many states at every
// start.
var validName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]*$`)

const maxName = 64

// An Option changes a tool that is being made. What it cannot do makes [New] panic.
type Option func(*Tool) error

// Enum limits the string property to the values, in the schema that the model reads.
// A property that In does not have makes [New] panic.
func Enum(property string, values ...string) Option {
	return func(t *Tool) error {
		p, ok := t.schema.Properties[property]
		if !ok {
			return fmt.Errorf("no property %q", property)
		}
		for _, v := range values {
			p.Enum = append(p.Enum, v)
		}
		return nil
	}
}

// Timeout bounds each call of the tool, in the place of the agent's ToolTimeout. It is
// more than 0.
func Timeout(d time.Duration) Option {
	return func(t *Tool) error {
		if d <= 0 {
			return fmt.Errorf("the timeout %v is not more than 0", d)
		}
		t.timeout = d
		return nil
	}
}

// Show has clients see the outputs of the tool: a stream's tool_result and the turns of a
// session carry them. With ENVIRONMENT=development all tools do. Others keep what they
// return between the model and the service.
func Show() Option {
	return func(t *Tool) error {
		t.shown = true
		return nil
	}
}

// New makes a tool of f. In must be a struct: its exported fields are the
// arguments, named by their json tags and described by their jsonschema tags; a
// field with omitempty or omitzero is optional. Out is anything that
// encoding/json can write.
//
// f must stop when its context ends. The model reads the text of its error,
// which must hold no secret.
//
// New panics when the name or In cannot be declared to the model: both are
// fixed when the program is written.
func New[In, Out any](name, description string, f func(context.Context, In) (Out, error), options ...Option) Tool {
	if in := reflect.TypeFor[In](); in.Kind() != reflect.Struct {
		panic(fmt.Sprintf("tool %s: the input must be a struct, not a %s", name, in.Kind()))
	}
	schema, err := jsonschema.For[In](nil)
	if err != nil {
		panic(fmt.Sprintf("tool %s: %v", name, err))
	}
	if f == nil {
		panic(fmt.Sprintf("tool %s: there is no function", name))
	}
	return newTool(name, description, schema, func(ctx context.Context, args json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(args, &in); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrArguments, err)
		}
		return f(ctx, in)
	}, options)
}

// Raw makes a tool whose arguments no Go type describes: schema is the JSON schema
// of an object, and f is called with arguments, a JSON object, that fit it. The
// rules of [New] hold for f, and for what makes Raw panic.
func Raw(name, description string, schema json.RawMessage, f func(ctx context.Context, args json.RawMessage) (any, error), options ...Option) Tool {
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		panic(fmt.Sprintf("tool %s: the schema: %v", name, err))
	}
	if s.Type != "object" {
		panic(fmt.Sprintf("tool %s: the schema must be that of an object", name))
	}
	return newTool(name, description, &s, f, options)
}

func newTool(name, description string, schema *jsonschema.Schema, f func(context.Context, json.RawMessage) (any, error), options []Option) Tool {
	if len(name) > maxName || !validName.MatchString(name) {
		panic(fmt.Sprintf("tool: %q is not a valid name for a function: Gemini takes letters, digits, _ . -, a letter or _ first, at most %d", name, maxName))
	}
	if f == nil {
		panic(fmt.Sprintf("tool %s: there is no function", name))
	}
	t := Tool{name: name, description: description, schema: schema}
	for _, option := range options {
		if err := option(&t); err != nil {
			panic(fmt.Sprintf("tool %s: %v", name, err))
		}
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		panic(fmt.Sprintf("tool %s: %v", name, err))
	}
	t.call = f
	t.prepare = func(args map[string]any) (json.RawMessage, error) {
		args, _ = adapt(schema, args).(map[string]any)
		if args == nil {
			args = map[string]any{}
		}
		if err := resolved.Validate(args); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrArguments, err)
		}
		raw, err := json.Marshal(args)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrArguments, err)
		}
		return raw, nil
	}
	return t
}

// Call checks args against the schema, runs the function, and returns its output
// as a JSON object: a struct or map as it is, anything else under the key
// "output", as Gemini's function responses expect. Numbers are float64, integers
// that it cannot hold json.Number. Args may hold numbers in either form. It does
// not recover panics and does not bound the time: who runs tools does.
func (t Tool) Call(ctx context.Context, args map[string]any) (map[string]any, error) {
	if t.gemini != nil {
		return nil, fmt.Errorf("%s is run by Gemini, not here", t.name)
	}
	checked, err := t.prepare(args)
	if err != nil {
		return nil, err
	}
	out, err := t.call(ctx, checked)
	if err != nil {
		return nil, err
	}
	object, err := encode(out)
	if err != nil {
		return nil, err
	}
	if err := collect(ctx, out); err != nil {
		return nil, err
	}
	return object, nil
}

// encode returns the output of a tool as a JSON object.
func encode(out any) (map[string]any, error) {
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encoding the output: %w", err)
	}
	if len(raw) > MaxOutputBytes {
		return nil, fmt.Errorf("the output has %d bytes, more than the %d allowed", len(raw), MaxOutputBytes)
	}
	if !bytes.HasPrefix(raw, []byte("{")) {
		raw = append(append([]byte(`{"output":`), raw...), '}')
	}
	var object map[string]any
	if err := exactjson.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("encoding the output: %w", err)
	}
	exact(object)
	return object, nil
}
