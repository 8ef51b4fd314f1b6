package observe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/monitoring/apiv3/v2/monitoringpb"
	"cloud.google.com/go/trace/apiv2/tracepb"
	"google.golang.org/api/option"
	metricpb "google.golang.org/genproto/googleapis/api/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A cloud stands in for Cloud Trace and Cloud Monitoring.
type cloud struct {
	tracepb.UnimplementedTraceServiceServer
	monitoringpb.UnimplementedMetricServiceServer

	mu          sync.Mutex
	down        bool
	spans       []*tracepb.BatchWriteSpansRequest
	series      []*monitoringpb.CreateTimeSeriesRequest
	descriptors []*metricpb.MetricDescriptor
}

func (c *cloud) BatchWriteSpans(_ context.Context, r *tracepb.BatchWriteSpansRequest) (*emptypb.Empty, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, status.Error(codes.Internal, "down")
	}
	c.spans = append(c.spans, r)
	return &emptypb.Empty{}, nil
}

func (c *cloud) CreateTimeSeries(_ context.Context, r *monitoringpb.CreateTimeSeriesRequest) (*emptypb.Empty, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.series = append(c.series, r)
	return &emptypb.Empty{}, nil
}

func (c *cloud) GetMetricDescriptor(context.Context, *monitoringpb.GetMetricDescriptorRequest) (*metricpb.MetricDescriptor, error) {
	return nil, status.Error(codes.NotFound, "none")
}

func (c *cloud) CreateMetricDescriptor(_ context.Context, r *monitoringpb.CreateMetricDescriptorRequest) (*metricpb.MetricDescriptor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.descriptors = append(c.descriptors, r.MetricDescriptor)
	return r.MetricDescriptor, nil
}

func newCloud(t *testing.T) (*cloud, []option.ClientOption) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{}
	server := grpc.NewServer()
	tracepb.RegisterTraceServiceServer(server, c)
	monitoringpb.RegisterMetricServiceServer(server, c)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Stop(); <-served })
	return c, []option.ClientOption{
		option.WithEndpoint(listener.Addr().String()),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// metadataServer stands in for the one of Cloud Run.
func metadataServer(t *testing.T) {
	t.Helper()
	answers := map[string]string{
		"/computeMetadata/v1/project/project-id": "project-1",
		"/computeMetadata/v1/instance/region":    "projects/1/regions/europe-west1",
		"/computeMetadata/v1/instance/id":        "instance-7",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(server.URL, "http://"))
	t.Setenv("K_SERVICE", "invoke")
	t.Setenv("K_REVISION", "invoke-00001")
	t.Setenv("K_CONFIGURATION", "invoke")
}

func TestGoogle(t *testing.T) {
	metadataServer(t)
	google, opts := newCloud(t)
	google.down = true
	config := all()
	config.GoogleOptions = opts
	o := observer(t, config, "K_SERVICE", "invoke")
	turn(o)
	o.Flush(t.Context())
	if o.queue.len() != spansOfATurn {
		t.Errorf("%d spans kept while Cloud Trace is down", o.queue.len())
	}
	google.mu.Lock()
	google.down = false
	google.mu.Unlock()
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	if len(google.spans) != 1 || google.spans[0].Name != "projects/project-1" || len(google.spans[0].Spans) != spansOfATurn {
		t.Fatalf("spans: %v", google.spans)
	}
	attrs := google.spans[0].Spans[0].Attributes.AttributeMap
	for key, want := range map[string]string{
		"g.co/r/generic_task/job": "gatehouse", "g.co/r/generic_task/location": "europe-west1",
	} {
		if got := attrs[key].GetStringValue().GetValue(); got != want {
			t.Errorf("a span's %s is %q, want %q", key, got, want)
		}
	}
	names := map[string]bool{}
	for _, r := range google.series {
		if r.Name != "projects/project-1" {
			t.Errorf("series for %s", r.Name)
		}
		for _, s := range r.TimeSeries {
			names[s.Metric.Type] = true
			labels := s.Resource.Labels
			if s.Resource.Type != "generic_task" || labels["job"] != "gatehouse" || labels["location"] != "europe-west1" || labels["task_id"] == "" {
				t.Errorf("monitored resource %v", s.Resource)
			}
			if s.Metric.Labels["service_instance_id"] != "" {
				t.Errorf("labels %v", s.Metric.Labels)
			}
		}
	}
	for _, want := range []string{"http.server.request.duration", "gen_ai.client.token.usage", "agent.tool.duration"} {
		if !names["workload.googleapis.com/"+want] {
			t.Errorf("no series of %s in %v", want, names)
		}
	}
	if len(google.descriptors) == 0 {
		t.Error("no metric was described")
	}
}
