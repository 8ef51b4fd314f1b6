package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"
)

// What a model asks for may be asked for again: a request is retried, an instance dies in
// the middle and another goes on. A tool that only reads may run again. One that changes
// the world is marked by [Effect], and one that a person is to agree to by [Confirm].

// ErrUnknown is wrapped by the error of a tool marked by [Effect] that cannot know
// whether it took effect, such as when the connection broke behind the request.
var ErrUnknown = errors.New("it is not known whether this took effect")

// Effect marks a tool that changes the world. Before a call begins, the service stores
// that it does, and no call is begun a second time unless it is known not to have taken
// effect. [Context.EffectID] is the same whenever this very call is tried again: pass it
// to the other service as its idempotency key. A call that has ended is never begun again:
// its result is kept, with what it has changed in the session's state. None begins in an
// instance that another has replaced.
//
// An error of the tool means that nothing was done, unless it wraps [ErrUnknown]. The end
// of a call is also unknown if the tool panics, takes too long, is cut short by the end of
// its turn, or its instance dies. Then the service calls reconcile with the same arguments
// and EffectID. It returns the tool's output and true if the call took effect, and false if
// it did not and never will; then the call is begun again where that is still of use. With
// an error, or a nil reconcile, the turn ends with the warning effect_unknown, and the
// person decides: Effect[In, Out](nil). reconcile has the tool's own timeout once more, and
// 2 seconds of that once the turn is over.
//
// In must decode from the tool's arguments. An agent that is a tool can have no tool
// with an effect.
func Effect[In, Out any](reconcile func(context.Context, In) (Out, bool, error)) Option {
	return func(t *Tool) error {
		t.effect = true
		if reconcile == nil {
			return nil
		}
		if err := checkMembers[In](t, "the reconcile of Effect"); err != nil {
			return err
		}
		t.reconcile = func(ctx context.Context, args json.RawMessage) (any, bool, error) {
			var in In
			if err := json.Unmarshal(args, &in); err != nil {
				return nil, false, fmt.Errorf("%w: %v", ErrArguments, err)
			}
			return reconcile(ctx, in)
		}
		return nil
	}
}

// checkMembers returns an error if In has a member that the tool's arguments do not have: it
// would always be zero, and a person asked about something else than what is done.
func checkMembers[In any](t *Tool, what string) error {
	if reflect.TypeFor[In]().Kind() != reflect.Struct || len(t.schema.Properties) == 0 {
		return nil
	}
	in, err := jsonschema.For[In](nil)
	if err != nil {
		return nil // a type that decodes itself
	}
	for name := range in.Properties {
		if _, ok := lookup(t.schema.Properties, name); !ok {
			return fmt.Errorf("%s takes a %s, whose %q is no argument of the tool", what, reflect.TypeFor[In](), name)
		}
	}
	return nil
}

// Confirm makes a run wait for a person before each call of the tool: the turn ends with
// the question, and goes on once its owner has approved or denied the call. The approval
// holds for these arguments, once, and for APPROVAL_TTL. With an empty question the call
// needs no approval. An agent that is a tool can have no tool that asks.
func Confirm[In any](question func(In) string) Option {
	return func(t *Tool) error {
		if question == nil {
			return errors.New("Confirm needs a question")
		}
		if err := checkMembers[In](t, "the question of Confirm"); err != nil {
			return err
		}
		t.question = func(args json.RawMessage) (string, error) {
			var in In
			if err := json.Unmarshal(args, &in); err != nil {
				return "", fmt.Errorf("%w: %v", ErrArguments, err)
			}
			return question(in), nil
		}
		return nil
	}
}

// HasEffect reports whether the tool changes the world; see [Effect].
func (t Tool) HasEffect() bool { return t.effect }

// Reconciles reports whether [Tool.Reconcile] can be asked.
func (t Tool) Reconciles() bool { return t.reconcile != nil }

// Asks reports whether calls may need an approval; see [Confirm].
func (t Tool) Asks() bool { return t.question != nil }

// Question returns what to ask a person before a call, "" if it needs no approval.
func (t Tool) Question(args map[string]any) (string, error) {
	if t.question == nil {
		return "", nil
	}
	raw, err := t.prepare(args)
	if err != nil {
		return "", err
	}
	return t.question(raw)
}

// Reconcile asks how a call of the tool has ended. It returns the output as [Tool.Call]
// does, and whether the call took effect.
func (t Tool) Reconcile(ctx context.Context, args map[string]any) (map[string]any, bool, error) {
	if t.reconcile == nil {
		return nil, false, ErrUnknown
	}
	raw, err := t.prepare(args)
	if err != nil {
		return nil, false, err
	}
	out, done, err := t.reconcile(ctx, raw)
	if err != nil || !done {
		return nil, false, err
	}
	object, err := encode(out)
	return object, err == nil, err
}

type progressKey struct{}

// Progress shows the people who watch the run how far the call of a tool is. It does not
// wait for them, and does nothing where nobody can watch. A call shows at most 64 texts
// of at most 1 KiB; what is more is left out.
func Progress(ctx context.Context, text string) {
	if show, ok := ctx.Value(progressKey{}).(func(string)); ok {
		show(text)
	}
}

// WithProgress returns a context in which [Progress] calls show. The service does this
// for each call; tests of tools do it for themselves.
func WithProgress(ctx context.Context, show func(text string)) context.Context {
	return context.WithValue(ctx, progressKey{}, show)
}
