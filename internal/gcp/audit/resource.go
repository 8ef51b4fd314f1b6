package audit

import (
	"context"
	"os"
	"path"
	"time"

	"cloud.google.com/go/compute/metadata"
	"google.golang.org/genproto/googleapis/api/monitoredres"
)

// resource is what the entries are about: this revision of the service, as
// Cloud Run names it for the service's other logs, or the project. No metadata
// server is asked where a stand-in takes the service's place.
func resource(ctx context.Context, project string, standIn bool) *monitoredres.MonitoredResource {
	// https://cloud.google.com/run/docs/container-contract#services-env-vars
	service := os.Getenv("K_SERVICE")
	if service == "" {
		return &monitoredres.MonitoredResource{
			Type:   "global",
			Labels: map[string]string{"project_id": project},
		}
	}
	labels := map[string]string{
		"project_id":         project,
		"service_name":       service,
		"revision_name":      os.Getenv("K_REVISION"),
		"configuration_name": os.Getenv("K_CONFIGURATION"),
	}
	if !standIn {
		labels["location"] = region(ctx)
	}
	return &monitoredres.MonitoredResource{Type: "cloud_run_revision", Labels: labels}
}

// region is where the instance runs, or "" when the metadata server does not
// answer in half a second: better an entry without it than none.
func region(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	name, err := metadata.GetWithContext(ctx, "instance/region") // projects/NUMBER/regions/REGION
	if err != nil || name == "" {
		return ""
	}
	return path.Base(name)
}
