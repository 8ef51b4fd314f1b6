//go:build unix

package tasks_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/tasks"
	"example.com/gatehouse/internal/gcp/tasks/taskstest"
)

// The credentials are a pipe that nobody writes to, as slow as a metadata server that does not
// answer. TestMain finds a client that nobody closes.
func TestEnqueueDoesNotWaitForCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	q, err := tasks.New(tasks.Config{Queue: taskstest.Queue, Account: taskstest.Account, URL: "https://service.example"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	results := make(chan error, 2)
	for range cap(results) {
		go func() { results <- q.Enqueue(ctx, run, time.Now()) }()
	}
	for range cap(results) {
		select {
		case err := <-results:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("Enqueue outlives its context")
		}
	}
	if err := q.Close(); err != nil { // before the client is there
		t.Error(err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(`{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}`); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsMadeAfterClose(t *testing.T) {
	t.Parallel()
	server := taskstest.Start(t)
	q := newQueue(t, server, "https://service.example")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := q.Enqueue(t.Context(), run, time.Now()); err == nil || server.Calls() != 0 {
		t.Errorf("%v after %d calls", err, server.Calls())
	}
}
