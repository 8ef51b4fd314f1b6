package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/gcp/gcpsecret"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
)

const (
	// refreshAfter is how old what came from Secret Manager may get.
	secretsRefreshAfter = 5 * time.Minute
	// refreshTimeout bounds the one request that fetches it anew.
	secretsRefreshTimeout = 2 * time.Second
)

// secrets holds what changes without a deploy: the API keys, the origins and the
// model's key, from Secret Manager where the configuration names a secret. It
// is safe for concurrent use.
type secrets struct {
	client   *gcpsecret.Client // nil when no secret is named
	connect  func() (*gcpsecret.Client, error)
	named    []namedSecret
	now      func() time.Time
	observer *telemetry.Observer

	keys    atomic.Pointer[auth.KeySet]
	origins atomic.Pointer[[]string]

	refreshing sync.Mutex
	fetched    atomic.Int64          // the last attempt, in nanoseconds since 1970
	failed     atomic.Pointer[error] // of the last attempt; nil when it went well
	rejected   atomic.Pointer[error] // why the newest table of models is not used
}

// A namedSecret is a version that a variable names, and who takes its payload.
type namedSecret struct {
	variable, name string
	take           func(ctx context.Context, payload string) error
	last           string // the payload taken last; only touched by who fetches
	optional       bool   // the service can go on without it
}

// newSecrets returns the secrets configured inline or by Secret Manager name.
func (s *Server) newSecrets(ctx context.Context, setModelKey func(context.Context, string) error) (*secrets, error) {
	l := &secrets{now: time.Now, connect: s.secretManager}
	l.origins.Store(&s.Config.AllowedOrigins)
	if text := s.Config.APIKeys.Reveal(); text != "" {
		if err := l.takeKeys(ctx, text); err != nil {
			return nil, &fetchError{"API_KEYS", err}
		}
	}
	for _, named := range []namedSecret{
		{variable: "GEMINI_API_KEY_SECRET", name: s.Config.Gemini.APIKeySecret, take: func(ctx context.Context, payload string) error {
			return setModelKey(ctx, strings.TrimSpace(payload))
		}},
		{variable: "ALLOWED_ORIGINS_SECRET", name: s.Config.AllowedOriginsSecret, take: func(_ context.Context, payload string) error {
			origins, err := config.ParseOrigins(payload, s.Config.Production())
			if err == nil {
				l.origins.Store(&origins)
			}
			return err
		}},
		{variable: "API_KEYS_SECRET", name: s.Config.APIKeysSecret, take: l.takeKeys},
		{variable: "MODELS_TABLE_SECRET", name: s.Config.ModelsSecret, optional: true, take: func(ctx context.Context, payload string) error {
			return s.takeTable(ctx, l, payload)
		}},
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

// add has the secrets refreshed that were read elsewhere.
func (l *secrets) add(named []namedSecret) (err error) {
	l.client, err = l.connect()
	l.named = append(l.named, named...)
	l.fetched.CompareAndSwap(0, l.now().UnixNano())
	return err
}

func (l *secrets) takeKeys(_ context.Context, payload string) error {
	set, err := auth.ParseKeys([]byte(payload))
	if err == nil {
		l.keys.Store(set)
	}
	return err
}

// fetch gets every secret, side by side, and hands on those that changed. What
// cannot be had, or is not what it must be, leaves the last good value. The error
// is of those without which there is no service.
func (l *secrets) fetch(ctx context.Context) (err error) {
	if len(l.named) == 0 {
		return nil
	}
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
	var group errgroup.Group
	for i := range l.named {
		group.Go(func() error {
			named := &l.named[i]
			err := rescue.Call(func() error {
				payload, err := l.client.Access(ctx, named.name)
				if err == nil && string(payload) != named.last {
					if err = named.take(ctx, string(payload)); err == nil {
						named.last = string(payload)
					}
				}
				return err
			})
			if err != nil {
				errs[i] = &fetchError{named.variable, err}
				if !named.optional {
					needed[i] = errs[i]
				}
			}
			return nil
		})
	}
	_ = group.Wait()
	l.fetched.Store(l.now().UnixNano())
	l.failed.Store(nil)
	if all := errors.Join(errs...); all != nil {
		l.failed.Store(&all)
	}
	return errors.Join(needed...)
}

// refresh fetches the secrets anew when they are old: by one request, while the
// others go on with what there is. An instance has no CPU between requests, so
// it is a request that does it.
func (l *secrets) refresh(ctx context.Context, failed func(error)) {
	old := func() bool { return l.now().Sub(time.Unix(0, l.fetched.Load())) >= secretsRefreshAfter }
	if l.client == nil || !old() || !l.refreshing.TryLock() {
		return
	}
	defer l.refreshing.Unlock()
	if !old() { // another request has just done it
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), secretsRefreshTimeout)
	defer cancel()
	_ = l.fetch(ctx)
	if err := l.failed.Load(); err != nil {
		failed(*err)
	}
}

// probe is what health asks: whether Secret Manager gives the secrets now, and
// whether the last attempt to use them went well.
func (l *secrets) probe(ctx context.Context) error {
	if failed := l.failed.Load(); failed != nil {
		return *failed
	}
	if _, err := l.client.Access(ctx, l.named[0].name); err != nil {
		return fmt.Errorf("reading a secret: %w", err)
	}
	return nil
}
