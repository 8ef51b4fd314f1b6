package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"go.opentelemetry.io/contrib/detectors/gcp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// keyProject names the project that telemetry belongs to; the Telemetry API
// refuses what has none.
const keyProject = attribute.Key("gcp.project_id")

// A source is who the telemetry comes from. On Google Cloud the metadata
// server knows the rest of it, and is asked by the first export, not before.
//
// Cloud Monitoring makes the labels of prometheus_target from it: location from
// cloud.region, cluster (__run__) from cloud.platform, job from service.name,
// instance from service.instance.id. It rejects points without location or
// instance, and takes a series from one writer only.
type source struct {
	base   *resource.Resource // known at once
	detect resource.Detector  // nil: no metadata server
	google bool               // whether what leaves goes to Google, which demands a region

	mu    sync.Mutex
	whole *resource.Resource // nil: not known yet
	busy  chan struct{}      // closed when the question under way is answered; nil: none is
}

func newResource(s Settings, c Config) *source {
	attrs := []attribute.KeyValue{
		semconv.ServiceName(c.Service),
		semconv.ServiceInstanceID(rand.Text()),
		semconv.TelemetrySDKLanguageGo,
		semconv.TelemetrySDKName("opentelemetry"),
	}
	if c.Version != "" {
		attrs = append(attrs, semconv.ServiceVersion(c.Version))
	}
	if c.Project != "" {
		attrs = append(attrs, keyProject.String(c.Project))
	}
	r := &source{
		base:   resource.NewSchemaless(append(attrs, s.resource...)...), // the last of a key counts
		google: s.Traces == Google || s.Metrics == Google,
	}
	if s.googleCloud {
		r.detect = gcp.NewDetector()
	} else {
		r.whole = r.base
	}
	return r
}

// get returns the whole resource. It waits for the metadata server, until ctx
// ends: the detector itself knows no bound.
func (r *source) get(ctx context.Context) (*resource.Resource, error) {
	r.mu.Lock()
	if r.whole != nil {
		defer r.mu.Unlock()
		return r.whole, nil
	}
	if r.busy == nil {
		r.busy = make(chan struct{})
		go r.ask(r.busy)
	}
	busy := r.busy
	r.mu.Unlock()
	select {
	case <-busy:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.whole == nil {
		return nil, errNoRegion
	}
	return r.whole, nil
}

var errNoRegion = errors.New("the metadata server has not named the region")

// ask asks once. What could not be found out is left out; only where the region
// is demanded is there no resource without it, and the next export asks again.
func (r *source) ask(done chan struct{}) {
	defer close(done)
	found, _ := r.detect.Detect(context.Background())
	if found == nil {
		found = resource.Empty()
	}
	if account, ok := found.Set().Value(semconv.CloudAccountIDKey); ok { // the project
		found, _ = resource.Merge(resource.NewSchemaless(keyProject.String(account.AsString())), found)
	}
	whole, err := resource.Merge(found, r.base) // ours win
	if err != nil {
		whole = r.base
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = nil
	if _, ok := whole.Set().Value(semconv.CloudRegionKey); ok || !r.google {
		r.whole = whole
	}
}
