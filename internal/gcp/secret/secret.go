// Package secret reads versions of secrets from Google Secret Manager
// through Google's own client.
//
// [New] makes one [Client] for the process, and [Client.Access] reads one
// version, verified against the checksum that the service sends with it. What to
// read, how often, and what to do when it fails is for the caller to decide:
// nothing is cached here. Package secrettest stands in for the service.
package secret

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/gcp/channel"
	"example.com/gatehouse/internal/secretname"
)

// MaxPayloadBytes is the largest payload that Secret Manager keeps
// (https://cloud.google.com/secret-manager/quotas).
const MaxPayloadBytes = 64 << 10

// ErrChecksum is wrapped by the errors of [Client.Access] that refuse a payload
// for its checksum.
var ErrChecksum = errors.New("the payload does not match its CRC32C")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Client reads secret versions. It is safe for concurrent use; its calls share
// one connection.
type Client struct {
	ready chan struct{} // closed once api and err are set
	api   *secretmanager.Client
	err   error
}

// New makes a client of the service at endpoint: Google's own when it is empty,
// else the host:port of a regional or private endpoint. An endpoint on loopback
// is spoken to in plaintext and without credentials, which is how a stand-in
// takes the service's place.
//
// New does not wait for the network. The credentials are looked up at the same time,
// which outside Google Cloud can take seconds, and the connection is made by the
// first call; what goes wrong there is an error of [Client.Access]. Options come
// after those that New sets itself.
func New(ctx context.Context, endpoint string, opts ...option.ClientOption) (*Client, error) {
	own, err := channel.Endpoint(endpoint)
	if err != nil {
		return nil, fmt.Errorf("secret manager's endpoint: %w", err)
	}
	// The client outlives the call that made it.
	ctx = context.WithoutCancel(ctx)
	c := &Client{ready: make(chan struct{})}
	go func() {
		defer close(c.ready)
		c.api, c.err = secretmanager.NewClient(ctx, append(own, opts...)...)
		if c.err == nil {
			c.api.CallOptions.AccessSecretVersion = accessOptions
		}
	}()
	return c, nil
}

// accessOptions replace the client's own, whose first retry comes up to two
// seconds later: a cold start waits behind these calls. A quota that is used up
// (RESOURCE_EXHAUSTED) stays so for the rest of the minute and is left to the
// caller; gRPC also returns that code for a message over the size limit.
var accessOptions = []gax.CallOption{
	gax.WithTimeout(10 * time.Second), // where the caller's context has no deadline
	gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Unavailable}, gax.Backoff{
			Initial:    100 * time.Millisecond,
			Max:        5 * time.Second,
			Multiplier: 2,
		})
	}),
	// Room for the name and the framing beside the payload.
	gax.WithGRPCOptions(grpc.MaxCallRecvMsgSize(MaxPayloadBytes + 4<<10)),
}

// Access returns the payload of the secret version name, which [secretname.Check] must
// accept. It takes no longer than ctx, or 10 seconds when ctx has no deadline;
// an unavailable service is tried again until then.
//
// The errors wrap [ErrChecksum], the status of the service (for
// [google.golang.org/grpc/status.Code]), or the error of a context that ended;
// none holds any part of the payload. The service sends a checksum with every
// payload, so one that comes without is refused too.
func (c *Client) Access(ctx context.Context, name string) ([]byte, error) {
	if err := secretname.Check(name); err != nil {
		return nil, err
	}
	payload, err := c.access(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("accessing %s: %w", name, err)
	}
	return payload, nil
}

func (c *Client) access(ctx context.Context, name string) ([]byte, error) {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.err != nil {
		return nil, c.err
	}
	version, err := c.api.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: name})
	if err != nil {
		return nil, contextError(err)
	}
	data := version.GetPayload().GetData()
	if len(data) > MaxPayloadBytes {
		return nil, fmt.Errorf("the payload has %d bytes, more than the %d that the service allows", len(data), MaxPayloadBytes)
	}
	if version.GetPayload() == nil || version.Payload.DataCrc32C == nil {
		return nil, fmt.Errorf("%w: none was sent", ErrChecksum)
	}
	if version.Payload.GetDataCrc32C() != int64(crc32.Checksum(data, castagnoli)) {
		return nil, ErrChecksum
	}
	return data, nil
}

// Refused reports whether err, which [Client.Access] returned, is a refusal for good
// and not the trouble of a moment: the version is disabled or destroyed, it or its
// secret is deleted, or access to it was taken away.
func Refused(err error) bool {
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.NotFound, codes.PermissionDenied:
		return true
	}
	return false
}

// contextError adds the context's error to a status that reports it: gRPC wraps
// only the status.
func contextError(err error) error {
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case codes.Canceled:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return err
}

// Close ends the connection. Calls under way fail.
func (c *Client) Close() error {
	<-c.ready
	if c.err != nil {
		return nil
	}
	return c.api.Close()
}
