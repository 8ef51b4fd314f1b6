package observe

import (
	"context"
	"crypto/rand"
	"sync"

	"go.opentelemetry.io/contrib/detectors/gcp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// A source is who the telemetry comes from. On Google Cloud the metadata
// server knows the rest of it, and is asked by the first export, not before.
type source struct {
	base   *resource.Resource // known at once
	detect resource.Detector  // nil: there is nobody to ask

	mu    sync.Mutex
	whole *resource.Resource // nil: not known yet
	busy  chan struct{}      // closed when the question under way is answered; nil: none is
}

func newResource(s Settings, c Config) *source {
	attrs := []attribute.KeyValue{
		semconv.ServiceName(c.Service),
		// Keeps apart the series of instances: Cloud Monitoring takes a series
		// from one writer only.
		semconv.ServiceInstanceID(rand.Text()),
		semconv.TelemetrySDKLanguageGo,
		semconv.TelemetrySDKName("opentelemetry"),
	}
	if c.Version != "" {
		attrs = append(attrs, semconv.ServiceVersion(c.Version))
	}
	r := &source{base: resource.NewSchemaless(append(attrs, s.resource...)...)} // the last of a key counts
	if s.googleCloud {
		r.detect = gcp.NewDetector()
	} else {
		r.whole = r.base
	}
	return r
}

// get is the whole resource. It waits for the metadata server, until ctx ends:
// the detector itself knows no bound.
func (r *source) get(ctx context.Context) (*resource.Resource, error) {
	r.mu.Lock()
	if r.whole != nil {
		defer r.mu.Unlock()
		return r.whole, nil
	}
	if r.busy == nil {
		r.busy = make(chan struct{})
		go r.ask()
	}
	busy := r.busy
	r.mu.Unlock()
	select {
	case <-busy:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.whole, nil
}

// ask asks once. What could not be found out is left out, for an answer in part
// is better than traces without a home.
func (r *source) ask() {
	found, _ := r.detect.Detect(context.Background())
	whole, err := resource.Merge(found, r.base) // ours win
	if err != nil || found == nil {
		whole = r.base
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.whole = whole
	close(r.busy)
}
