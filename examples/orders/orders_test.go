package orders_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/examples/orders"
)

type order struct {
	Number string `json:"number"`
	Item   string `json:"item"`
	Status string `json:"status"`
}

// shop serves the orders of two customers, to who has the key, and returns the paths
// that it was asked for.
func shop(t *testing.T) func() []string {
	t.Helper()
	all := map[string][]order{"ada": {{"1", "a lamp", "sent"}, {"2", "a chair", "open"}}, "bob": {{"3", "a desk", "open"}}}
	var mu sync.Mutex
	var paths []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /customers/{who}/orders", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(all[r.PathValue("who")])
	})
	mux.HandleFunc("DELETE /customers/{who}/orders/{number}", func(w http.ResponseWriter, r *http.Request) {
		own := all[r.PathValue("who")]
		i := slices.IndexFunc(own, func(o order) bool { return o.Number == r.PathValue("number") && o.Status == "open" })
		if i < 0 {
			http.NotFound(w, r)
			return
		}
		own[i].Status = "canceled"
		_ = json.NewEncoder(w).Encode(own[i])
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.EscapedPath())
		if r.Header.Get("Authorization") != "Bearer k-1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Setenv("SHOP_URL", server.URL)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(paths)
	}
}

// ask asks for a customer; the model calls the tool, and the customer agrees to what is
// asked.
func ask(s *agenttest.Service, user, tool string, args map[string]any) agenttest.ToolCall {
	s.Model(agenttest.Call(tool, args), agenttest.Say("Here you are."))
	r := agenttest.Request{Query: "About my orders, please", Header: http.Header{}}
	if user != "" {
		r.Header.Set("X-End-User", user)
	}
	answer := s.Do(r)
	if answer.Data["finish_reason"] == "WAITING" {
		answer = s.Approve(answer, agenttest.Decision{Header: r.Header})
	}
	if len(answer.Tools) != 1 {
		return agenttest.ToolCall{}
	}
	return answer.Tools[0]
}

// Each customer sees and changes what is theirs, whatever the model writes.
func TestOrdersAreTheCustomersOwn(t *testing.T) {
	paths := shop(t)
	s := agenttest.Start(t, orders.New, "SHOP_KEY=k-1")
	encoded := func(c agenttest.ToolCall) string {
		raw, err := json.Marshal(c.Output)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if got := ask(s, "ada", "list_my_orders", nil); !got.OK || !strings.Contains(encoded(got), "a lamp") || strings.Contains(encoded(got), "a desk") {
		t.Errorf("ada's: %+v", got)
	}
	if got := ask(s, "ada", "list_my_orders", map[string]any{"customer": "bob"}); got.OK {
		t.Errorf("an argument names somebody else: %+v", got)
	}
	for _, number := range []string{"3", "../../bob/orders/3", "..", "", "1"} {
		if got := ask(s, "ada", "cancel_my_order", map[string]any{"number": number}); got.OK {
			t.Errorf("order %q was canceled: %+v", number, got)
		}
	}
	if got := ask(s, "ada", "cancel_my_order", map[string]any{"number": "2"}); !got.OK || got.Output["status"] != "canceled" {
		t.Errorf("her own: %+v", got)
	}
	if got := ask(s, "bob", "list_my_orders", nil); !got.OK || !strings.Contains(encoded(got), `"status":"open"`) {
		t.Errorf("bob's: %+v", got)
	}
	if got := ask(s, "", "list_my_orders", nil); got.OK || got.Output["error"] != "nobody is signed in" {
		t.Errorf("nobody's: %+v", got)
	}
	for _, path := range paths()[:1] {
		if path != "/customers/ada/orders" {
			t.Errorf("the shop was asked for %s", path)
		}
	}
}

// An order is canceled once the customer has agreed, and once.
func TestCancelingAsks(t *testing.T) {
	paths := shop(t)
	s := agenttest.Start(t, orders.New, "SHOP_KEY=k-1")
	ada := http.Header{"X-End-User": {"ada"}}
	for _, deny := range []bool{true, false} {
		s.Model(agenttest.Call("cancel_my_order", map[string]any{"number": "2"}), agenttest.Say("Well."))
		waits := s.Do(agenttest.Request{Query: "Cancel the chair", Header: ada})
		pending, _ := waits.Data["pending"].([]any)
		if len(pending) != 1 || pending[0].(map[string]any)["question"] != "Cancel order 2?" || len(paths()) != 0 {
			t.Fatalf("it waits for %v; the shop was asked for %v", pending, paths())
		}
		rest := s.Approve(waits, agenttest.Decision{Deny: deny, Header: ada})
		if rest.Text != "Well." || len(rest.Tools) != 1 || rest.Tools[0].OK == deny {
			t.Fatalf("denied %t: %+v", deny, rest)
		}
	}
	if got := paths(); len(got) != 1 {
		t.Errorf("the shop was asked for %v", got)
	}
}

func TestACustomerWithASlash(t *testing.T) {
	paths := shop(t)
	s := agenttest.Start(t, orders.New, "SHOP_KEY=k-1")
	ask(s, "x/../bob", "list_my_orders", nil)
	if got := paths(); len(got) != 1 || !strings.HasPrefix(got[0], "/customers/x%2F..%2Fbob/") {
		t.Errorf("the shop was asked for %v", got)
	}
	ask(s, "..", "list_my_orders", nil)
	if got := paths(); len(got) != 1 {
		t.Errorf("the shop was asked for %v", got)
	}
}

func TestTheShopIsAway(t *testing.T) {
	shop(t)
	s := agenttest.Start(t, orders.New, "SHOP_KEY=wrong")
	if got := ask(s, "ada", "list_my_orders", nil); got.OK || got.Output["error"] != "the shop answered 401" {
		t.Errorf("%+v", got)
	}
}

// Without a script the offline stand-in calls the tool that the question is about.
func TestOffline(t *testing.T) {
	shop(t)
	s := agenttest.Start(t, orders.New, "SHOP_KEY=k-1")
	answer := s.Do(agenttest.Request{Query: "List my orders, please", Header: http.Header{"X-End-User": {"ada"}}})
	if !strings.Contains(answer.Text, "lamp") {
		t.Errorf("%+v", answer)
	}
}

func TestWithoutAShop(t *testing.T) {
	t.Setenv("SHOP_URL", "")
	if _, err := orders.New(t.Context(), agent.Env{}); err == nil {
		t.Error("no error")
	}
}
