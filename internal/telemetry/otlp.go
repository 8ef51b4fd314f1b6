package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Without an endpoint in the environment a collector beside us is meant, by the
// standard's default, which the exporters would speak to by TLS.

func (o otlp) traces(ctx context.Context) (sdktrace.SpanExporter, error) {
	if o.protocol == protocolGRPC {
		opts := []otlptracegrpc.Option{
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}),
			otlptracegrpc.WithDialOption(grpc.WithKeepaliveParams(brokenConnection)),
		}
		if !o.timeout {
			opts = append(opts, otlptracegrpc.WithTimeout(noDeadline))
		}
		if !o.endpoint {
			opts = append(opts, otlptracegrpc.WithInsecure())
		}
		return otlptracegrpc.New(ctx, opts...)
	}
	opts := []otlptracehttp.Option{otlptracehttp.WithRetry(otlptracehttp.RetryConfig{})}
	if !o.timeout {
		opts = append(opts, otlptracehttp.WithTimeout(noDeadline))
	}
	if !o.endpoint {
		opts = append(opts, otlptracehttp.WithInsecure())
	}
	if o.ownClient() {
		client := newHTTPClient()
		exporter, err := otlptracehttp.New(ctx, append(opts, otlptracehttp.WithHTTPClient(client))...)
		return closingTraces{exporter, client}, err
	}
	return otlptracehttp.New(ctx, opts...)
}

func (o otlp) metrics(ctx context.Context) (sdkmetric.Exporter, error) {
	if o.protocol == protocolGRPC {
		opts := []otlpmetricgrpc.Option{
			otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{}),
			otlpmetricgrpc.WithDialOption(grpc.WithKeepaliveParams(brokenConnection)),
		}
		if !o.timeout {
			opts = append(opts, otlpmetricgrpc.WithTimeout(noDeadline))
		}
		if !o.endpoint {
			opts = append(opts, otlpmetricgrpc.WithInsecure())
		}
		return otlpmetricgrpc.New(ctx, opts...)
	}
	opts := []otlpmetrichttp.Option{otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{})}
	if !o.timeout {
		opts = append(opts, otlpmetrichttp.WithTimeout(noDeadline))
	}
	if !o.endpoint {
		opts = append(opts, otlpmetrichttp.WithInsecure())
	}
	if o.ownClient() {
		client := newHTTPClient()
		exporter, err := otlpmetrichttp.New(ctx, append(opts, otlpmetrichttp.WithHTTPClient(client))...)
		return closingMetrics{exporter, client}, err
	}
	return otlpmetrichttp.New(ctx, opts...)
}

// brokenConnection lets the kernel give up a connection whose other end went
// away unseen while the instance was frozen: what was sent stays unanswered
// this long. Without it a call would hang for a quarter of an hour.
var brokenConnection = keepalive.ClientParameters{Time: time.Minute, Timeout: 3 * time.Second}

// ownClient reports whether the exporter may be given a client, which makes it
// forget what the environment says of certificates and timeouts.
func (o otlp) ownClient() bool { return !o.certificates && !o.timeout }

// newHTTPClient is as the exporters' own, but it sees a broken HTTP/2
// connection, leaves none open when it is closed, and reports an answer that
// asks for another try as an error that [retryable] knows.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: unavailable{&http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second},
	}}}
}

// unavailable returns an error for the answers that mean "try again"
// (https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes): the
// exporters have no type for them.
type unavailable struct{ *http.Transport }

func (u unavailable) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := u.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		_ = response.Body.Close()
		return nil, fmt.Errorf("the collector answered %s", response.Status)
	}
	return response, nil
}

type closingTraces struct {
	sdktrace.SpanExporter
	client *http.Client
}

func (c closingTraces) Shutdown(ctx context.Context) error {
	defer c.client.CloseIdleConnections()
	return c.SpanExporter.Shutdown(ctx)
}

type closingMetrics struct {
	sdkmetric.Exporter
	client *http.Client
}

func (c closingMetrics) Shutdown(ctx context.Context) error {
	defer c.client.CloseIdleConnections()
	return c.Exporter.Shutdown(ctx)
}
