// Package orders is an agent that acts for somebody: it shows and cancels the orders of
// the person who asks, and of nobody else.
package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

const instruction = `You help customers of a shop with their orders.

- Look an order up before you say anything about it. Never guess a number or a date.
- Cancel an order only when the customer asks for it by its number or by what was ordered.
- You see only the orders of the customer who asks. For anybody else's, say that you cannot.`

// New makes the agent. SHOP_URL is the shop's API, such as https://shop.example.com/api, and
// SHOP_KEY the key to it.
func New(_ context.Context, env agent.Env) (agent.Agent, error) {
	base, err := url.Parse(os.Getenv("SHOP_URL"))
	if err != nil || base.Host == "" {
		return agent.Agent{}, errors.New("SHOP_URL is not a URL")
	}
	s := &shop{base, env.Secret("SHOP_KEY")}
	return agent.Agent{
		Name:        "orders",
		Description: "Shows customers their orders, and cancels them.",
		Examples:    []string{"Where are my orders?"},
		Instruction: instruction,
		Instructions: func(ctx context.Context) (string, error) {
			return "Today is " + time.Now().Format(time.DateOnly) + ". The customer's language is " + tool.From(ctx).Locale + ".", nil
		},
		Tools: []tool.Tool{
			tool.New("list_my_orders", "Lists the customer's own orders: number, date, what was ordered, status.", s.list, tool.Show()),
			tool.New("cancel_my_order", "Cancels one of the customer's own orders that has not been sent yet.", s.cancel,
				tool.Effect(s.canceled), tool.Confirm(func(in cancelIn) string { return fmt.Sprintf("Cancel order %s?", in.Number) })),
		},
	}, nil
}

// customer returns the person whom a tool works for, as the service has verified it. No
// argument names a customer: what a model writes proves nothing.
func customer(ctx context.Context) (string, error) {
	switch who := tool.From(ctx); {
	case who.EndUser != "": // named by the shop's backend
		return who.EndUser, nil
	case who.Caller.Method == "oidc": // who has signed in on the page
		return who.Caller.Subject, nil
	}
	return "", errors.New("nobody is signed in")
}

// A shop is the shop's API. The customer is part of every path, so that it can refuse
// what is somebody else's.
type shop struct {
	base *url.URL
	key  agent.Secret
}

type order struct {
	Number string `json:"number"`
	Date   string `json:"date"`
	Item   string `json:"item"`
	Status string `json:"status"`
}

func (s *shop) list(ctx context.Context, _ struct{}) ([]order, error) {
	var orders []order
	err := s.do(ctx, http.MethodGet, &orders, "orders")
	return orders, err
}

type cancelIn struct {
	Number string `json:"number" jsonschema:"the order's number, as list_my_orders has it"`
}

func (s *shop) cancel(ctx context.Context, in cancelIn) (order, error) {
	var canceled order
	err := s.do(ctx, http.MethodDelete, &canceled, "orders", in.Number)
	if errors.Is(err, errNoAnswer) {
		err = fmt.Errorf("%w: %w", err, tool.ErrUnknown)
	}
	return canceled, err
}

// canceled looks whether a cancellation whose end is not known took effect. Only this
// customer cancels this order, so that its status has the answer.
func (s *shop) canceled(ctx context.Context, in cancelIn) (order, bool, error) {
	orders, err := s.list(ctx, struct{}{})
	if err != nil {
		return order{}, false, err
	}
	for _, o := range orders {
		if o.Number == in.Number {
			return o, o.Status == "canceled", nil
		}
	}
	return order{}, false, nil
}

// errNoAnswer: whether the shop has done what it was asked for is not known.
var errNoAnswer = errors.New("the shop does not answer")

// do makes a request below the customer's path and reads what it returns into out.
func (s *shop) do(ctx context.Context, method string, out any, path ...string) error {
	who, err := customer(ctx)
	if err != nil {
		return err
	}
	elements := []string{"customers"}
	for _, element := range append([]string{who}, path...) {
		if element == "" || element == "." || element == ".." { // which would name another path
			return errors.New("there is no such order")
		}
		elements = append(elements, url.PathEscape(element))
	}
	r, err := http.NewRequestWithContext(ctx, method, s.base.JoinPath(elements...).String(), nil)
	if err != nil {
		return errors.New("the shop cannot be asked for this")
	}
	r.Header.Set("Authorization", "Bearer "+s.key.Reveal())
	if id := tool.From(ctx).EffectID; id != "" {
		r.Header.Set("Idempotency-Key", id) // the same when this call is tried again
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return errNoAnswer // err has the URL, and in it the customer
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return errors.New("there is no such order")
	default:
		if response.StatusCode >= http.StatusInternalServerError {
			return errNoAnswer
		}
		return fmt.Errorf("the shop answered %d", response.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(out); err != nil {
		return errNoAnswer
	}
	return nil
}
