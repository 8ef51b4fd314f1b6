// Package merchant is an agent of the service's own tests whose tools change the world:
// each charges an order at a remote service, which a test stands in for.
package merchant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// The names of the tools, by how a charge whose end is unknown is found out.
const (
	Deduped    = "charge_deduped"    // the remote takes an id once: it is asked again
	Reconciled = "charge_reconciled" // the remote is asked what became of the id, which ends it
	Blind      = "charge_blind"      // not at all
)

// Remote is the variable that holds the address of the remote service. It serves POST
// /charge, and POST /settle, which ends a charge that has not begun; both with the
// parameters id and order, and "once" where the id is to be taken once.
const Remote = "MERCHANT_REMOTE"

type order struct {
	Order int `json:"order"`
}

// A Charge is a charge as the remote service returns it.
type Charge struct {
	Done    bool   `json:"done"`
	Receipt string `json:"receipt"`
}

// New makes the agent.
func New(context.Context, agent.Env) (agent.Agent, error) {
	remote := os.Getenv(Remote)
	if remote == "" {
		return agent.Agent{}, errors.New("MERCHANT_REMOTE is not set")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	client := &http.Client{Transport: transport}
	post := func(ctx context.Context, path string, in order, once bool) (Charge, error) {
		query := url.Values{"id": {tool.From(ctx).EffectID}, "order": {fmt.Sprint(in.Order)}}
		if once {
			query.Set("once", "true")
		}
		return post(ctx, client, remote+path+"?"+query.Encode())
	}
	charge := func(once bool) func(context.Context, order) (Charge, error) {
		return func(ctx context.Context, in order) (Charge, error) { return post(ctx, "/charge", in, once) }
	}
	// Finding out may be tried again, and must be: an error ends the turn as unknown.
	insist := func(ctx context.Context, path string, in order, once bool) (c Charge, err error) {
		for range 3 {
			if c, err = post(ctx, path, in, once); !errors.Is(err, tool.ErrUnknown) {
				break
			}
		}
		return c, err
	}
	again := func(ctx context.Context, in order) (Charge, bool, error) {
		c, err := insist(ctx, "/charge", in, true)
		return c, err == nil, err
	}
	settle := func(ctx context.Context, in order) (Charge, bool, error) {
		c, err := insist(ctx, "/settle", in, false)
		return c, c.Done, err
	}
	return agent.Agent{
		Name:        "merchant",
		Description: "Charges orders of tests.",
		Instruction: "You charge orders.",
		Tools: []tool.Tool{
			tool.New(Deduped, "Charges an order.", charge(true), tool.Effect(again)),
			tool.New(Reconciled, "Charges an order.", charge(false), tool.Effect(settle)),
			tool.New(Blind, "Charges an order.", charge(false), tool.Effect[order, Charge](nil)),
		},
		Close: func(context.Context) error { transport.CloseIdleConnections(); return nil },
	}, nil
}

// post makes a request. A failure of any kind leaves it unknown whether it was taken.
func post(ctx context.Context, client *http.Client, address string) (c Charge, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return c, err
	}
	response, err := client.Do(request)
	if err != nil {
		return c, fmt.Errorf("%w: %w", tool.ErrUnknown, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	switch {
	case err != nil:
		return c, fmt.Errorf("%w: %w", tool.ErrUnknown, err)
	case response.StatusCode == http.StatusGone:
		return c, errors.New("the charge has been given up")
	case response.StatusCode != http.StatusOK:
		return c, fmt.Errorf("%w: status %d", tool.ErrUnknown, response.StatusCode)
	}
	return c, json.Unmarshal(body, &c)
}
