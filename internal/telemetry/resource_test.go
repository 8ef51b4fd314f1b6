package telemetry

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

type detector func() (*resource.Resource, error)

func (d detector) Detect(context.Context) (*resource.Resource, error) { return d() }

// A metadata server that does not answer delays no flush beyond its bound, is
// asked once, and the spans wait for it.
func TestMetadataServerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		res := newResource(Settings{googleCloud: true}, Config{Service: "gatehouse"})
		res.detect = detector(func() (*resource.Resource, error) {
			asked.Add(1)
			time.Sleep(25 * time.Second)
			return resource.NewSchemaless(attribute.String("cloud.region", "europe-west1"), attribute.String("service.name", "not ours")), nil
		})
		q := newQueue(10)
		q.OnEnd(span(1, true))
		a := &answers{}
		f := stubbed(newSpanSender(q, res, a))
		for range 3 {
			if took := takes(func() { f.Flush(t.Context()) }); took > flushBound || len(a.sent()) != 0 || asked.Load() != 1 {
				t.Errorf("took %v, sent %q, asked %d times", took, a.sent(), asked.Load())
			}
			time.Sleep(tracesEvery)
		}
		f.Flush(t.Context())
		if len(a.sent()) != 1 || q.len() != 0 {
			t.Errorf("sent %q, kept %d", a.sent(), q.len())
		}
		whole, err := res.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		region, _ := whole.Set().Value("cloud.region")
		name, _ := whole.Set().Value("service.name")
		if region.AsString() != "europe-west1" || name.AsString() != "gatehouse" {
			t.Errorf("%s of %s", name.AsString(), region.AsString())
		}
	})
}

// What the metadata server does not know is left out; but Google rejects what
// has no region, so there the server is asked again.
func TestMetadataServerThatKnowsNothing(t *testing.T) {
	t.Parallel()
	region := resource.NewSchemaless(attribute.String("cloud.region", "europe-west1"), attribute.String("cloud.account.id", "project-1"))
	for _, tt := range []struct {
		exporter string
		asked    int
	}{{OTLP, 1}, {Google, 2}} {
		t.Run(tt.exporter, func(t *testing.T) {
			t.Parallel()
			asked := 0
			res := newResource(Settings{Metrics: tt.exporter, googleCloud: true}, Config{Service: "gatehouse"})
			res.detect = detector(func() (*resource.Resource, error) {
				if asked++; asked == 1 {
					return nil, resource.ErrPartialResource
				}
				return region, nil
			})
			first, err := res.get(t.Context())
			if google := tt.exporter == Google; (err != nil) != google || (first == nil) != google {
				t.Errorf("first: %v, %v", first, err)
			}
			whole, err := res.get(t.Context())
			if err != nil || asked != tt.asked {
				t.Fatalf("%v, asked %d times", err, asked)
			}
			if project, _ := whole.Set().Value(keyProject); tt.exporter == Google && project.AsString() != "project-1" {
				t.Errorf("project %q", project.AsString())
			}
		})
	}
}
