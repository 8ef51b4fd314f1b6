package invoke

import (
	"context"
	"errors"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// The webhook of a run may be set while the run goes on. It is in the record, which the
// run's holder writes each second, and both writes are conditional: the one that comes second
// meets what the first has written. The holder takes over the webhook that it meets; who sets
// one meets the run's end, which is then the error. A holder that dies reports nothing, so the
// queue looks at the run, too, until it is over.

// A Webhook is where the queue reports what a run has come to.
type Webhook struct {
	URL string `json:"webhook,omitempty"` // "": nowhere
	ID  string `json:"id,omitempty"`      // by which a door's client knows it
}

// checkURL returns what is wrong with the URL of a webhook, an [*api.Error] that names field.
func (s *Service) checkURL(field, url string) error {
	if s.Queue == nil || s.Webhooks == nil {
		return api.Invalid(field, "is not offered by this service")
	}
	if issue := s.Webhooks.Check(url); issue != "" {
		return api.Invalid(field, issue)
	}
	return nil
}

// Webhook returns the webhook of a run of the caller. The error is an [*api.Error].
func (s *Service) Webhook(ctx context.Context, runID string) (Webhook, error) {
	_, record, err := s.recordOf(ctx, runID)
	if err != nil || record == nil {
		return Webhook{}, err
	}
	return webhookOf(record), nil
}

// SetWebhook sets the webhook of a run of the caller that goes on, or waits, and returns the
// one that it has then. change is called with the one that it has, and returns the next. One
// with the zero URL is removed, also from a run that is over: what was not delivered yet is
// not any more. The error is an [*api.Error], session_conflict for a run that is over: either
// the webhook is told of the end, or its client knows here that there is nothing to wait for.
func (s *Service) SetWebhook(ctx context.Context, runID string, change func(Webhook) (Webhook, error)) (Webhook, error) {
	for range stopTries {
		key, record, err := s.recordOf(ctx, runID)
		if err != nil {
			return Webhook{}, err
		}
		var current Webhook
		if record != nil {
			current = webhookOf(record)
		}
		next, err := change(current)
		if err != nil {
			return current, err
		}
		if next.URL != "" {
			if err := s.checkURL("url", next.URL); err != nil {
				return current, err
			}
			if record == nil || record.Over() || record.State == session.Waiting && !s.waits(record) {
				return current, runOver()
			}
		}
		if next != current {
			changed := *record
			d := deliveriesIn(record)
			d.Webhook = next
			changed.Deliveries = d.encode()
			saving, cancel := context.WithTimeout(ctx, storeTimeout)
			record, err = s.Store.SaveRun(saving, &changed)
			cancel()
			switch {
			case errors.Is(err, session.ErrChanged):
				continue
			case errors.Is(err, session.ErrNotFound):
				return current, runNotFound()
			case err != nil:
				return current, storeFailure(err)
			}
		}
		if next.URL == "" {
			return next, nil
		}
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session = key.session.Hash() })
		return next, s.schedule(ctx, record) // again, if an earlier try could not
	}
	return Webhook{}, api.Fail(api.SessionStoreUnavailable, session.ErrChanged)
}

// recordOf returns the record of a run of the caller, nil for one that left its turn and no
// record: it is over. A run in its first second has none yet, so it is waited for.
func (s *Service) recordOf(ctx context.Context, runID string) (runKey, *session.Run, error) {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return key, nil, err
	}
	for begin := time.Now(); ; {
		reading, cancel := context.WithTimeout(ctx, storeTimeout)
		record, err := session.LoadRun(reading, s.Store, key.session, key.id)
		var found error
		if errors.Is(err, session.ErrNotFound) {
			_, found = session.Find(reading, s.Store, key.session, key.id)
		}
		cancel()
		switch {
		case err == nil && record.Request == nil: // a stop that came before the run
			return key, nil, runNotFound()
		case err == nil:
			return key, record, nil
		case !errors.Is(err, session.ErrNotFound):
			return key, nil, storeFailure(err)
		case found == nil:
			return key, nil, nil
		case !errors.Is(found, session.ErrNotFound):
			return key, nil, storeFailure(found)
		case time.Since(begin) >= appearWithin:
			return key, nil, runNotFound()
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return key, nil, failure(ctx, ctx, context.Cause(ctx))
		}
	}
}
