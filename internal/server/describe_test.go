package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/health"
)

func TestWhatTheAgentMayTellOfAReport(t *testing.T) {
	t.Parallel()
	report := health.Report{
		Status: "degraded", Service: "invoke", Version: "1.2.3", Revision: "invoke-00007", Environment: "production", UptimeSeconds: 3723,
		Agent:        &health.Agent{Name: "cloud-agent", Model: "gemini-2.5-flash"},
		Dependencies: map[string]health.State{modelAPI: {Status: "unhealthy", LatencyMS: 2000, Error: "did not answer in time"}, sessionStore: {Status: "healthy", LatencyMS: 7}},
	}
	want := agent.Status{
		Status: "degraded", Environment: "production", Service: "invoke", Version: "1.2.3", Revision: "invoke-00007",
		Uptime: "1h2m3s", UptimeSeconds: 3723, SessionStore: "firestore", Model: "gemini-2.5-flash",
		Dependencies: []agent.Dependency{
			{Name: "session_store", Status: "healthy", LatencyMS: 7},
			{Name: "model", Status: "unhealthy", LatencyMS: 2000, Error: "did not answer in time"},
		},
	}
	if diff := cmp.Diff(want, deploymentStatus(report, "firestore")); diff != "" {
		t.Errorf("figures not known (-want +got):\n%s", diff)
	}
	report.Figures = &health.Figures{ErrorRate: 0.1, RequestCount: 30, ErrorCount: 2}
	report.Breakers = map[string]string{"b": "open", "a": "closed"}
	want.Traffic = &agent.Traffic{ErrorRate: 0.1, RequestCount: 30, ErrorCount: 2}
	want.Breakers = []agent.Breaker{{Model: "a", State: "closed"}, {Model: "b", State: "open"}}
	if diff := cmp.Diff(want, deploymentStatus(report, "firestore")); diff != "" {
		t.Errorf("figures known (-want +got):\n%s", diff)
	}
}
