package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/gcp/bucket"
)

// TestBucket checks that the bucket "files" of the service at endpoint keeps what
// package bucket promises. It runs against the stand-in and against fake-gcs-server,
// so that the stand-in is held to an independent one.
func TestBucket(t *testing.T, endpoint string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := bucket.New(ctx, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	b := client.Bucket("files")
	later := time.Now().Add(time.Hour)
	if err := b.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, "owner/session/a", "text/plain", []byte("first"), later); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, "owner/session/a", "text/plain", []byte("second"), later); err != nil {
		t.Errorf("a name that is there: %v", err)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 7<<16)
	if err := b.Put(ctx, "owner/other/b c/ä", "image/png", large, later); err != nil {
		t.Fatal(err)
	}
	mediaType, data, err := b.Get(ctx, "owner/session/a", 5)
	if err != nil || mediaType != "text/plain" || string(data) != "first" {
		t.Errorf("got %q, %q, %v", mediaType, data, err)
	}
	if _, data, err = b.Get(ctx, "owner/other/b c/ä", 7<<20); err != nil || !bytes.Equal(data, large) {
		t.Errorf("7 MiB: %d bytes, %v", len(data), err)
	}
	if _, _, err := b.Get(ctx, "owner/session/a", 4); !errors.Is(err, files.ErrTooLarge) {
		t.Errorf("an object over the limit: %v", err)
	}
	if _, _, err := b.Get(ctx, "owner/session/none", 4); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("an object that is not there: %v", err)
	}
	if _, _, err := client.Read(ctx, "nobodys", "a", 4); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("a bucket that is not there: %v", err)
	}
	if err := b.Extend(ctx, "owner/session/", later.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	for i := range 20 {
		if err := b.Put(ctx, fmt.Sprintf("owner/session/%d", i), "text/plain", []byte("x"), later); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(ctx, "owner/session/"); err != nil {
		t.Fatal(err)
	}
	left, next, err := b.List(ctx, "owner/", "")
	if err != nil || next != "" || len(left) != 1 || left[0].Name != "owner/other/b c/ä" || left[0].Bytes != 7<<20 || left[0].MediaType != "image/png" {
		t.Errorf("after deleting the session: %+v, %q, %v", left, next, err)
	}
	if err := b.Delete(ctx, "owner/"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, "owner/"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
