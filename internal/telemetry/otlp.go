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

func (o otlp) traces(ctx context.Context) (sdktrace.SpanExporter, func() error, error) {
	if o.protocol == protocolGRPC {
		opts := []otlptracegrpc.Option{
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}), otlptracegrpc.WithTimeout(o.timeout),
			otlptracegrpc.WithDialOption(grpc.WithKeepaliveParams(brokenConnection)),
		}
		if !o.endpoint {
			opts = append(opts, otlptracegrpc.WithInsecure())
		}
		exporter, err := otlptracegrpc.New(ctx, opts...)
		return exporter, nil, err
	}
	opts := []otlptracehttp.Option{otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}), otlptracehttp.WithTimeout(o.timeout)}
	if !o.endpoint {
		opts = append(opts, otlptracehttp.WithInsecure())
	}
	client, closeClient := o.httpClient()
	if client != nil {
		opts = append(opts, otlptracehttp.WithHTTPClient(client))
	}
	exporter, err := otlptracehttp.New(ctx, opts...)
	return exporter, closeClient, err
}

func (o otlp) metrics(ctx context.Context) (sdkmetric.Exporter, func() error, error) {
	if o.protocol == protocolGRPC {
		opts := []otlpmetricgrpc.Option{
			otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{}), otlpmetricgrpc.WithTimeout(o.timeout),
			otlpmetricgrpc.WithDialOption(grpc.WithKeepaliveParams(brokenConnection)),
		}
		if !o.endpoint {
			opts = append(opts, otlpmetricgrpc.WithInsecure())
		}
		exporter, err := otlpmetricgrpc.New(ctx, opts...)
		return exporter, nil, err
	}
	opts := []otlpmetrichttp.Option{otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}), otlpmetrichttp.WithTimeout(o.timeout)}
	if !o.endpoint {
		opts = append(opts, otlpmetrichttp.WithInsecure())
	}
	client, closeClient := o.httpClient()
	if client != nil {
		opts = append(opts, otlpmetrichttp.WithHTTPClient(client))
	}
	exporter, err := otlpmetrichttp.New(ctx, opts...)
	return exporter, closeClient, err
}

// brokenConnection has the kernel close a connection whose other end went
// away unseen while the instance was frozen: what was sent stays unanswered
// this long. Without it a call would hang for a quarter of an hour.
var brokenConnection = keepalive.ClientParameters{Time: time.Minute, Timeout: 3 * time.Second}

// httpClient returns a client as the exporters' own, but it sees a broken HTTP/2
// connection, leaves none open when it is closed, and reports an answer that
// asks for another try as an error that [retryable] knows. A client makes an
// exporter ignore the environment's certificates, so with those there is none.
func (o otlp) httpClient() (*http.Client, func() error) {
	if o.certificates {
		return nil, nil
	}
	client := &http.Client{Timeout: o.timeout, Transport: unavailable{&http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second},
	}}}
	return client, func() error { client.CloseIdleConnections(); return nil }
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
