package a2a

import (
	"cmp"
	"context"

	"github.com/a2aproject/a2a-go/v2/a2a"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/invoke"
)

// A task has one push configuration: the webhook of its run. Its id is the client's, or the
// task's where the client names none.

// pushes reports whether the end of a task can be sent to a client's URL.
func (d *door) pushes() bool { return d.Invoke.Queued() && d.Invoke.Webhooks != nil }

// checkPush returns what is wrong with a push configuration of a client, but for its URL.
func (d *door) checkPush(p *a2a.PushConfig, field string) error {
	switch {
	case !d.pushes():
		return a2a.ErrPushNotificationNotSupported
	case p.URL == "":
		return api.Invalid(field+".url", "is required")
	case p.Token != "" || p.Auth != nil:
		return api.Invalid(field, "must have neither token nor authentication: what is sent is signed (Standard Webhooks)")
	case p.ID != "" && !api.Printable(p.ID, 250):
		return api.Invalid(field+".id", "must be at most 250 printable ASCII characters")
	}
	return nil
}

// push returns a task's configuration, nil for none.
func push(task a2a.TaskID, w invoke.Webhook) *a2a.PushConfig {
	if w.URL == "" {
		return nil
	}
	return &a2a.PushConfig{TaskID: task, ID: cmp.Or(w.ID, string(task)), URL: w.URL}
}

// GetTaskPushConfig implements [a2asrv.RequestHandler].
func (c *call) GetTaskPushConfig(ctx context.Context, get *a2a.GetTaskPushConfigRequest) (*a2a.PushConfig, error) {
	list, err := c.ListTaskPushConfigs(ctx, &a2a.ListTaskPushConfigRequest{TaskID: get.TaskID})
	if err != nil {
		return nil, err
	}
	for _, p := range list.Configs {
		if get.ID == "" || get.ID == p.ID {
			return p, nil
		}
	}
	missing := api.Fail(api.NotFound, nil)
	missing.Message = "This task has no such push configuration."
	return nil, c.failed(missing)
}

// ListTaskPushConfigs implements [a2asrv.RequestHandler].
func (c *call) ListTaskPushConfigs(_ context.Context, list *a2a.ListTaskPushConfigRequest) (*a2a.ListTaskPushConfigResponse, error) {
	if !c.pushes() {
		return nil, a2a.ErrPushNotificationNotSupported
	}
	w, err := c.Invoke.Webhook(c.request.Context(), string(list.TaskID))
	if err != nil {
		return nil, c.failed(unknownTask(err))
	}
	answer := &a2a.ListTaskPushConfigResponse{Configs: []*a2a.PushConfig{}}
	if p := push(list.TaskID, w); p != nil {
		answer.Configs = append(answer.Configs, p)
	}
	return answer, nil
}

// CreateTaskPushConfig implements [a2asrv.RequestHandler]: for a task that goes on. One
// with the id that it has replaces that.
func (c *call) CreateTaskPushConfig(_ context.Context, sent *a2a.PushConfig) (*a2a.PushConfig, error) {
	next, err := c.setPush(c.request.Context(), sent.TaskID, sent, "taskPushNotificationConfig")
	if err != nil {
		return nil, c.failed(unknownTask(err))
	}
	return push(sent.TaskID, next), nil
}

// setPush sets the push configuration of a task. field is where it is in the request.
func (c *call) setPush(ctx context.Context, task a2a.TaskID, sent *a2a.PushConfig, field string) (invoke.Webhook, error) {
	if err := c.checkPush(sent, field); err != nil {
		return invoke.Webhook{}, err
	}
	return c.Invoke.SetWebhook(ctx, string(task), func(current invoke.Webhook) (invoke.Webhook, error) {
		next := invoke.Webhook{URL: sent.URL, ID: sent.ID}
		if had := push(task, current); had != nil && had.ID != push(task, next).ID {
			other := api.Fail(api.SessionConflict, nil)
			other.Message = "This task has a push configuration with another id. Delete that first."
			return next, other
		}
		return next, nil
	})
}

// DeleteTaskPushConfig implements [a2asrv.RequestHandler]. What has not been sent yet is not
// any more. One that is not there is deleted already (A2A 1.0, 3.1.10).
func (c *call) DeleteTaskPushConfig(_ context.Context, sent *a2a.DeleteTaskPushConfigRequest) error {
	if !c.pushes() {
		return a2a.ErrPushNotificationNotSupported
	}
	_, err := c.Invoke.SetWebhook(c.request.Context(), string(sent.TaskID), func(current invoke.Webhook) (invoke.Webhook, error) {
		if had := push(sent.TaskID, current); had != nil && sent.ID != "" && had.ID != sent.ID {
			return current, nil
		}
		return invoke.Webhook{}, nil
	})
	if err != nil {
		return c.failed(unknownTask(err))
	}
	return nil
}

// GetExtendedAgentCard implements [a2asrv.RequestHandler]: the public card has all.
func (c *call) GetExtendedAgentCard(context.Context, *a2a.GetExtendedAgentCardRequest) (*a2a.AgentCard, error) {
	return nil, a2a.ErrExtendedCardNotConfigured
}
