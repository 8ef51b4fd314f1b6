package telemetry

import (
	"net"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testclock"
)

// slack is what a loaded machine may add to a bound: the processor has to be had for
// it, and flush_test.go holds the bound exactly, with a fake clock.
const slack = 3 * time.Second

// However the collector fails, a flush is not longer than the bound, the queue
// does not grow beyond its own, and what is in it is there when the collector
// is back.
func TestTrouble(t *testing.T) {
	tests := []struct {
		name string
		mode telemetrytest.Mode
	}{
		{"hangs", telemetrytest.Hang},
		{"is unavailable", telemetrytest.Fail},
		{"is slower than the bound", telemetrytest.Slow},
	}
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		for _, tt := range tests {
			t.Run(protocol+" "+tt.name, func(t *testing.T) {
				collector := telemetrytest.New(t)
				collector.SetMode(tt.mode)
				collector.SetDelay(flushBound + 100*time.Millisecond)
				t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "50")
				c := testclock.New(start)
				config := all()
				config.Now = c.Now
				o := otlpObserver(t, config, collector.Endpoint(protocol), protocol)
				for range 4 {
					turn(o)
					if took := takes(func() { o.Flush(t.Context()) }); took > flushBound+slack {
						t.Errorf("a flush took %v", took)
					}
					c.Advance(tracesEvery)
				}
				if tt.mode != telemetrytest.Slow && len(collector.Spans()) != 0 {
					t.Error("the collector kept something")
				}
				collector.SetMode(telemetrytest.Take)
				if err := o.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				checkDistinct(t, collector, 4*spansOfATurn)
				if o.queue.dropped.Load() != 0 {
					t.Errorf("%d dropped", o.queue.dropped.Load())
				}
			})
		}
	}
}

// checkDistinct wants n different spans at the collector, and returns how many
// came twice.
func checkDistinct(t *testing.T, collector *telemetrytest.Collector, n int) (doubles int) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range collector.Spans() {
		if seen[string(s.SpanId)] {
			doubles++
		}
		seen[string(s.SpanId)] = true
	}
	if len(seen) != n {
		t.Errorf("%d spans, want %d", len(seen), n)
	}
	return doubles
}

func TestCollectorThatRefusesConnections(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listener.Close() // nobody is there any more
			t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
			c := testclock.New(start)
			config := all()
			config.Now = c.Now
			o := otlpObserver(t, config, "http://"+listener.Addr().String(), protocol)
			for range 10 {
				turn(o)
				if took := takes(func() { o.Flush(t.Context()) }); took > flushBound+slack {
					t.Errorf("a flush took %v", took)
				}
				c.Advance(tracesEvery)
			}
			if got := o.queue.len(); got > 10 || o.queue.dropped.Load() != 10*spansOfATurn-10 {
				t.Errorf("%d queued, %d dropped", got, o.queue.dropped.Load())
			}
			if err := o.Shutdown(t.Context()); err == nil {
				t.Error("lost without a word")
			}
		})
	}
}

// A batch that the collector will never take does not keep back what follows.
func TestCollectorThatRefusesABatch(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			collector := telemetrytest.New(t)
			collector.SetMode(telemetrytest.Refuse)
			o := otlpObserver(t, all(), collector.Endpoint(protocol), protocol)
			turn(o)
			o.Flush(t.Context())
			if o.queue.len() != 0 || o.queue.dropped.Load() != spansOfATurn {
				t.Errorf("%d queued, %d dropped", o.queue.len(), o.queue.dropped.Load())
			}
			collector.SetMode(telemetrytest.Take)
			turn(o)
			if err := o.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			checkDistinct(t, collector, spansOfATurn)
		})
	}
}
