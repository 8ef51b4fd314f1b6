package gate_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
)

// What a deployed program registers, a test or another server may serve by itself.
func ExampleHandler() {
	newAgent := func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "rates", Description: "Helps with exchange rates."}, nil
	}
	env := map[string]string{"GEMINI_API_KEY": "key"}
	handler, shutdown := gate.Handler(newAgent, gate.Log(io.Discard),
		gate.Environment(func(name string) (string, bool) { value, ok := env[name]; return value, ok }))

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/health/ready", nil))
	fmt.Println(w.Code)

	fmt.Println(shutdown(context.Background()))
	// Output:
	// 200
	// <nil>
}
