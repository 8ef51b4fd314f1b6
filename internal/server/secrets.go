package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/gcp/secret"
	"example.com/gatehouse/internal/jws"
	"example.com/gatehouse/internal/refresh"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/webhook"
)

// secrets holds what changes without a deploy: the API keys, the origins, the model's key and
// what signs webhooks and the agent's card, from Secret Manager where the configuration names
// a secret. It is safe for concurrent use.
//
// Each secret is in one of three conditions. It is good: a fetch returned it, and it is
// handed on when its payload is another one than the last. It is away: the fetch failed for
// the moment, or the payload is not what it must be. Then the last good value stays; one
// that admits callers does so for refresh.Usable, an hour, and afterwards no caller can be
// recognized, which is 503 and not 401. Or it is withdrawn: disabled, destroyed, deleted,
// forbidden, or a list made empty. Then the value is dropped as soon as a second fetch, at
// least refresh.Confirm later, finds the same. Without the difference a revoked key would
// work as long as a reachable one, or a hiccup of the API would lock everybody out.
//
// Requests read keys, origins and webhooks without a lock. What a fetch writes besides is
// touched by one fetch at a time, for which schedule provides.
type secrets struct {
	connect  func() (*secret.Client, error)
	client   *secret.Client // nil when no secret is named
	named    []*namedSecret
	now      func() time.Time
	schedule *refresh.Schedule
	observer *telemetry.Observer
	log      *slog.Logger

	keys    atomic.Pointer[access.KeySet]
	origins atomic.Pointer[[]string]
	// webhooks are the secrets that webhooks are signed with.
	webhooks atomic.Pointer[webhook.Secrets]
	// cardKeys sign the agent's card.
	cardKeys atomic.Pointer[jws.Keys]

	failed   atomic.Pointer[error] // of the last attempt; nil when it went well
	rejected atomic.Pointer[error] // why the newest table of models is not used
}

// A namedSecret is a version that a variable names, and what is done with its
// payload. But for known, only who fetches touches what changes.
type namedSecret struct {
	variable, name string
	take           func(ctx context.Context, payload string) error // errNobody: the list is empty
	drop           func(ctx context.Context)                       // puts what was taken out of use
	optional       bool                                            // the service can go on without it

	taken   bool   // last is in use
	last    string // the payload taken last
	refusal refresh.Refusal
	known   atomic.Int64 // when it was last taken or withdrawn, in nanoseconds since 1970; 0: never
}

// errNobody is of a list that holds nobody. An empty list is how an operator shuts
// everybody out on purpose, so it is no failure: take returns it, and the value is dropped
// as a withdrawn one is.
var errNobody = errors.New("the list is empty")

// errWithdrawn is of a secret that was refused for good, and confirmed so. Health reports
// it until the secret can be read again.
var errWithdrawn = errors.New("withdrawn")

// newSecrets returns the secrets configured inline or by Secret Manager name. It fetches
// nothing: [secrets.start] does. Those marked optional keep no request from its answer, so
// the service starts without them.
func (s *Server) newSecrets(ctx context.Context, setModelKey func(context.Context, string) error) (*secrets, error) {
	l := &secrets{now: s.clock, connect: s.secretManager, log: s.Log}
	l.schedule = refresh.NewSchedule(func() time.Time { return l.now() })
	l.origins.Store(&s.Config.AllowedOrigins)
	takeKeys, takeCardKeys := takeList(&l.keys, access.ParseKeys), takeList(&l.cardKeys, jws.ParseKeys)
	if text := s.Config.APIKeys.Reveal(); text != "" {
		if err := takeKeys(ctx, text); err != nil {
			return nil, &fetchError{"API_KEYS", err}
		}
	}
	if text := s.Config.CardKeys.Reveal(); text != "" {
		if err := takeCardKeys(ctx, text); err != nil {
			return nil, &fetchError{"CARD_KEYS", err}
		}
	}
	for _, named := range []*namedSecret{
		{variable: "GEMINI_API_KEY_SECRET", name: s.Config.Gemini.APIKeySecret, take: func(ctx context.Context, payload string) error {
			key := strings.TrimSpace(payload)
			if key == "" {
				return errors.New("the secret is empty")
			}
			return setModelKey(ctx, key)
		}, drop: func(ctx context.Context) { _ = setModelKey(ctx, "") }},
		{variable: originsSecret, name: s.Config.AllowedOriginsSecret, take: func(_ context.Context, payload string) error {
			origins, err := config.ParseOrigins(payload, s.Config.Production())
			switch {
			case err != nil:
				return err
			case len(origins) == 0:
				return errNobody
			}
			l.origins.Store(&origins)
			return nil
		}, drop: func(context.Context) { l.origins.Store(&[]string{}) }},
		{variable: apiKeysSecret, name: s.Config.APIKeysSecret, take: takeKeys, drop: func(context.Context) { l.keys.Store(&access.KeySet{}) }},
		{variable: "CARD_KEYS_SECRET", name: s.Config.CardKeysSecret, take: takeCardKeys, drop: func(context.Context) { l.cardKeys.Store(nil) }},
		{variable: "MODELS_TABLE_SECRET", name: s.Config.ModelsSecret, optional: true, take: func(ctx context.Context, payload string) error {
			return s.takeTable(ctx, l, payload)
		}, drop: func(context.Context) { l.rejected.Store(nil); s.tables.Withdraw() }},
		{variable: "WEBHOOK_SECRETS_SECRET", name: s.Config.WebhookSecrets, optional: true, take: takeList(&l.webhooks, webhook.ParseSecrets),
			drop: func(context.Context) { l.webhooks.Store(nil) }},
	} {
		if named.name != "" {
			l.named = append(l.named, named)
		}
	}
	if len(l.named) == 0 {
		return l, nil
	}
	var err error
	l.client, err = l.connect()
	return l, err
}

// add has the secrets refreshed that were read elsewhere. It is called while the service is
// built, before any request can refresh. Where the agent's secrets are the only ones, no
// fetch has set the schedule, so it counts from now.
func (l *secrets) add(named []*namedSecret) (err error) {
	l.client, err = l.connect()
	if len(l.named) == 0 {
		l.schedule.Fetched(l.now())
	}
	l.named = append(l.named, named...)
	return err
}

// The variables that name what admits callers.
const (
	apiKeysSecret = "API_KEYS_SECRET"
	originsSecret = "ALLOWED_ORIGINS_SECRET"
)

// takeList returns a function that puts the list to use that parse reads of a payload. It is
// replaced as a whole: a request sees the old list or the new one.
func takeList[T any, List interface {
	*T
	Len() int
}](used *atomic.Pointer[T], parse func([]byte) (List, error)) func(context.Context, string) error {
	return func(_ context.Context, payload string) error {
		list, err := parse([]byte(payload))
		switch {
		case err != nil:
			return err
		case list.Len() == 0:
			return errNobody
		}
		used.Store(list)
		return nil
	}
}

// admits reports whether what the variable names may still admit callers. The time counts
// from the last fetch that succeeded or that confirmed a withdrawal, and not from the
// payload's last change.
func (l *secrets) admits(variable string) bool {
	for _, named := range l.named {
		if named.variable == variable {
			return refresh.Age(l.now(), time.Unix(0, named.known.Load())) < refresh.Usable
		}
	}
	return true // configured inline
}

// apiKeys are the keys that admit callers now, nil when that cannot be known.
func (l *secrets) apiKeys() *access.KeySet {
	if !l.admits(apiKeysSecret) {
		return nil
	}
	return l.keys.Load()
}

// allowedOrigins are the origins whose pages may call now, false when that cannot
// be known.
func (l *secrets) allowedOrigins() ([]string, bool) {
	if !l.admits(originsSecret) {
		return nil, false
	}
	return *l.origins.Load(), true
}

// start fetches every secret for the first time. The error is of those without
// which there is no service.
func (l *secrets) start(ctx context.Context) error {
	if len(l.named) == 0 {
		return nil
	}
	begun := l.now()
	_, err := l.fetch(ctx)
	if err == nil {
		l.schedule.Fetched(begun)
	}
	return err
}

// refresh fetches the secrets again when they are old, or waits for who does it. The
// request pays for the fetch, since the instance has no CPU between requests. A failure is
// logged and reported by health, never by the request.
func (l *secrets) refresh(ctx context.Context) {
	if l.client == nil {
		return
	}
	l.schedule.Refresh(ctx, func(ctx context.Context) refresh.Outcome {
		outcome, _ := l.fetch(ctx)
		if failed := l.failed.Load(); failed != nil {
			l.log.WarnContext(ctx, "Secrets could not be refreshed.", "error", (*failed).Error())
		}
		return outcome
	})
}

// fetch gets every secret, side by side, and hands on those that changed. The error is of
// those without which there is no service. A panic in what takes a payload counts as a
// failure of that secret. Of several outcomes the one that needs the earliest next fetch
// wins: a refusal, which is confirmed after ten seconds, before a failure, before success.
func (l *secrets) fetch(ctx context.Context) (_ refresh.Outcome, err error) {
	ctx, step := l.observer.StartSecrets(ctx)
	defer func() {
		failure := ""
		if err != nil {
			failure = string(api.NotReady)
		}
		step.End(ctx, failure)
	}()
	errs := make([]error, len(l.named))
	needed := make([]error, len(l.named)) // those of errs without which there is no service
	outcomes := make([]refresh.Outcome, len(l.named))
	var group sync.WaitGroup
	for i, named := range l.named {
		group.Go(func() {
			err := rescue.Call(func() (err error) {
				outcomes[i], err = l.update(ctx, named)
				return err
			})
			if err != nil {
				errs[i] = &fetchError{named.variable, err}
				if !named.optional {
					needed[i] = errs[i]
				}
			}
			if named.optional && outcomes[i] == refresh.Failed {
				outcomes[i] = refresh.Known // nobody waits for it
			}
		})
	}
	group.Wait()
	l.failed.Store(nil)
	if all := errors.Join(errs...); all != nil {
		l.failed.Store(&all)
	}
	outcome := refresh.Known
	switch {
	case slices.Contains(outcomes, refresh.Refused): // which is soon to be confirmed
		outcome = refresh.Refused
	case slices.Contains(outcomes, refresh.Failed):
		outcome = refresh.Failed
	}
	return outcome, errors.Join(needed...)
}

// update gets one secret. What cannot be had for the moment, or is not what it must
// be, leaves the last good value. What is refused for good is dropped when a second
// fetch has the same result. The error is health's reason why the secret is not there, nil
// for a list that is empty on purpose.
//
// At the first fetch there is no value to keep and nothing to confirm: a refusal fails the
// start, and an empty list is believed at once. A payload that is the last one is not taken
// again, which would make a new model client every five minutes. A payload that take
// refused is offered again each time, and so reported until it is corrected.
func (l *secrets) update(ctx context.Context, named *namedSecret) (refresh.Outcome, error) {
	begun := l.now()
	payload, err := l.client.Access(ctx, named.name)
	if err == nil && !(named.taken && named.last == string(payload)) {
		err = named.take(ctx, string(payload))
	}
	first := named.known.Load() == 0
	empty := errors.Is(err, errNobody)
	switch {
	case err == nil:
		named.taken, named.last = true, string(payload)
		named.refusal.Clear()
	case first && !empty, !empty && !secret.Refused(err):
		return refresh.Failed, err
	case !first && !named.refusal.Confirmed(begun):
		return refresh.Refused, err
	default:
		if first {
			named.drop(ctx)
		}
		if named.taken {
			named.drop(ctx)
			l.log.WarnContext(ctx, "What a secret held is withdrawn.", "variable", named.variable, "error", err.Error())
		}
		named.taken, named.last = false, ""
		if empty {
			err = nil
		} else {
			err = fmt.Errorf("%w: %w", errWithdrawn, err)
		}
	}
	named.known.Store(begun.UnixNano())
	return refresh.Known, err
}

// probe is what health asks: whether Secret Manager returns the secrets now, and whether
// the last attempt to use them went well. The last fetch's failures are about each secret;
// one access more, of the first of them, shows whether the API answers at this moment.
func (l *secrets) probe(ctx context.Context) error {
	if failed := l.failed.Load(); failed != nil {
		return *failed
	}
	if _, err := l.client.Access(ctx, l.named[0].name); err != nil {
		return fmt.Errorf("reading a secret: %w", err)
	}
	return nil
}
