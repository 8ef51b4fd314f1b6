package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A create that Cloud Run rejects or that is cut off leaves the service behind in one of
// two ways. Terraform may know it and mark it tainted; or the process died between the
// API's answer and the write of the state, and Terraform does not know it at all. A plain
// apply fails in both, with a replacement that deletion protection refuses, or with 409.
// repair handles the first before a plan, adopt the second after it, when the plan shows
// which services it would create. What both may delete is only a service without a ready
// revision, which cannot have answered anybody.

const service = "google_cloud_run_v2_service"

// holdsData are the types whose tainted resources are kept, because a replacement
// would be empty.
var holdsData = []string{"google_firestore_database", "google_logging_project_bucket_config", "google_secret_manager_secret", "google_storage_bucket"}

// A stateModule is the part of Terraform's JSON state that is read.
type stateModule struct {
	Resources []stateResource `json:"resources"`
	Children  []stateModule   `json:"child_modules"`
}

type stateResource struct {
	Address string         `json:"address"`
	Type    string         `json:"type"`
	Tainted bool           `json:"tainted"`
	Values  map[string]any `json:"values"`
}

// resources returns the resources of the module and of its child modules.
func (m stateModule) resources() []stateResource {
	all := slices.Clone(m.Resources)
	for _, child := range m.Children {
		all = append(all, child.resources()...)
	}
	return all
}

// state returns Terraform's state.
func (d *deployment) state(ctx context.Context) (stateModule, error) {
	raw, err := d.ask(ctx, "{}", "terraform", "-chdir="+d.Root, "show", "-json")
	if err != nil {
		return stateModule{}, err
	}
	state, err := decode[struct {
		Values struct {
			Root stateModule `json:"root_module"`
		} `json:"values"`
	}](raw)
	if err != nil {
		return stateModule{}, fmt.Errorf("reading Terraform's state: %w", err)
	}
	return state.Values.Root, nil
}

// repair handles resources that a failed apply left tainted. Terraform would replace
// them, which fails for a service, because it is protected, and loses data otherwise.
//
// A service that is or was ready is kept. One that never was ready has served no
// request: it is deleted, and the apply creates it again.
func (d *deployment) repair(ctx context.Context) error {
	state, err := d.state(ctx)
	if err != nil {
		return err
	}
	for _, r := range state.resources() {
		switch {
		case !r.Tainted:
		case r.Type == service:
			if err := d.repairService(ctx, r.Address, text(r.Values, "name"), text(r.Values, "location")); err != nil {
				return err
			}
		case slices.Contains(holdsData, r.Type):
			fmt.Fprintf(d.out, "%s is marked to be replaced since a failed apply. What it holds would be lost, so the mark is taken off.\n", r.Address)
			if err := d.terraform(ctx, "untaint", r.Address); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *deployment) repairService(ctx context.Context, address, name, location string) error {
	status, err := d.service(ctx, name, location)
	if err != nil {
		return err
	}
	switch {
	case status == nil:
		fmt.Fprintf(d.out, "The service %s was never made; it is taken out of the state and made now.\n", name)
	case status.Status.LatestReady != "":
		fmt.Fprintf(d.out, "The service %s is marked to be replaced since a failed apply, and has a revision that is ready (%s). The mark is taken off.\n", name, status.Status.LatestReady)
		return d.terraform(ctx, "untaint", address)
	default:
		fmt.Fprintf(d.out, "The service %s never started, so it has served nobody; it is deleted and made again.\n", name)
		if err := d.run(ctx, "gcloud", "run", "services", "delete", name, "--project", d.Project, "--region", location, "--quiet"); err != nil {
			return err
		}
	}
	return d.terraform(ctx, "state", "rm", address)
}

// adopt imports existing services that Terraform would create: a killed apply has
// created them without storing them. It reports whether there were any.
func (d *deployment) adopt(ctx context.Context, p terraformPlan) (bool, error) {
	adopted := false
	d.services = nil
	for _, c := range p.Changes {
		if c.Type != service {
			continue
		}
		planned := c.planned()
		name, location := text(planned, "name"), text(planned, "location")
		function, _ := c.Index.(string)
		d.services = append(d.services, place{function, name, location})
		if !c.creates() || d.dryRun {
			continue
		}
		status, err := d.service(ctx, name, location)
		switch {
		case err != nil:
			return false, err
		case status == nil:
			continue
		// The module labels what it makes with its prefix. Without this check a deployment
		// could take over, or delete, another team's service of the same name.
		case status.Metadata.Labels["app"] != d.prefix:
			return false, errorf(CodeRefused, "a Cloud Run service %s in %s is there already, and is not this agent's. Set another prefix, or remove it", name, location)
		case status.Status.LatestReady == "":
			fmt.Fprintf(d.out, "The service %s is there, unknown to the state, and never started; it is deleted and made again.\n", name)
			if err := d.run(ctx, "gcloud", "run", "services", "delete", name, "--project", d.Project, "--region", location, "--quiet"); err != nil {
				return false, err
			}
			continue
		}
		fmt.Fprintf(d.out, "The service %s is there and is missing from the state, as after an apply that was killed; it is imported.\n", name)
		args := append([]string{"import", "-input=false", "-lock-timeout=5m"}, d.variables()...)
		if err := d.terraform(ctx, append(args, c.Address, fmt.Sprintf("projects/%s/locations/%s/services/%s", d.Project, location, name))...); err != nil {
			return false, err
		}
		adopted = true
	}
	return adopted, nil
}

// A runService is a Cloud Run service, in gcloud's JSON.
type runService struct {
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Image string `json:"image"`
				} `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Status struct {
		LatestCreated string      `json:"latestCreatedRevisionName"`
		LatestReady   string      `json:"latestReadyRevisionName"`
		Conditions    []condition `json:"conditions"`
		Traffic       []struct {
			Revision string `json:"revisionName"`
			Percent  int    `json:"percent"`
			Latest   bool   `json:"latestRevision"`
		} `json:"traffic"`
	} `json:"status"`
}

type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// serves reports whether the newest revision runs image and has all traffic. It is false
// for a service in the middle of a rollout, which then goes on.
func (s *runService) serves(image string) bool {
	if s == nil || len(s.Spec.Template.Spec.Containers) != 1 || s.Spec.Template.Spec.Containers[0].Image != image ||
		s.Status.LatestCreated != s.Status.LatestReady {
		return false
	}
	percent := 0
	for _, t := range s.Status.Traffic {
		if t.Latest || t.Revision == s.Status.LatestReady {
			percent += t.Percent
		}
	}
	return percent == 100
}

// service returns a service, or nil if it does not exist. It uses list, because
// describe reports a missing service only in its error text.
func (d *deployment) service(ctx context.Context, name, region string) (*runService, error) {
	raw, err := d.ask(ctx, "[]", "gcloud", "run", "services", "list", "--project", d.Project, "--region", region,
		"--filter", "metadata.name="+name, "--format", "json")
	if err != nil {
		return nil, err
	}
	list, err := decode[[]*runService](raw)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// notStarting returns an error if a service's newest revision does not start, with the
// revision's own message and the location of its log. It is asked only after something else
// failed, and keeps quiet where it cannot know: that first error is then what is reported.
// standing completes the sentence on who is served.
func (d *deployment) notStarting(ctx context.Context, standing string) error {
	for _, p := range d.services {
		status, err := d.service(ctx, p.name, p.region)
		if err != nil || status == nil {
			continue
		}
		revision := status.Status.LatestCreated
		for _, c := range status.Status.Conditions {
			if c.Type == "Ready" && c.Status == "False" {
				return errorf(CodeNotStarting, "the image does not start; %s.\n%s: %s\nIts log: gcloud logging read 'resource.type=\"cloud_run_revision\" resource.labels.revision_name=\"%s\"' --project %s --limit 50 --format 'value(severity,textPayload,jsonPayload.message)'\n"+
					"Mend what it names, commit, and run the same command again",
					standing, revision, strings.TrimSpace(c.Message), revision, d.Project)
			}
		}
	}
	return nil
}
