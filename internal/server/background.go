package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/egress"
	"example.com/gatehouse/internal/gcp/tasks"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/webhook"
)

// openQueue makes the queue of runs that outlive their request, and the
// authenticator of its requests: Cloud Tasks where the configuration names a queue, else one in
// this process where the options ask for it.
func (s *Server) openQueue(ctx context.Context, p *parts) error {
	switch {
	case s.Config.TasksQueue != "":
		url, err := s.serviceURL(ctx)
		if err != nil {
			return err
		}
		q, err := tasks.New(tasks.Config{
			Queue: s.Config.TasksQueue, Account: s.Config.TasksAccount, URL: url, Endpoint: s.Config.TasksEndpoint, Deadline: s.Config.RunTimeout + runMargin,
		})
		if err != nil {
			return &fetchError{"TASKS_ENDPOINT", err}
		}
		p.queue, p.tasks = q, auth.New(s.tasksMethod(url))
		p.closers = append(p.closers, func() { _ = q.Close() })
	case s.localQueue:
		token := rand.Text()
		p.tasks = auth.New(&tokenMethod{token})
		// The queue's deliveries are requests to this process, so they need a credential as
		// those of Cloud Tasks do: a token that is new in each process and never leaves it.
		q := queue.NewLocal(context.WithoutCancel(ctx), func(ctx context.Context, t queue.Task) error { return s.deliver(ctx, token, t) }, s.Log)
		p.queue, p.closeQueue = q, q.Close
		p.closers = append(p.closers, q.Close) // also where the service never came to stand
	}
	return nil
}

// runMargin is what a delivery has beyond its run: to take the run up, and to store it.
const runMargin = time.Minute

// tasksMethod verifies the tokens that Cloud Tasks sends. Where AUTH has iam, Cloud Run has
// checked the signature and removes it, so only the claims are left to compare; elsewhere
// the signature is verified here.
func (s *Server) tasksMethod(url string) auth.Method {
	if s.Config.HasAuth(config.AuthIAM) {
		return auth.NewIAMAccount(s.Config.TasksAccount, url, nil)
	}
	return auth.NewOIDC([]access.Issuer{auth.AccountIssuer(s.tokenIssuer(), s.Config.TasksAccount, url)}, auth.OIDCOptions{})[0]
}

// newWebhooks makes the sender of webhooks, nil where no host is listed.
func (s *Server) newWebhooks(l *secrets) *webhook.Sender {
	if len(s.Config.WebhookHosts) == 0 {
		return nil
	}
	var guard egress.Guard
	if !s.Config.Production() {
		guard.Allow = egress.Loopback // where WEBHOOK_HOSTS lists it
	}
	return webhook.New(webhook.Config{Hosts: s.Config.WebhookHosts, Guard: guard, Secrets: l.webhooks.Load, Now: time.Now})
}

// deliver hands a task of the local queue to the service as Cloud Tasks would, so that it
// has a line in the log, an entry in the audit and a place in the shutdown like any other
// request. Its error makes the queue try the task again, as a status of 300 and more does
// with Cloud Tasks.
func (s *Server) deliver(ctx context.Context, token string, t queue.Task) error {
	body, err := t.Encode()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1"+queue.Path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	r.RemoteAddr = "127.0.0.1:0"
	w := &answer{header: http.Header{}}
	s.Invoke.ServeHTTP(w, r)
	if w.status >= 300 {
		return fmt.Errorf("the delivery was answered %d", w.status)
	}
	return nil
}

// An answer keeps only the status.
type answer struct {
	header http.Header
	status int
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *answer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), nil
}

// A tokenMethod admits whoever knows a token that only this process does.
type tokenMethod struct{ token string }

// Authenticate implements [auth.Method].
func (m *tokenMethod) Authenticate(r *http.Request) (auth.Principal, bool, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return auth.Principal{}, false, auth.ErrNoCredential
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(m.token)) != 1 {
		return auth.Principal{}, true, auth.ErrInvalid
	}
	return auth.Principal{Issuer: "queue", Subject: "local", Method: "queue"}, true, nil
}
