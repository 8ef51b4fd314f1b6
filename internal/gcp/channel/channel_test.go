package channel_test

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/iterator"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/gcp/channel"
	"example.com/gatehouse/internal/gcp/emulator"
	gfirestore "example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/gcp/secret"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/relaytest"
	"example.com/gatehouse/internal/slowtest"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

// back bounds the time until calls work again after a path has died without a word.
const back = 20 * time.Second

var errNotDelivered = errors.New("not delivered")

// recovers lets the relay's connections die, and calls until it works again.
func recovers(t *testing.T, relay *relaytest.Relay, call func(context.Context) error, patience time.Duration) {
	t.Helper()
	if err := call(t.Context()); err != nil {
		t.Fatal("before the path died:", err)
	}
	made := relay.Connections()
	relay.Silence()
	begin, failed := time.Now(), 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := call(ctx)
		cancel()
		if err == nil {
			break
		}
		if failed++; time.Since(begin) > back {
			t.Fatalf("not back after %v and %d calls: %v", time.Since(begin), failed, err)
		}
	}
	t.Logf("back after %v and %d failed calls, by %d new connections", time.Since(begin).Round(10*time.Millisecond), failed, relay.Connections()-made)
	if failed == 0 || relay.Connections() == made {
		t.Error("the path did not die")
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for endpoint, ok := range map[string]bool{
		"":                   true, // Google's own
		"127.0.0.1:8085":     true,
		"127.9.9.9:8085":     true,
		"[::1]:8085":         true,
		"localhost:8085":     true,
		"localhost":          false,
		":8085":              false,
		"127.0.0.1:0":        false,
		"127.0.0.1:65536":    false,
		"http://127.0.0.1:1": false,
		"127.0.0.1:1/path":   false,
	} {
		if options, err := channel.Endpoint(endpoint); (err == nil) != ok || (len(options) > 0) != ok {
			t.Errorf("%q: %d options, %v", endpoint, len(options), err)
		}
	}
}

func TestSecretManagerIsBackAfterASilentDeath(t *testing.T) {
	t.Parallel()
	secretManagerRecovers(t, 2*time.Second)
}

// Calls that are given up at once judge nothing; pings notice.
func TestPingsNoticeASilentDeath(t *testing.T) {
	slowtest.Skip(t, "pings that notice a silent death")
	t.Parallel()
	secretManagerRecovers(t, 900*time.Millisecond)
}

// secretManagerRecovers is recovers for a client of Secret Manager.
func secretManagerRecovers(t *testing.T, patience time.Duration) {
	t.Helper()
	const name = "projects/p/secrets/s/versions/1"
	server := secrettest.Start(t)
	server.Set(name, "value")
	relay := relaytest.Start(t, server.Addr)
	client, err := secret.New(t.Context(), relay.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	recovers(t, relay, func(ctx context.Context) error { _, err := client.Access(ctx, name); return err }, patience)
}

func TestFirestoreIsBackAfterASilentDeath(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *firestore.Client) error{
		"a read": func(ctx context.Context, c *firestore.Client) error {
			_, err := c.GetAll(ctx, []*firestore.DocumentRef{c.Doc("relay/x")})
			return err
		},
		"a write": func(ctx context.Context, c *firestore.Client) error {
			_, err := c.Doc("relay/y").Set(ctx, map[string]any{"a": 1})
			return err
		},
		"a query": func(ctx context.Context, c *firestore.Client) error {
			_, err := c.Collection("relay").Limit(1).Documents(ctx).Next()
			if err == iterator.Done {
				err = nil
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay := relaytest.Start(t, emulator.Host(t))
			client, err := gfirestore.Connect(t.Context(), emulator.Project(), "(default)", relay.Addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			recovers(t, relay, func(ctx context.Context) error { return call(ctx, client) }, 5*time.Second)
		})
	}
}

// The audit ends a call after 2 s, and then does not call for a while.
func TestLoggingIsBackAfterASilentDeath(t *testing.T) {
	t.Parallel()
	server := loggingtest.Start(t)
	relay := relaytest.Start(t, server.Addr)
	log, err := audit.New(t.Context(), "project-1", "audit", relay.Addr, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	recovers(t, relay, func(ctx context.Context) error {
		before := len(server.Entries())
		log.Write(ctx, audit.Entry{Action: "test", Outcome: audit.OK})
		if len(server.Entries()) == before {
			time.Sleep(100 * time.Millisecond) // while it rests, a call costs nothing
			return errNotDelivered
		}
		return nil
	}, back)
}
