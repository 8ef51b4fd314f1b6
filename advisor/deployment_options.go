package advisor

import (
	"context"
	"fmt"

	"example.com/gatehouse/tool"
)

// A DeploymentOption is one way to run an agent.
type DeploymentOption struct {
	Name         string   `json:"name"`
	Title        string   `json:"title"`
	Command      string   `json:"command"`
	Description  string   `json:"description"`
	Features     []string `json:"features"`
	WhenToChoose string   `json:"when_to_choose"`
}

// deploymentOptionsIn are the arguments of get_deployment_options.
type deploymentOptionsIn struct {
	Option string `json:"option,omitempty" jsonschema:"the one option to describe; leave it out to get all of them"`
}

// deploymentOptionsOut is the output of get_deployment_options.
type deploymentOptionsOut struct {
	Options []DeploymentOption `json:"options"`
}

func deploymentOptionsTool() tool.Tool {
	var names []string
	for _, o := range deploymentOptions {
		names = append(names, o.Name)
	}
	return tool.New("get_deployment_options",
		"Lists the ways to run an AI agent, locally and on Google Cloud, each with its command, its features and when to choose it.",
		getDeploymentOptions, tool.Enum("option", names...))
}

func getDeploymentOptions(_ context.Context, in deploymentOptionsIn) (deploymentOptionsOut, error) {
	if in.Option == "" {
		return deploymentOptionsOut{Options: deploymentOptions}, nil
	}
	for _, o := range deploymentOptions {
		if o.Name == in.Option {
			return deploymentOptionsOut{Options: []DeploymentOption{o}}, nil
		}
	}
	return deploymentOptionsOut{}, fmt.Errorf("there is no deployment option %q", in.Option)
}

var deploymentOptions = []DeploymentOption{
	{
		Name:        "local_api_server",
		Title:       "Local API server",
		Command:     "go run ./cmd/local",
		Description: "Runs both functions of this project, invoke and health, on one port of your own machine, with sessions in memory and a stand-in for Gemini.",
		Features: []string{
			"needs no Google Cloud project and no API key",
			"serves the same routes as the deployed functions",
			"has a playground page at / to talk to the agent",
			"listens on the loopback interface only",
		},
		WhenToChoose: "While you write the instruction and the tools, and for tests. Not for production: sessions are lost when it stops.",
	},
	{
		Name:    "cloud_run",
		Title:   "Cloud Run",
		Command: "gcloud run deploy my-agent --source . --function invoke --base-image go126 --region europe-west1 --no-allow-unauthenticated",
		Description: "Builds the function from source and runs it in containers that Google manages. The command deploys one function of any such project; " +
			"this project has one of its own, scripts/deploy PROJECT_ID, which applies the Terraform configuration for both functions, " +
			"their service accounts, the session database, alerts and the health check.",
		Features: []string{
			"scales with the requests, down to no instance at all, and is billed by use",
			"IAM checks callers before the code runs",
			"many requests at once in one instance, with a limit on instances that bounds cost",
			"revisions with traffic splitting, for canaries and quick rollback",
			"streams answers as server-sent events; a request may take up to 60 minutes",
		},
		WhenToChoose: "The default for an agent behind a web application or another service: HTTP in, sessions in a database, little to operate.",
	},
	{
		Name:    "agent_engine",
		Title:   "Vertex AI Agent Engine (Agent Runtime)",
		Command: "adk deploy agent_engine --project=PROJECT_ID --region=us-central1 path/to/agent",
		Description: "A managed runtime for agents built with ADK, first of all ADK for Python, which the command is for. " +
			"ADK for Go has a command of its own: adkgo deploy agentengine -p PROJECT_ID -r us-central1 -e ./main.go. " +
			"This project is not built on ADK and does not run there as it is.",
		Features: []string{
			"sessions managed by the platform",
			"long-term memory across sessions with Memory Bank",
			"managed scaling, without containers or servers to look after",
			"tracing and logs in Google Cloud's console",
		},
		WhenToChoose: "For an ADK agent whose sessions and memory the platform shall keep, called by backends through the Google Cloud API rather than by browsers.",
	},
	{
		Name:  "gke",
		Title: "Google Kubernetes Engine (Autopilot)",
		Command: "gcloud container clusters create-auto my-cluster --location=europe-west1 && " +
			"gcloud container clusters get-credentials my-cluster --location=europe-west1 && " +
			"kubectl apply -f deployment.yaml",
		Description: "Runs the agent's container in a Kubernetes cluster whose nodes Google manages. deployment.yaml is yours: a Deployment with the agent's image and a Service. " +
			"Cloud Run's IAM check is not there, so authenticate callers in the code or at a gateway.",
		Features: []string{
			"full control of networking, scheduling and sidecars",
			"GPUs and TPUs, for models that you serve yourself",
			"Workload Identity Federation: pods call Google Cloud without keys",
			"the same manifests run on other Kubernetes clusters",
		},
		WhenToChoose: "When your team already operates Kubernetes, or the agent needs accelerators, stateful neighbours or network rules that Cloud Run does not offer.",
	},
}
