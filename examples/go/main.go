// Command go is a backend that asks the agent for its own users: with an ID
// token where the service is behind IAM, with an API key, or with neither for a
// local run.
//
//	go run ./go -user ada "What can you do?"
//	go run ./go -url https://invoke-….run.app -iam "…"
//	GATEHOUSE_API_KEY=… go run ./go -url https://… "…"
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/api/idtoken"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:8080", "of the function invoke")
	iam := flag.Bool("iam", false, "send an ID token of this service account, for the URL")
	user := flag.String("user", "", "the person that is asked for: sessions and limits are theirs")
	session := flag.String("session", "", "the session to go on with")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, *url, *iam, *user, *session, strings.Join(flag.Args(), " "))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, iam bool, user, session, query string) error {
	client := &http.Client{}
	if iam {
		var err error
		if client, err = idtoken.NewClient(ctx, url); err != nil { // fetches and renews the token
			return err
		}
	}
	a := &agent{url: url, key: os.Getenv("GATEHOUSE_API_KEY"), client: client}
	answer, err := a.ask(ctx, user, session, query)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n\n(session %s, turn %d)\n", answer.Response, answer.SessionID, answer.Turn)
	return nil
}

// An agent is a deployment of Gatehouse.
type agent struct {
	url    string
	key    string // of the API; "" without one
	client *http.Client
}

type answer struct {
	Response  string `json:"response"`
	SessionID string `json:"session_id"`
	Turn      int    `json:"turn"`
}

// tries is how often a question is put, at most. All of them bear one
// Idempotency-Key, so that they make one turn.
const tries = 4

// ask asks for a user, in a session or ("") a new one.
func (a *agent) ask(ctx context.Context, user, session, query string) (*answer, error) {
	body := map[string]string{"query": query}
	if session != "" {
		body["session_id"] = session
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s-%d", user, time.Now().UnixNano())
	for try := 1; ; try++ {
		answer, wait, err := a.once(ctx, encoded, user, key)
		if err == nil || wait == 0 || try == tries {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// once is one try. wait is when to try again after an error, 0: never.
func (a *agent) once(ctx context.Context, body []byte, user, key string) (_ *answer, wait time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/invoke", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	if user != "" {
		request.Header.Set("X-End-User", user)
	}
	if a.key != "" {
		request.Header.Set("X-API-Key", a.key)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, time.Second, err
	}
	defer func() { _ = response.Body.Close() }()
	var envelope struct {
		Message   string  `json:"message"`
		Error     string  `json:"error"`
		RequestID string  `json:"request_id"`
		Data      *answer `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&envelope); err != nil {
		return nil, time.Second, fmt.Errorf("%s: %w", response.Status, err)
	}
	if envelope.Data == nil {
		if after, err := time.ParseDuration(response.Header.Get("Retry-After") + "s"); err == nil {
			wait = after
		}
		return nil, wait, fmt.Errorf("%s (%s, request %s): %w", envelope.Message, envelope.Error, envelope.RequestID, errAnswer)
	}
	return envelope.Data, 0, nil
}

var errAnswer = errors.New("no answer")
