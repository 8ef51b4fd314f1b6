// Package telemetrytest has a collector that speaks OTLP over HTTP and gRPC, for
// tests of what is exported, and of what happens when it cannot be.
package telemetrytest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Mode is how a collector treats what it is sent.
type Mode int

// The modes.
const (
	Take   Mode = iota // keep it
	Hang               // never answer
	Fail               // 503, or Unavailable
	Refuse             // 400, or InvalidArgument
	Slow               // keep it after the delay of SetDelay
	Gate               // keep it, and answer when Open is called
)

// A Collector keeps what it is sent. It is safe for concurrent use.
type Collector struct {
	HTTP, GRPC string // values for OTEL_EXPORTER_OTLP_ENDPOINT

	mu      sync.Mutex
	changed *sync.Cond
	mode    Mode
	delay   time.Duration
	gate    chan struct{}
	calls   int
	headers []metadata.MD
	spans   []*tracepb.ResourceSpans
	metrics []*metricspb.ResourceMetrics
	ended   chan struct{} // closed at the end of the test
	cut     func()        // closes all connections
}

// New starts a collector on loopback, which ends with the test.
func New(t testing.TB) *Collector {
	t.Helper()
	return start(t)
}

// NewTLS is New with a gRPC server that speaks TLS.
func NewTLS(t testing.TB, c credentials.TransportCredentials) *Collector {
	t.Helper()
	return start(t, grpc.Creds(c))
}

// Endpoint returns the value of OTEL_EXPORTER_OTLP_ENDPOINT for one of
// OTEL_EXPORTER_OTLP_PROTOCOL.
func (c *Collector) Endpoint(protocol string) string {
	if protocol == "grpc" {
		return c.GRPC
	}
	return c.HTTP
}

func start(t testing.TB, opts ...grpc.ServerOption) *Collector {
	t.Helper()
	c := &Collector{ended: make(chan struct{}), gate: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)

	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, &coltrace.ExportTraceServiceRequest{}, &coltrace.ExportTraceServiceResponse{})
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, &colmetrics.ExportMetricsServiceRequest{}, &colmetrics.ExportMetricsServiceResponse{})
	})
	web := httptest.NewServer(mux)
	c.HTTP = web.URL

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := &breakable{Listener: plain}
	c.cut = func() {
		web.CloseClientConnections()
		listener.cut()
	}
	rpc := grpc.NewServer(opts...)
	coltrace.RegisterTraceServiceServer(rpc, traceServer{c: c})
	colmetrics.RegisterMetricsServiceServer(rpc, metricsServer{c: c})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = rpc.Serve(listener)
	}()
	c.GRPC = "http://" + listener.Addr().String()
	t.Cleanup(func() {
		close(c.ended)
		web.CloseClientConnections()
		web.Close()
		rpc.Stop()
		<-served
	})
	return c
}

// SetMode sets how later requests are treated.
func (c *Collector) SetMode(m Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
}

// SetDelay is what Slow waits.
func (c *Collector) SetDelay(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = d
}

// Open answers what Gate holds back.
func (c *Collector) Open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.gate)
	c.gate = make(chan struct{})
}

// Break closes all connections, with requests in flight.
func (c *Collector) Break() { c.cut() }

// A breakable listener remembers its connections, to close them.
type breakable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (b *breakable) Accept() (net.Conn, error) {
	conn, err := b.Listener.Accept()
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.conns = append(b.conns, conn)
	}
	return conn, err
}

func (b *breakable) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.conns {
		_ = conn.Close()
	}
	b.conns = nil
}

// Calls counts the requests that came, with any outcome.
func (c *Collector) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Headers are those of the gRPC requests that came.
func (c *Collector) Headers() []metadata.MD {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.headers)
}

// Spans are the spans kept, doubles included.
func (c *Collector) Spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var spans []*tracepb.Span
	for _, r := range c.spans {
		for _, s := range r.ScopeSpans {
			spans = append(spans, s.Spans...)
		}
	}
	return spans
}

// ResourceSpans are the spans kept, with where they come from.
func (c *Collector) ResourceSpans() []*tracepb.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Metrics are the exports of metrics, in their order.
func (c *Collector) Metrics() []*metricspb.ResourceMetrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.metrics)
}

// AwaitCalls waits until n requests have come. A test that waits for too long
// is ended by its own deadline.
func (c *Collector) AwaitCalls(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.calls < n {
		c.changed.Wait()
	}
}

// take treats one request; ctx ends when the client goes away.
func (c *Collector) take(ctx context.Context, m proto.Message) error {
	c.mu.Lock()
	mode, delay, gate := c.mode, c.delay, c.gate
	c.calls++
	if headers, ok := metadata.FromIncomingContext(ctx); ok {
		c.headers = append(c.headers, headers)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	wait := make(<-chan time.Time)
	switch mode {
	case Fail:
		return status.Error(codes.Unavailable, "the collector is broken")
	case Refuse:
		return status.Error(codes.InvalidArgument, "the collector does not like it")
	case Hang:
		gate = nil
	case Slow:
		wait, gate = time.After(delay), nil
	case Gate:
		c.keep(m)
	case Take:
		c.keep(m)
		return nil
	}
	select {
	case <-wait:
		c.keep(m)
		return nil
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return status.Error(codes.Unavailable, "the collector ends")
	}
}

func (c *Collector) keep(m proto.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m := m.(type) {
	case *coltrace.ExportTraceServiceRequest:
		c.spans = append(c.spans, m.ResourceSpans...)
	case *colmetrics.ExportMetricsServiceRequest:
		c.metrics = append(c.metrics, m.ResourceMetrics...)
	}
}

func (c *Collector) serve(w http.ResponseWriter, r *http.Request, in, out proto.Message) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, in)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	switch err := c.take(r.Context(), in); status.Code(err) {
	case codes.OK:
		body, _ := proto.Marshal(out)
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(body)
	case codes.InvalidArgument:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

type traceServer struct {
	coltrace.UnimplementedTraceServiceServer
	c *Collector
}

func (s traceServer) Export(ctx context.Context, r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	return &coltrace.ExportTraceServiceResponse{}, s.c.take(ctx, r)
}

type metricsServer struct {
	colmetrics.UnimplementedMetricsServiceServer
	c *Collector
}

func (s metricsServer) Export(ctx context.Context, r *colmetrics.ExportMetricsServiceRequest) (*colmetrics.ExportMetricsServiceResponse, error) {
	return &colmetrics.ExportMetricsServiceResponse{}, s.c.take(ctx, r)
}
