package advisor

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

func TestDeploymentStatusSchema(t *testing.T) {
	t.Parallel()
	checkSchema(t, shipped(t, "check_deployment_status"), `{"type": "object", "additionalProperties": false}`)
}

func TestDeploymentStatusForOperators(t *testing.T) {
	t.Parallel()
	operator := tool.NewContext(t.Context(), tool.Context{Operator: true})
	cases := []struct {
		name string
		want agent.Status
	}{
		{"healthy", agent.Status{
			Status: "healthy", Environment: "production", Service: "invoke", Version: "1.2.3", Revision: "invoke-00007-abc",
			Uptime: "1h2m3s", UptimeSeconds: 3723, SessionStore: "firestore", Model: "gemini-2.5-flash",
			Traffic:      &agent.Traffic{ErrorRate: 0.025, RequestCount: 250, ErrorCount: 5},
			Breakers:     []agent.Breaker{{Model: "gemini-2.5-flash", State: "closed"}},
			Dependencies: []agent.Dependency{{Name: "session_store", Status: "healthy", LatencyMS: 12}},
		}},
		{"a dependency failing", agent.Status{
			Status: "degraded", Environment: "development", Service: "invoke", SessionStore: "memory", Model: "offline",
			Dependencies: []agent.Dependency{{Name: "model", Status: "unhealthy", LatencyMS: 2000, Error: "no answer within 2 s"}},
		}},
		{"nothing known", agent.Status{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status := deploymentStatusTool(func(context.Context) agent.Status { return c.want })
			got := call[deploymentStatus](operator, t, status, nil)
			if diff := cmp.Diff(deploymentStatus{Status: c.want.Status, Details: &c.want}, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

// What GET /health keeps for operators, the agent keeps for them too.
func TestDeploymentStatusForEverybody(t *testing.T) {
	t.Parallel()
	status := deploymentStatusTool(func(context.Context) agent.Status {
		return agent.Status{
			Status: "degraded", Environment: "production", Service: "invoke", Version: "1.2.3", Revision: "invoke-00007-abc",
			Dependencies: []agent.Dependency{{Name: "model", Error: "no answer"}},
		}
	})
	got, err := status.Call(tool.NewContext(t.Context(), tool.Context{Caller: tool.Caller{Subject: "ada"}}), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"status": "degraded", "note": "Details are for the operators of the service."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestDeploymentStatusGetsTheCallsContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	var got any
	status := deploymentStatusTool(func(ctx context.Context) agent.Status {
		got = ctx.Value(key{})
		return agent.Status{}
	})
	if _, err := status.Call(context.WithValue(t.Context(), key{}, "this call"), nil); err != nil {
		t.Fatal(err)
	}
	if got != "this call" {
		t.Errorf("the context holds %v, want the call's own", got)
	}
}

func TestDeploymentStatusTakesNoArguments(t *testing.T) {
	t.Parallel()
	status := deploymentStatusTool(func(context.Context) agent.Status {
		t.Error("status was asked")
		return agent.Status{}
	})
	if _, err := status.Call(t.Context(), map[string]any{"service": "invoke"}); !errors.Is(err, tool.ErrArguments) {
		t.Errorf("error %v, want tool.ErrArguments", err)
	}
}
