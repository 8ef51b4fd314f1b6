// Package webhook reports events to URLs that callers name, signed as Standard Webhooks
// specifies (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
//
// A URL is one of the hosts that the operator lists, over https. Only public
// addresses are connected to, which is checked for each that the host's name resolves to
// ([egress.Guard]). No redirect is followed. How often an event is tried is the queue's
// business: [Sender.Send] tries once.
//
// A webhook is a request that a stranger has the service make, so what it can do is bounded
// here and not by its caller: where it goes, how long it takes, how much of the answer is read,
// and that no header and no error carries a secret. A receiver may get an event more than once,
// with the same Webhook-Id, by which it recognizes the second.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/gatehouse/internal/egress"
)

// MaxURLBytes bounds a webhook's URL.
const MaxURLBytes = 2048

// timeout bounds one delivery. Standard Webhooks asks for 15 to 30 s.
const timeout = 20 * time.Second

// maxAnswer is how much of an answer is read, so that its connection can be used again.
const maxAnswer = 64 << 10

// A Config is what a [Sender] is made of.
//
// Secrets is called for each event, so that a rotation takes effect without a restart.
type Config struct {
	Hosts     []string          // as in WEBHOOK_HOSTS
	Guard     egress.Guard      // what may be connected to
	Secrets   func() *Secrets   // those that sign now; nil: none is known
	Transport http.RoundTripper // nil: the guard's own
	Now       func() time.Time
}

// A Sender sends events. It is safe for concurrent use.
type Sender struct {
	Config
	client *http.Client
}

// New makes a sender. It reaches nothing.
func New(c Config) *Sender {
	client := c.Guard.Client()
	if c.Transport != nil {
		client.Transport = c.Transport
	}
	return &Sender{Config: c, client: client}
}

// Check reports what keeps text from being the URL of a webhook, "" if nothing does. It
// looks no name up: that is done at each delivery.
func (s *Sender) Check(text string) (issue string) {
	if len(text) > MaxURLBytes {
		return fmt.Sprintf("must have at most %d bytes", MaxURLBytes)
	}
	u, err := s.Guard.ParseURL(text)
	switch {
	case err != nil:
		return "must be an https URL of a public host, without a user"
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "must not have a fragment"
	case !slices.Contains(s.Hosts, strings.ToLower(host(u))):
		return "must be on one of the hosts that the service may call"
	}
	return ""
}

// host returns the host of u as WEBHOOK_HOSTS names it: with the port, unless that is
// the scheme's own.
func host(u *url.URL) string {
	if port := u.Port(); port == "" || u.Scheme == "https" && port == "443" {
		return u.Hostname()
	}
	return u.Host
}

// A DeliveryError is how a delivery failed. Of an answer it holds the status only, and its text
// repeats neither the URL nor anything that the receiver sent.
type DeliveryError struct {
	Status int   // of the receiver's answer; 0 without one
	Err    error // why there was none
}

func (e *DeliveryError) Error() string {
	if e.Err != nil {
		return "webhook: " + e.Err.Error()
	}
	return fmt.Sprintf("webhook: the receiver answered %d", e.Status)
}

func (e *DeliveryError) Unwrap() error { return e.Err }

// ErrNoSecret: there is no secret to sign with, none was configured or all have expired.
var ErrNoSecret = errors.New("no secret to sign webhooks with")

// Send delivers body as the event id, once. Any answer but a 2xx is a [*DeliveryError],
// a redirect too.
//
// [ErrNoSecret] comes unwrapped, before anything is sent: an event that nobody can verify is
// worse than a late one. Either error may pass, so the caller leaves the event in its queue.
func (s *Sender) Send(ctx context.Context, to, id string, body []byte) error {
	if issue := s.Check(to); issue != "" { // the list of hosts may be another than when it was named
		return &DeliveryError{Err: errors.New("its URL " + issue)}
	}
	now := s.Now()
	signature, err := s.Secrets().sign(id, now, body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return &DeliveryError{Err: errors.New("its URL is malformed")}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Gatehouse")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("Webhook-Signature", signature)
	response, err := s.client.Do(r)
	if err != nil {
		// The URL is the caller's, and may hold a secret.
		return &DeliveryError{Err: egress.Reason(err)}
	}
	defer func() { _ = response.Body.Close() }()
	// A connection is used again only if its answer was read to the end. The answer itself
	// means nothing.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return &DeliveryError{Status: response.StatusCode}
	}
	return nil
}

// Close closes connections that are idle.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// sign returns the signatures of all secrets that hold at now, so that a receiver may
// know any of them.
func (s *Secrets) sign(id string, now time.Time, body []byte) (string, error) {
	var signatures []string
	for _, secret := range s.at(now) {
		h := hmac.New(sha256.New, secret)
		// The time is signed with the body, so that a receiver can refuse an old event that
		// somebody repeats.
		fmt.Fprintf(h, "%s.%d.", id, now.Unix())
		h.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	if len(signatures) == 0 {
		return "", ErrNoSecret
	}
	return strings.Join(signatures, " "), nil
}
