package secret_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/gcp/secret"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	name     = "projects/p-1/secrets/api-keys/versions/3"
	latest   = "projects/p-1/secrets/api-keys/versions/latest"
	regional = "projects/p-1/locations/europe-west1/secrets/api-keys/versions/1"
	value    = "correct horse battery staple"
)

func newClient(t testing.TB, endpoint string) *secret.Client {
	t.Helper()
	c, err := secret.New(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func TestAccess(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		version  string
		arrange  func(*secrettest.Server)
		want     string
		wantCode codes.Code
		wantErr  error
		calls    int
	}{
		{name: "a numbered version", version: name, want: value, calls: 1},
		{name: "the latest version", version: latest, want: value, calls: 1},
		{
			name: "the latest version after a rotation", version: latest,
			arrange: func(s *secrettest.Server) { s.Set("projects/p-1/secrets/api-keys/versions/4", "new") },
			want:    "new", calls: 1,
		},
		{
			name: "a regional secret", version: regional,
			arrange: func(s *secrettest.Server) { s.Set(regional, "here") },
			want:    "here", calls: 1,
		},
		{
			name: "an empty payload", version: name,
			arrange: func(s *secrettest.Server) { s.Set(name, "") },
			calls:   1,
		},
		{
			name: "the largest payload", version: name,
			arrange: func(s *secrettest.Server) { s.Set(name, strings.Repeat("x", secret.MaxPayloadBytes)) },
			want:    strings.Repeat("x", secret.MaxPayloadBytes), calls: 1,
		},
		{
			name: "a payload one byte too large", version: name,
			arrange:  func(s *secrettest.Server) { s.Set(name, strings.Repeat("x", secret.MaxPayloadBytes+1)) },
			wantCode: codes.Unknown, calls: 1,
		},
		{
			name: "a payload far too large, not read and not asked for again", version: name,
			arrange:  func(s *secrettest.Server) { s.Set(name, strings.Repeat("x", 1<<20)) },
			wantCode: codes.ResourceExhausted, calls: 1,
		},
		{
			name: "a wrong checksum", version: name,
			arrange:  func(s *secrettest.Server) { s.Corrupt(name) },
			wantCode: codes.Unknown, wantErr: secret.ErrChecksum, calls: 1,
		},
		{
			name: "no checksum", version: name,
			arrange:  func(s *secrettest.Server) { s.DropChecksum(name) },
			wantCode: codes.Unknown, wantErr: secret.ErrChecksum, calls: 1,
		},
		{name: "an unknown version", version: "projects/p-1/secrets/other/versions/1", wantCode: codes.NotFound, calls: 1},
		{
			name: "no permission", version: name,
			arrange:  func(s *secrettest.Server) { s.Fail(name, codes.PermissionDenied) },
			wantCode: codes.PermissionDenied, calls: 1,
		},
		{
			name: "unavailable, then fine", version: name,
			arrange: func(s *secrettest.Server) { s.FailNext(name, codes.Unavailable, 2) },
			want:    value, calls: 3,
		},
		{
			name: "quota used up, left to the caller", version: name,
			arrange:  func(s *secrettest.Server) { s.FailNext(name, codes.ResourceExhausted, 1) },
			wantCode: codes.ResourceExhausted, calls: 1,
		},
		{name: "a malformed name, not sent", version: "api-keys", wantCode: codes.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := secrettest.Start(t)
			server.Set(name, value)
			if tt.arrange != nil {
				tt.arrange(server)
			}
			got, err := newClient(t, server.Addr).Access(t.Context(), tt.version)
			if code := status.Code(err); code != tt.wantCode {
				t.Fatalf("error %v has code %v, want %v", err, code, tt.wantCode)
			}
			if tt.wantErr != nil && !errors.Is(err, tt.wantErr) {
				t.Errorf("error %v, want %v", err, tt.wantErr)
			}
			if err != nil && (strings.Contains(err.Error(), value) || strings.Contains(err.Error(), "xxxx")) {
				t.Errorf("the error holds the payload: %v", err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
			if got := server.Calls(""); got != tt.calls {
				t.Errorf("%d calls, want %d", got, tt.calls)
			}
		})
	}
}

func TestAccessEndsWithItsContext(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		arrange func(*secrettest.Server)
	}{
		{"a slow server", func(s *secrettest.Server) { s.Delay(time.Minute) }},
		{"a server that stays unavailable", func(s *secrettest.Server) { s.Fail(name, codes.Unavailable) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := secrettest.Start(t)
			server.Set(name, value)
			tt.arrange(server)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := newClient(t, server.Addr).Access(ctx, name)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v after a deadline of 100ms", took)
			}
			if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.Unavailable {
				t.Errorf("error %v, want the deadline's or the last attempt's", err)
			}
		})
	}
	t.Run("cancelled beforehand", func(t *testing.T) {
		t.Parallel()
		server := secrettest.Start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := newClient(t, server.Addr).Access(ctx, name); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	})
}

func TestAccessSideBySide(t *testing.T) {
	t.Parallel()
	server := secrettest.Start(t)
	names := []string{name, regional, "projects/p-1/secrets/origins/versions/1"}
	for _, n := range names {
		server.Set(n, n)
	}
	server.Delay(time.Second)
	client := newClient(t, server.Addr)

	var wait sync.WaitGroup
	for _, n := range names {
		wait.Go(func() {
			if got, err := client.Access(t.Context(), n); err != nil || string(got) != n {
				t.Errorf("Access(%s) = %q, %v", n, got, err)
			}
		})
	}
	wait.Wait()
	if got := server.Peak(); got != len(names) {
		t.Errorf("at most %d calls at one time, want %d", got, len(names))
	}
}

func TestAccessAfterTheServerCameBack(t *testing.T) {
	t.Parallel()
	server := secrettest.Start(t)
	server.Set(name, value)
	server.Fail(name, codes.PermissionDenied)
	client := newClient(t, server.Addr)
	if _, err := client.Access(t.Context(), name); err == nil {
		t.Fatal("no error while access is denied")
	}
	server.Fail(name, codes.OK)
	if got, err := client.Access(t.Context(), name); err != nil || string(got) != value {
		t.Errorf("Access = %q, %v once access is granted", got, err)
	}
}

func TestNewDoesNotWaitForTheNetwork(t *testing.T) {
	t.Parallel()
	// Nothing listens there, and nothing may be asked before the first access.
	start := time.Now()
	client := newClient(t, "localhost:1")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("New took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := client.Access(ctx, name); err == nil {
		t.Error("no error though nothing listens")
	}
}

func TestNewEndpoint(t *testing.T) {
	t.Parallel()
	if _, err := secret.New(t.Context(), "localhost"); err == nil {
		t.Error("an endpoint without a port was taken")
	}
}

// What is this machine is one judgment, for this client and every other.
func TestLoopbackInCapitalsIsSpokenToInPlaintext(t *testing.T) {
	t.Parallel()
	server := secrettest.Start(t)
	server.Set(name, value)
	client := newClient(t, strings.Replace(server.Addr, "127.0.0.1", "LOCALHOST", 1))
	if got, err := client.Access(t.Context(), name); err != nil || string(got) != value {
		t.Errorf("Access = %q, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]bool{
		codes.FailedPrecondition: true, // disabled or destroyed
		codes.NotFound:           true,
		codes.PermissionDenied:   true,
		codes.Unauthenticated:    false, // the metadata server's trouble, too
		codes.ResourceExhausted:  false,
		codes.Internal:           false,
		codes.InvalidArgument:    false,
	} {
		server := secrettest.Start(t)
		server.Set(name, value)
		server.Fail(name, code)
		_, err := newClient(t, server.Addr).Access(t.Context(), name)
		if got := secret.Refused(err); err == nil || got != want {
			t.Errorf("%v: %t, want %t (%v)", code, got, want, err)
		}
	}
	if secret.Refused(nil) || secret.Refused(context.DeadlineExceeded) || secret.Refused(secret.ErrChecksum) {
		t.Error("trouble of a moment is a refusal")
	}
}
