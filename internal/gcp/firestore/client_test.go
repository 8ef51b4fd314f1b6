package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
)

// Firestore answers NotFound both for a document and for a database that does not exist. A
// caller whose store has no database must not read that its conversation was deleted.
func TestADatabaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var commits atomic.Int32
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); strings.HasSuffix(method, "/Commit") {
			commits.Add(1)
		}
		return status.Error(codes.NotFound, "The database (default) does not exist for project p")
	}))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := firestore.Connect(t.Context(), "p", "(default)", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	store := firestore.NewSessions(client, time.Hour, time.Now)
	key := session.Key{Owner: "owner", ID: session.NewID()}
	for name, call := range map[string]func(context.Context) error{
		"a ping": store.Ping,
		"a session": func(ctx context.Context) error {
			_, err := store.Load(ctx, key)
			return err
		},
		"a run": func(ctx context.Context) error {
			_, err := store.LoadRun(ctx, key, session.NewID())
			return err
		},
		"a list": func(ctx context.Context) error {
			_, _, err := store.List(ctx, key.Owner, 10, "")
			return err
		},
		"a user's state": func(ctx context.Context) error {
			_, err := store.LoadUser(ctx, key.Owner)
			return err
		},
		"a first turn": func(ctx context.Context) error {
			_, err := store.Apply(ctx, &session.Session{Key: key}, session.Change{Turn: &session.Turn{ID: session.NewID()}})
			if n := commits.Load(); n != 1 { // it would be repeated until its time is over
				return fmt.Errorf("%d commits: %v", n, err)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if err := call(ctx); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound) {
				t.Errorf("%v", err)
			}
		})
	}
}
