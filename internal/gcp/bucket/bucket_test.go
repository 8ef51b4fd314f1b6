package bucket_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/gcp/bucket"
	"example.com/gatehouse/internal/gcp/bucket/buckettest"
)

func TestBucket(t *testing.T) {
	s := buckettest.Start(t)
	s.Page(7)
	buckettest.TestBucket(t, s.Endpoint)
}

func open(t *testing.T, s *buckettest.Server) *bucket.Bucket {
	t.Helper()
	client, err := bucket.New(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return client.Bucket("files")
}

func TestATroubleThatPassesIsTriedAgain(t *testing.T) {
	s := buckettest.Start(t)
	b := open(t, s)
	failures := 2
	s.Fail(func(*http.Request) int {
		if failures--; failures >= 0 {
			return 503
		}
		return 0
	})
	if err := b.Put(t.Context(), "a", "text/plain", []byte("x"), time.Now()); err != nil {
		t.Error(err)
	}
	for _, status := range []int{400, 401, 500} {
		s.Fail(func(*http.Request) int { return status })
		if _, _, err := b.Get(t.Context(), "a", 9); err == nil || errors.Is(err, files.ErrNotFound) {
			t.Errorf("%d: %v", status, err)
		}
	}
	s.Fail(func(*http.Request) int { return 403 })
	if _, _, err := b.Get(t.Context(), "a", 9); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("what may not be read: %v", err)
	}
}

// What may not be changed is still there: whoever asked for it must learn that.
func TestAForbiddenWriteIsAFailure(t *testing.T) {
	s := buckettest.Start(t)
	b := open(t, s)
	s.Put("files/owner/s/a", buckettest.Object{MediaType: "text/plain", Data: []byte("x")})
	s.Fail(func(r *http.Request) int {
		if r.Method != http.MethodGet {
			return 403
		}
		return 0
	})
	for name, write := range map[string]func() error{
		"Put":    func() error { return b.Put(t.Context(), "owner/s/b", "text/plain", []byte("x"), time.Now()) },
		"Extend": func() error { return b.Extend(t.Context(), "owner/", time.Now()) },
		"Delete": func() error { return b.Delete(t.Context(), "owner/") },
	} {
		if err := write(); err == nil || errors.Is(err, files.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(s.Objects()) != 1 {
		t.Errorf("%d objects", len(s.Objects()))
	}
	// One that somebody else removed after the list is gone as it should be.
	s.Fail(func(r *http.Request) int {
		if r.Method != http.MethodGet {
			return 404
		}
		return 0
	})
	if err := errors.Join(b.Extend(t.Context(), "owner/", time.Now()), b.Delete(t.Context(), "owner/")); err != nil {
		t.Error(err)
	}
	if err := b.Put(t.Context(), "a", "text/plain", []byte("x"), time.Now()); err == nil || errors.Is(err, files.ErrNotFound) {
		t.Errorf("a bucket that is not there: %v", err)
	}
}

// gsutil cp -z stores such objects, and their checksum is of the compressed bytes.
func TestAnObjectStoredAsGzipIsRead(t *testing.T) {
	s := buckettest.Start(t)
	b := open(t, s)
	text := bytes.Repeat([]byte("text "), 100)
	var stored bytes.Buffer
	w := gzip.NewWriter(&stored)
	_, _ = w.Write(text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.Put("files/a", buckettest.Object{MediaType: "text/plain", Encoding: "gzip", Data: stored.Bytes()})
	mediaType, data, err := b.Get(t.Context(), "a", int64(len(text)))
	if err != nil || mediaType != "text/plain" || !bytes.Equal(data, text) {
		t.Errorf("%q, %q, %v", mediaType, data, err)
	}
	if _, _, err := b.Get(t.Context(), "a", int64(len(text))-1); !errors.Is(err, files.ErrTooLarge) {
		t.Errorf("the limit is not of what is read: %v", err)
	}
	damaged := bytes.Clone(stored.Bytes())
	damaged[len(damaged)-8]++ // in gzip's checksum
	s.Put("files/a", buckettest.Object{MediaType: "text/plain", Encoding: "gzip", Data: damaged})
	if _, data, err := b.Get(t.Context(), "a", 1<<10); err == nil {
		t.Errorf("damaged: %q", data)
	}
}

func TestADeletionThatFailedContinues(t *testing.T) {
	s := buckettest.Start(t)
	s.Page(10)
	b := open(t, s)
	for i := range 35 {
		s.Put(fmt.Sprintf("files/owner/s/%02d", i), buckettest.Object{MediaType: "text/plain", Data: []byte("x")})
	}
	s.Put("files/owner2/s/a", buckettest.Object{})
	allowed := 20
	s.Fail(func(r *http.Request) int {
		if r.Method == http.MethodDelete {
			if allowed--; allowed < 0 {
				return 500
			}
		}
		return 0
	})
	if err := b.Delete(t.Context(), "owner/"); err == nil {
		t.Error("no error")
	}
	if n := len(s.Objects()); n < 11 || n > 26 {
		t.Errorf("%d objects left", n)
	}
	s.Fail(func(r *http.Request) int { // one that is held
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "07") {
			return 403
		}
		return 0
	})
	s.Put("files/owner/s/07", buckettest.Object{MediaType: "text/plain", Data: []byte("x")})
	for range 4 { // a page at a time
		if err := b.Delete(t.Context(), "owner/"); err == nil {
			t.Error("no error")
		}
	}
	if n := len(s.Objects()); n != 2 {
		t.Errorf("%d objects left, want the one that is held and another owner's", n)
	}
	s.Fail(nil)
	if err := b.Delete(t.Context(), "owner/"); err != nil {
		t.Error(err)
	}
	if left := s.Objects(); len(left) != 1 {
		t.Errorf("%d objects left, of which one is another owner's", len(left))
	}
	if err := b.Delete(t.Context(), ""); err == nil {
		t.Error("everything was deleted")
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	s := buckettest.Start(t)
	b := open(t, s)
	s.Fail(func(*http.Request) int { return 503 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Put(ctx, "a", "text/plain", []byte("x"), time.Now()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1", "nonsense", ":80", "http://"} {
		if _, err := bucket.New(t.Context(), endpoint); err == nil {
			t.Errorf("%q was accepted", endpoint)
		}
	}
	if _, err := bucket.New(t.Context(), "http://127.0.0.1:4443"); err != nil {
		t.Error(err)
	}
}
