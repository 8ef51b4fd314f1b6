package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"
)

const (
	maxBody   = 1 << 20 // bytes of a response
	maxEvents = 100_000 // in a stream
)

// newClient returns a client that follows no redirects, because no route redirects. It has
// no timeout: the context of each check bounds its calls. A redirect that was followed
// would carry the credential elsewhere, or hide a login page behind 200.
func newClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// An answer is the part of the envelope that is checked.
type answer struct {
	Success bool `json:"success"`
	Data    struct {
		Status    string   `json:"status"`
		Response  string   `json:"response"`
		SessionID string   `json:"session_id"`
		Turn      int      `json:"turn"`
		Model     string   `json:"model"`
		Warnings  []string `json:"warnings"`
		Usage     struct {
			TotalTokens int64 `json:"total_tokens"`
		} `json:"usage"`
	} `json:"data"`
	Error   string `json:"error"`
	Message string `json:"message"`
	Details []struct {
		Field string `json:"field"`
		Issue string `json:"issue"`
	} `json:"details"`
	RequestID string `json:"request_id"`

	header http.Header
}

// faults returns the details of an error, such as invalid variables.
func (a answer) faults() error {
	var all []error
	for _, detail := range a.Details {
		all = append(all, fmt.Errorf("%s %s", detail.Field, detail.Issue))
	}
	return errors.Join(all...)
}

// do sends a request with only the credential in header.
func (d *deployment) do(ctx context.Context, base, method, path, body string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	return d.client.Do(request)
}

// credential adds f's credential to header.
func (d *deployment) credential(f function, header http.Header) http.Header {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if f.token != "" {
		header.Set("Authorization", "Bearer "+f.token)
	} else {
		header.Set("X-API-Key", d.apiKey)
	}
	return header
}

// errNotLetIn means that Cloud Run refused the caller. The service's own responses
// have an X-Request-ID.
var errNotLetIn = errors.New("this account is not let in by Cloud Run: it needs the role run.invoker (Terraform's variable invokers), which takes minutes to spread")

// call sends a request with the credential and requires a response with this status. The
// answer is returned beside an error too, with what could be decoded of it.
func (d *deployment) call(ctx context.Context, f function, method, path, body string, header http.Header, status int) (answer, error) {
	response, err := d.do(ctx, f.base, method, path, body, d.credential(f, header))
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	a := answer{header: response.Header}
	decoded := json.Unmarshal(raw, &a)
	switch {
	case (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden) && response.Header.Get("X-Request-ID") == "":
		return a, errNotLetIn
	case response.StatusCode != status:
		return a, fmt.Errorf("it answers %d %s, where %d is right: %.200s", response.StatusCode, a.Error, status, a.Message)
	case status != http.StatusNoContent && decoded != nil:
		return a, fmt.Errorf("the answer is not the envelope: %w", decoded)
	}
	return a, nil
}

// A streamed is the result of reading an event stream.
type streamed struct {
	text   string
	deltas int
	first  time.Duration // time to the first piece of text
	done   answer
}

// open requests a stream and reads it to its end, which must be a done event.
func (d *deployment) open(ctx context.Context, body string) (streamed, error) {
	begin := time.Now()
	response, err := d.do(ctx, d.invoke.base, http.MethodPost, "/invoke", body, d.credential(d.invoke, http.Header{"Accept": {"text/event-stream"}}))
	if err != nil {
		return streamed{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		return streamed{}, fmt.Errorf("it answers %d with %q, where 200 and an event stream are right", response.StatusCode, kind)
	}
	var s streamed
	lines := bufio.NewScanner(io.LimitReader(response.Body, maxBody))
	lines.Buffer(nil, maxBody)
	event := ""
	for n := 0; lines.Scan() && n < maxEvents; n++ {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "event":
			event = value
		case name != "data":
		case event == "delta":
			var delta struct{ Text string }
			if err := json.Unmarshal([]byte(value), &delta); err != nil {
				return s, fmt.Errorf("an event of the stream: %w", err)
			}
			if s.deltas++; s.deltas == 1 {
				s.first = time.Since(begin)
			}
			s.text += delta.Text
		case event == "done":
			if err := json.Unmarshal([]byte(value), &s.done); err != nil {
				return s, fmt.Errorf("the stream's done: %w", err)
			}
			return s, nil
		case event == "error":
			return s, fmt.Errorf("the stream ends with an error: %.200s", value)
		}
	}
	return s, errors.Join(errors.New("the stream ends without done"), lines.Err())
}
