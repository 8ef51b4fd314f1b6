package bucket_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/bucket/buckettest"
)

// fakeGCS is an independent implementation of the JSON API. It is built as a program, not
// required by the module: it links Google's whole client.
const fakeGCS = "github.com/fsouza/fake-gcs-server@v1.56.1"

// The stand-in of the other tests is held to another one. CI builds it; elsewhere it is
// used if it was built before.
func TestBucketOfFakeGCSServer(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "gatehouse-"+filepath.Base(fakeGCS))
	program := filepath.Join(dir, "fake-gcs-server")
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("NOT TESTED: the bucket of fake-gcs-server. GOBIN=%s go install %s", dir, fakeGCS)
		}
		build := exec.CommandContext(t.Context(), "go", "install", fakeGCS)
		build.Dir = t.TempDir()
		build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building it: %v\n%s", err, out)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	_, port, _ := net.SplitHostPort(address)
	data := t.TempDir() // its folders are the buckets
	if err := os.Mkdir(filepath.Join(data, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	server := exec.CommandContext(t.Context(), program, "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-public-host", address, "-backend", "memory", "-data", data)
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it does not start: %v\n%s", err, log.String())
		}
	}
	buckettest.TestBucket(t, address)
}
