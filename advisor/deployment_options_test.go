package advisor

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/tool"
)

func TestDeploymentOptionsSchema(t *testing.T) {
	t.Parallel()
	checkSchema(t, shipped(t, "get_deployment_options"), `{
		"type": "object",
		"properties": {
			"option": {
				"type": "string",
				"description": "the one option to describe; leave it out to get all of them",
				"enum": ["local_api_server", "cloud_run", "agent_engine", "gke"]
			}
		},
		"additionalProperties": false
	}`)
}

func TestDeploymentOptions(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		args map[string]any
		want []string
	}{
		{"without arguments all options", nil, []string{"local_api_server", "cloud_run", "agent_engine", "gke"}},
		{"with no option named all options", map[string]any{}, []string{"local_api_server", "cloud_run", "agent_engine", "gke"}},
		{"the local API server", map[string]any{"option": "local_api_server"}, []string{"local_api_server"}},
		{"Cloud Run", map[string]any{"option": "cloud_run"}, []string{"cloud_run"}},
		{"Agent Engine", map[string]any{"option": "agent_engine"}, []string{"agent_engine"}},
		{"GKE", map[string]any{"option": "gke"}, []string{"gke"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := call[deploymentOptionsOut](t.Context(), t, shipped(t, "get_deployment_options"), c.args)
			var got []string
			for _, o := range out.Options {
				got = append(got, o.Name)
				if o.Title == "" || o.Command == "" || o.Description == "" || o.WhenToChoose == "" {
					t.Errorf("%s lacks a title, command, description or when to choose it: %+v", o.Name, o)
				}
				if len(o.Features) < 3 {
					t.Errorf("%s has %d features, want at least 3", o.Name, len(o.Features))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeploymentOptionsRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		args map[string]any
	}{
		{"an unknown option", map[string]any{"option": "app_engine"}},
		{"an option in capitals", map[string]any{"option": "GKE"}},
		{"an empty option", map[string]any{"option": ""}},
		{"an option that is no string", map[string]any{"option": []any{"gke"}}},
		{"an argument of another name", map[string]any{"name": "gke"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := shipped(t, "get_deployment_options").Call(t.Context(), c.args); !errors.Is(err, tool.ErrArguments) {
				t.Errorf("error %v, want tool.ErrArguments", err)
			}
		})
	}
	if _, err := getDeploymentOptions(t.Context(), deploymentOptionsIn{Option: "app_engine"}); err == nil {
		t.Error("the function by itself returned no error for an unknown option")
	}
}
