package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A deployment is what is checked, and what the checks have found.
type deployment struct {
	client         *http.Client
	invoke, health function
	apiKey         string

	session  string   // of the first turn
	sessions []string // to be deleted
}

// A function is one of the two functions and its token.
type function struct{ base, token string }

// A result is the result of a check.
type result struct {
	name    string
	took    time.Duration
	detail  string
	err     error
	skipped bool // depends on a failed check
}

// errSkipped: the check depends on one that failed.
var errSkipped = errors.New("skipped: depends on a failed check")

// checkTimeout bounds one check. It exceeds REQUEST_TIMEOUT plus a cold start.
const checkTimeout = 60 * time.Second

// check runs all checks in order, and continues after failures. Those that depend on a turn
// are skipped where there was none: they would report the same fault under another name.
// The deletion comes last and also deletes what failed checks made.
func (d *deployment) check(ctx context.Context) []result {
	var results []result
	for _, c := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"it serves", d.live},
		{"it is set up", d.ready},
		{"its health", d.healthy},
		{"a turn", d.turn},
		{"a stream, on the same session", d.stream},
		{"a repeated call with an idempotency key", d.replay},
		{"refused: no credential", d.noCredential},
		{"refused: a credential that does not verify", d.wrongCredential},
		{"refused: a body that is no JSON", d.refusal(http.MethodPost, "/invoke", "{", nil, http.StatusBadRequest, "malformed_request")},
		{"refused: a field it does not know", d.refusal(http.MethodPost, "/invoke", `{"query": "x", "smoke": 1}`, nil, http.StatusUnprocessableEntity, "validation_failed")},
		{"refused: a session that is nobody's", d.refusal(http.MethodGet, "/sessions/"+rand.Text(), "", nil, http.StatusNotFound, "session_not_found")},
		{"refused: a page from elsewhere", d.refusal(http.MethodPost, "/invoke", `{"query": "x"}`,
			http.Header{"Origin": {"https://smoke-test.invalid"}}, http.StatusForbidden, "origin_not_allowed")},
		{"deletion of what was made", d.delete},
	} {
		begin := time.Now()
		r := result{name: c.name}
		within, cancel := context.WithTimeout(ctx, checkTimeout)
		r.detail, r.err = c.do(within)
		cancel()
		r.took = time.Since(begin)
		if errors.Is(r.err, errSkipped) {
			r.skipped, r.detail = true, errSkipped.Error()
		}
		results = append(results, r)
	}
	return results
}

func (d *deployment) live(ctx context.Context) (string, error) {
	_, err := d.call(ctx, d.invoke, http.MethodGet, "/health/live", "", nil, http.StatusOK)
	return "", err
}

// ready checks that the service is set up. Its error lists the variables at fault, which
// the service names in details.
func (d *deployment) ready(ctx context.Context) (string, error) {
	a, err := d.call(ctx, d.invoke, http.MethodGet, "/health/ready", "", nil, http.StatusOK)
	return "", errors.Join(err, a.faults())
}

func (d *deployment) healthy(ctx context.Context) (string, error) {
	a, err := d.call(ctx, d.health, http.MethodGet, "/health", "", nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	switch a.Data.Status {
	case "healthy", "degraded":
		return a.Data.Status, nil
	}
	return "", fmt.Errorf("its status is %q", a.Data.Status)
}

// question is cheap to answer.
const question = `"query": "Answer in one short sentence: are you there?"`

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)

func (d *deployment) turn(ctx context.Context) (string, error) {
	a, err := d.call(ctx, d.invoke, http.MethodPost, "/invoke", "{"+question+"}", nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	d.remember(a)
	if err := a.isTurn(1); err != nil {
		return "", err
	}
	d.session = a.Data.SessionID
	return fmt.Sprintf("%s, %d tokens", a.Data.Model, a.Data.Usage.TotalTokens), nil
}

func (d *deployment) stream(ctx context.Context) (string, error) {
	if d.session == "" {
		return "", errSkipped
	}
	s, err := d.open(ctx, fmt.Sprintf(`{%s, "session_id": %q, "stream": true}`, question, d.session))
	if err != nil {
		return "", err
	}
	if err := s.done.isTurn(2); err != nil {
		return "", fmt.Errorf("the stream's done: %w", err)
	}
	if s.text != s.done.Data.Response {
		return "", errors.New("what was streamed is not what done holds")
	}
	return fmt.Sprintf("%d pieces, the first after %.2f s", s.deltas, s.first.Seconds()), nil
}

// replay checks that a repeated call is answered from the first. The key is random: one
// that an earlier run of this program used would be answered from that run's turn.
func (d *deployment) replay(ctx context.Context) (string, error) {
	header := http.Header{"Idempotency-Key": {"smoke-" + rand.Text()}}
	first, err := d.call(ctx, d.invoke, http.MethodPost, "/invoke", "{"+question+"}", header, http.StatusOK)
	if err != nil {
		return "", err
	}
	d.remember(first)
	if err := first.isTurn(1); err != nil {
		return "", err
	}
	second, err := d.call(ctx, d.invoke, http.MethodPost, "/invoke", "{"+question+"}", header, http.StatusOK)
	if err != nil {
		return "", fmt.Errorf("repeated: %w", err)
	}
	d.remember(second)
	switch {
	case second.header.Get("Idempotency-Replayed") != "true":
		return "", errors.New("the second call was not answered from the first")
	case second.Data.SessionID != first.Data.SessionID || second.Data.Turn != first.Data.Turn || second.Data.Response != first.Data.Response:
		return "", errors.New("the second call got another answer than the first")
	}
	return "", nil
}

func (d *deployment) noCredential(ctx context.Context) (string, error) {
	return d.refusedCredential(ctx, nil)
}

// wrongCredential sends one of the kind that was accepted before, so that it is the
// verification that refuses and not a mode that is off.
func (d *deployment) wrongCredential(ctx context.Context) (string, error) {
	if d.apiKey != "" {
		return d.refusedCredential(ctx, http.Header{"X-Api-Key": {rand.Text() + rand.Text()}})
	}
	return d.refusedCredential(ctx, http.Header{"Authorization": {"Bearer " + rand.Text()}})
}

// refusedCredential expects the refusal of Cloud Run or of the service.
func (d *deployment) refusedCredential(ctx context.Context, header http.Header) (string, error) {
	response, err := d.do(ctx, d.invoke.base, http.MethodPost, "/invoke", "{"+question+"}", header)
	if err != nil {
		return "", err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusForbidden {
		return "", fmt.Errorf("it answers %d, where 401 or 403 is right", response.StatusCode)
	}
	return response.Status, nil
}

// refusal returns a check of a call that must be refused with this status and code.
func (d *deployment) refusal(method, path, body string, header http.Header, status int, code string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		a, err := d.call(ctx, d.invoke, method, path, body, header, status)
		if err == nil && a.Error != code {
			err = fmt.Errorf("the error's code is %q, not %q", a.Error, code)
		}
		return code, err
	}
}

// delete deletes the sessions that were made and checks that they are gone: a test that
// runs at every delivery must not fill the store.
func (d *deployment) delete(ctx context.Context) (string, error) {
	if len(d.sessions) == 0 {
		return "", errSkipped
	}
	for _, id := range d.sessions {
		if _, err := d.call(ctx, d.invoke, http.MethodDelete, "/sessions/"+id, "", nil, http.StatusNoContent); err != nil {
			return "", err
		}
		if _, err := d.call(ctx, d.invoke, http.MethodGet, "/sessions/"+id, "", nil, http.StatusNotFound); err != nil {
			return "", fmt.Errorf("after its deletion: %w", err)
		}
	}
	return fmt.Sprintf("%d sessions", len(d.sessions)), nil
}

// remember records a session to be deleted at the end.
func (d *deployment) remember(a answer) {
	id := a.Data.SessionID
	if idPattern.MatchString(id) && !slices.Contains(d.sessions, id) {
		d.sessions = append(d.sessions, id)
	}
}

// isTurn returns an error unless a is the session's turn of this number.
func (a answer) isTurn(number int) error {
	switch {
	case !a.Success:
		return errors.New("success is false")
	case strings.TrimSpace(a.Data.Response) == "":
		return errors.New("the answer is empty")
	case !idPattern.MatchString(a.Data.SessionID):
		return errors.New("the session has no proper id")
	case a.Data.Turn != number:
		return fmt.Errorf("it is turn %d of its session, not %d", a.Data.Turn, number)
	case a.Data.Usage.TotalTokens <= 0:
		return errors.New("it counts no tokens")
	case a.RequestID == "":
		return errors.New("it has no request_id")
	case slices.Contains(a.Data.Warnings, "session_not_saved"):
		return errors.New("the turn was not saved")
	}
	return nil
}
