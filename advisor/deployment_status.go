package advisor

import (
	"context"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// deploymentStatus is the output of check_deployment_status. To callers that are not
// operators it holds no details, as GET /health does not.
type deploymentStatus struct {
	Status string `json:"status"`
	Note   string `json:"note,omitempty"`

	Details *agent.Status `json:"details,omitempty"`
}

// deploymentStatusTool returns to the model what the caller may know of what status
// finds out.
func deploymentStatusTool(status func(context.Context) agent.Status) tool.Tool {
	return tool.New("check_deployment_status",
		"Checks how the deployment that you are running in is doing now: whether it is healthy, and, for its operators, its version, uptime, model, session store and dependencies, and what all of it answered in the last five minutes: requests, errors, error rate, and the circuit breakers of its models.",
		func(ctx context.Context, _ struct{}) (deploymentStatus, error) {
			s := status(ctx)
			if !tool.From(ctx).Operator {
				return deploymentStatus{Status: s.Status, Note: "Details are for the operators of the service."}, nil
			}
			return deploymentStatus{Status: s.Status, Details: &s}, nil
		})
}
