package advisor

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/tool"
)

func TestDeploymentStatusSchema(t *testing.T) {
	t.Parallel()
	checkSchema(t, shipped(t, "check_deployment_status"), `{"type": "object", "additionalProperties": false}`)
}

func TestDeploymentStatusIsWhatStatusFindsOut(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		want DeploymentStatus
	}{
		{"healthy", DeploymentStatus{
			Status: "healthy", Environment: "production", Service: "invoke", Version: "1.2.3", Revision: "invoke-00007-abc",
			Uptime: "1h2m3s", UptimeSeconds: 3723, SessionStore: "firestore", Model: "gemini-2.5-flash",
			Traffic:      &Traffic{ErrorRate: 0.025, RequestCount: 250, ErrorCount: 5},
			Breakers:     []Breaker{{Model: "gemini-2.5-flash", State: "closed"}},
			Dependencies: []Dependency{{Name: "session_store", Status: "healthy", LatencyMS: 12}},
		}},
		{"a dependency failing", DeploymentStatus{
			Status: "degraded", Environment: "development", Service: "invoke", SessionStore: "memory", Model: "offline",
			Dependencies: []Dependency{{Name: "model", Status: "unhealthy", LatencyMS: 2000, Error: "no answer within 2 s"}},
		}},
		{"nothing known", DeploymentStatus{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status := deploymentStatusTool(func(context.Context) DeploymentStatus { return c.want })
			got := call[DeploymentStatus](t.Context(), t, status, nil)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeploymentStatusNamesItsFieldsForTheModel(t *testing.T) {
	t.Parallel()
	status := deploymentStatusTool(func(context.Context) DeploymentStatus {
		return DeploymentStatus{
			Traffic: &Traffic{}, Breakers: []Breaker{{Model: "m", State: "open"}},
			Dependencies: []Dependency{{Name: "model", Error: "no answer"}},
		}
	})
	got, err := status.Call(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"status": "", "environment": "", "service": "", "version": "", "revision": "", "uptime": "", "uptime_seconds": 0.0,
		"session_store": "", "model": "", "error_rate": 0.0, "request_count": 0.0, "error_count": 0.0,
		"breakers":     []any{map[string]any{"name": "m", "state": "open"}},
		"dependencies": []any{map[string]any{"name": "model", "status": "", "latency_ms": 0.0, "error": "no answer"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestDeploymentStatusGetsTheCallsContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	var got any
	status := deploymentStatusTool(func(ctx context.Context) DeploymentStatus {
		got = ctx.Value(key{})
		return DeploymentStatus{}
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
	status := deploymentStatusTool(func(context.Context) DeploymentStatus {
		t.Error("status was asked")
		return DeploymentStatus{}
	})
	if _, err := status.Call(t.Context(), map[string]any{"service": "invoke"}); !errors.Is(err, tool.ErrArguments) {
		t.Errorf("error %v, want tool.ErrArguments", err)
	}
}
