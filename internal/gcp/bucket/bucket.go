// Package bucket keeps files in a Cloud Storage bucket, and reads those that requests
// name in other buckets.
//
// It uses google.golang.org/api/storage/v1, the client that Google generates from the
// JSON API's description, and not cloud.google.com/go/storage: that one links gRPC's
// xDS and adds 16 MB (half as much again) to every deployed program, this one 0.2 MB,
// for the six calls that are needed.
//
// An object is written once and never changed: its name is made from its content, so that
// writing it again is either the same object or refused, and any call may be repeated after a
// lost response. What is read is compared with the CRC32C that the service computed, or with
// gzip's own where the object is stored as gzip, as a broken proxy or disk would show nowhere else.
package bucket

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/api/storage/v1"

	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/loopback"
)

// A Client reaches Cloud Storage. It is safe for concurrent use.
type Client struct {
	ready chan struct{} // closed once api and err are set
	api   *storage.Service
	err   error
}

// New returns a client of the service at endpoint, a host:port: Google's own when it
// is empty. One on loopback is spoken to in plaintext and without credentials.
//
// New does not wait for the network: credentials are looked up at the same time, and
// what goes wrong there is an error of the calls.
func New(ctx context.Context, endpoint string) (*Client, error) {
	var options []option.ClientOption
	if endpoint != "" {
		endpoint = strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), "/") // as Google's tools take it
		host, port, err := net.SplitHostPort(endpoint)
		if err != nil || host == "" || port == "" {
			return nil, errors.New("cloud storage's endpoint is not of the form host:port")
		}
		scheme := "https://"
		if loopback.Host(host) {
			scheme = "http://"
			options = append(options, option.WithoutAuthentication())
		}
		options = append(options, option.WithEndpoint(scheme+endpoint+"/storage/v1/"))
	}
	ctx = context.WithoutCancel(ctx) // the client outlives the call that made it
	c := &Client{ready: make(chan struct{})}
	// Looking up credentials may ask the metadata server, which a cold start need not wait for.
	go func() {
		defer close(c.ready)
		c.api, c.err = storage.NewService(ctx, append(options, option.WithScopes(storage.DevstorageReadWriteScope))...)
	}()
	return c, nil
}

// service returns the generated client once it is made.
func (c *Client) service(ctx context.Context) (*storage.Service, error) {
	select {
	case <-c.ready:
		return c.api, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

const (
	maxTries  = 3
	firstWait = 50 * time.Millisecond
	// side is how many objects are changed side by side.
	side = 8
	// pageSize is the number of names of a page of a list.
	pageSize = 1000
)

// try calls f until it succeeds or fails for good, a few times, within ctx. All calls
// of this package may be repeated.
//
// The error wraps f's own if that is final, and the context's cause once ctx has ended.
func (c *Client) try(ctx context.Context, what string, f func(*storage.Service) error) error {
	api, err := c.service(ctx)
	for try := 1; err == nil; try++ {
		failed := f(api)
		switch {
		case failed == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case try == maxTries || !isTemporary(failed):
			return fmt.Errorf("%s: %w", what, failed)
		}
		// A random wait below 100 and then 200 ms; the loop finds that ctx has ended by the
		// next call's error.
		timer := time.NewTimer(rand.N(firstWait << try))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func status(err error) int {
	if failed, ok := errors.AsType[*googleapi.Error](err); ok {
		return failed.Code
	}
	return 0
}

// isUnreadable reports whether an object or bucket cannot be read. The service answers 403
// instead of 404 to who may not list the bucket, so the two cannot be distinguished; nor should
// a caller learn which buckets exist. Of a write, 403 is a failure: a permission is missing, or
// a retention policy or a hold keeps the object.
func isUnreadable(err error) bool {
	code := status(err)
	return code == http.StatusNotFound || code == http.StatusForbidden
}

// isTemporary reports whether the same call may succeed later, by the statuses that Google
// names for a retry (https://cloud.google.com/storage/docs/retry-strategy). An error without a
// status is one of the connection.
func isTemporary(err error) bool {
	if code := status(err); code != 0 {
		return code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500
	}
	return !errors.Is(err, files.ErrNotFound) && !errors.Is(err, files.ErrTooLarge) && !errors.Is(err, errChecksum)
}

// A Bucket keeps the files of this deployment.
type Bucket struct {
	client *Client
	name   string
}

// Bucket returns the bucket of this name.
func (c *Client) Bucket(name string) *Bucket { return &Bucket{c, name} }

// URI returns the gs:// address of an object.
func (b *Bucket) URI(name string) string { return "gs://" + b.name + "/" + name }

// Put stores an object, unless there is one of this name: names are made from the
// content. It expires at the given time by the bucket's rule for the custom time.
//
// A precondition that fails is success: somebody has stored the same content. ChunkSize(0)
// sends a file of a few MiB in one request, where an upload that can be resumed takes two.
func (b *Bucket) Put(ctx context.Context, name, mediaType string, data []byte, expires time.Time) error {
	object := &storage.Object{Name: name, ContentType: mediaType, CustomTime: expires.UTC().Format(time.RFC3339), Crc32c: checksum(data)}
	return b.client.try(ctx, "storing a file", func(api *storage.Service) error {
		_, err := api.Objects.Insert(b.name, object).IfGenerationMatch(0).Fields("name").
			Media(bytes.NewReader(data), googleapi.ContentType(mediaType), googleapi.ChunkSize(0)).Context(ctx).Do()
		if status(err) == http.StatusPreconditionFailed {
			return nil
		}
		return err
	})
}

// Get returns the type and the content of an object of at most limit bytes.
func (b *Bucket) Get(ctx context.Context, name string, limit int64) (mediaType string, data []byte, err error) {
	return b.client.Read(ctx, b.name, name, limit)
}

// Read returns the type that an object of any bucket was stored with, and its content
// of at most limit bytes.
//
// The error is [files.ErrTooLarge] for a larger one, of which at most limit and a byte are
// read, and [files.ErrNotFound] for one that is missing or that this service may not read.
func (c *Client) Read(ctx context.Context, bucket, name string, limit int64) (mediaType string, data []byte, err error) {
	err = c.try(ctx, "reading a file", func(api *storage.Service) error {
		response, err := api.Objects.Get(bucket, name).Context(ctx).Download()
		if isUnreadable(err) {
			return files.ErrNotFound
		}
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		// The length is checked before the body is read, and again after it, since it may be
		// absent.
		if response.ContentLength > limit {
			return files.ErrTooLarge
		}
		var content bytes.Buffer
		if response.ContentLength > 0 {
			// MinRead more than the content, or ReadFrom would double the buffer to see the
			// end.
			content.Grow(int(response.ContentLength) + bytes.MinRead)
		}
		if _, err := content.ReadFrom(io.LimitReader(response.Body, limit+1)); err != nil {
			return err
		}
		if int64(content.Len()) > limit {
			return files.ErrTooLarge
		}
		// The checksum is of the stored bytes. One that is stored as gzip was decompressed on the
		// way, where gzip's own checksum was compared.
		if !response.Uncompressed && !matches(response.Header, content.Bytes()) {
			return errChecksum
		}
		mediaType, data = response.Header.Get("Content-Type"), content.Bytes()
		return nil
	})
	return mediaType, data, err
}

// An Entry describes an object.
type Entry struct {
	Name      string
	MediaType string
	Bytes     int64
	CreatedAt time.Time
}

// List returns objects whose names begin with prefix, a page of them, and the cursor of
// the next one, "" after the last. The cursor of the first page is "".
func (b *Bucket) List(ctx context.Context, prefix, cursor string) (entries []Entry, next string, err error) {
	err = b.client.try(ctx, "listing files", func(api *storage.Service) error {
		page, err := api.Objects.List(b.name).Prefix(prefix).PageToken(cursor).MaxResults(pageSize).
			Fields("nextPageToken", "items(name,contentType,size,timeCreated)").Context(ctx).Do()
		if err != nil {
			return err
		}
		// Set rather than appended to: this may be a second try.
		entries, next = nil, page.NextPageToken
		for _, item := range page.Items {
			created, _ := time.Parse(time.RFC3339, item.TimeCreated)
			entries = append(entries, Entry{item.Name, item.ContentType, int64(item.Size), created})
		}
		return nil
	})
	return entries, next, err
}

// Delete removes all objects whose names begin with prefix. It works in steps: when it
// fails or ctx ends, some are removed, and the next call continues.
func (b *Bucket) Delete(ctx context.Context, prefix string) error {
	return b.each(ctx, prefix, func(ctx context.Context, name string) error {
		return b.client.try(ctx, "deleting a file", func(api *storage.Service) error {
			return api.Objects.Delete(b.name, name).Context(ctx).Do()
		})
	})
}

// Extend has the objects whose names begin with prefix expire at another time. An
// object's time cannot be moved back.
func (b *Bucket) Extend(ctx context.Context, prefix string, expires time.Time) error {
	change := &storage.Object{CustomTime: expires.UTC().Format(time.RFC3339)}
	return b.each(ctx, prefix, func(ctx context.Context, name string) error {
		return b.client.try(ctx, "extending a file", func(api *storage.Service) error {
			_, err := api.Objects.Patch(b.name, name, change).Fields("name").Context(ctx).Do()
			if status(err) == http.StatusBadRequest { // it expires later already
				return nil
			}
			return err
		})
	})
}

// each calls f for the names that begin with prefix, a few side by side, up to the page in
// which a call fails: the page's other names are not kept from their call, so that one object
// that is held, such as by a retention policy, does not keep the others. An object that
// somebody else removed is no failure.
func (b *Bucket) each(ctx context.Context, prefix string, f func(ctx context.Context, name string) error) error {
	// A prefix that is empty by mistake would delete the files of everybody.
	if prefix == "" {
		return errors.New("a prefix of everything")
	}
	cursor := ""
	for {
		entries, next, err := b.List(ctx, prefix, cursor)
		if err != nil {
			return err
		}
		var group errgroup.Group
		group.SetLimit(side)
		for _, entry := range entries {
			group.Go(func() error {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := f(ctx, entry.Name); status(err) != http.StatusNotFound {
					return err
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// Ping lists at most one name, to check that the bucket responds.
func (b *Bucket) Ping(ctx context.Context) error {
	return b.client.try(ctx, "listing files", func(api *storage.Service) error {
		_, err := api.Objects.List(b.name).MaxResults(1).Fields("items(name)").Context(ctx).Do()
		return err
	})
}

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errChecksum = errors.New("the content does not match its CRC32C")
)

func checksum(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)))
}

// matches compares data with the checksum that the service sends, if it does.
func matches(h http.Header, data []byte) bool {
	for _, values := range h.Values("X-Goog-Hash") {
		for value := range strings.SplitSeq(values, ",") {
			if sum, ok := strings.CutPrefix(strings.TrimSpace(value), "crc32c="); ok {
				return sum == checksum(data)
			}
		}
	}
	return true
}
