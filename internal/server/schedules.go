package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/compute/metadata"

	"example.com/gatehouse/internal/loopback"
)

// tokenIssuer is who signs the tokens of tasks and schedules: "", which is Google, unless
// Cloud Tasks is a stand-in on loopback.
func (s *Server) tokenIssuer() string {
	if loopback.HostPort(s.Config.TasksEndpoint) {
		return "http://" + s.Config.TasksEndpoint
	}
	return ""
}

// serviceURL is the address that tasks and schedules call. Cloud Run makes one of every
// service's name, project and region
// (https://cloud.google.com/run/docs/triggering/https-request#deterministic).
func (s *Server) serviceURL(ctx context.Context) (string, error) {
	if s.Config.ServiceURL != "" {
		return s.Config.ServiceURL, nil
	}
	region, err := metadata.GetWithContext(ctx, "instance/region") // projects/NUMBER/regions/REGION
	parts := strings.Split(region, "/")
	if err == nil && len(parts) != 4 {
		err = errors.New("the region has another form than projects/NUMBER/regions/REGION")
	}
	if err != nil {
		return "", &fetchError{"SERVICE_URL", fmt.Errorf("not set, and the metadata server did not return it: %w", err)}
	}
	return fmt.Sprintf("https://%s-%s.%s.run.app", s.Config.Service, parts[1], parts[3]), nil
}
