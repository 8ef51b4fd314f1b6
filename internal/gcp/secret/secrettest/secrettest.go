// Package secrettest stands in for Google Secret Manager in tests: a gRPC server
// on loopback that serves what a test sets, so that the real client runs.
package secrettest

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"regexp"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Server is a Secret Manager that knows the versions a test has set. Its
// methods are safe for concurrent use, also while it serves.
type Server struct {
	// Addr is the server's host:port on loopback.
	Addr string

	secretmanagerpb.UnimplementedSecretManagerServiceServer

	mu       sync.Mutex
	versions map[string]*version
	delay    time.Duration
	calls    map[string]int
	serving  int
	peak     int
}

type version struct {
	value      []byte
	set        bool
	checksum   func(sum int64) *int64
	fail       codes.Code // OK: do not
	failsAhead int        // below zero: without end
}

// Start starts a server that lives as long as the test. It knows no version yet.
func Start(t testing.TB) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("secrettest: %v", err)
	}
	s := &Server{
		Addr:     listener.Addr().String(),
		versions: map[string]*version{},
		calls:    map[string]int{},
	}
	server := grpc.NewServer()
	secretmanagerpb.RegisterSecretManagerServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("secrettest: %v", err)
		}
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return s
}

var numbered = regexp.MustCompile(`/versions/[0-9]+$`)

// Set sets the value of the version name, with a right checksum and no failure. A
// numbered version becomes the latest too.
func (s *Server) Set(name, value string) {
	s.change(name, func(v *version) {
		*v = version{value: []byte(value), set: true}
	})
	if latest := numbered.ReplaceAllString(name, "/versions/latest"); latest != name {
		s.Set(latest, value)
	}
}

// Fail makes every access to name fail with code, until Set or Fail(name,
// codes.OK).
func (s *Server) Fail(name string, code codes.Code) {
	s.change(name, func(v *version) { v.fail, v.failsAhead = code, -1 })
}

// FailNext makes the next n accesses to name fail with code.
func (s *Server) FailNext(name string, code codes.Code, n int) {
	s.change(name, func(v *version) { v.fail, v.failsAhead = code, n })
}

// Corrupt makes the checksum that is sent with name wrong, until Set.
func (s *Server) Corrupt(name string) {
	s.change(name, func(v *version) {
		v.checksum = func(sum int64) *int64 { sum ^= 1; return &sum }
	})
}

// DropChecksum sends name without a checksum, until Set.
func (s *Server) DropChecksum(name string) {
	s.change(name, func(v *version) {
		v.checksum = func(int64) *int64 { return nil }
	})
}

// Delay makes every access take at least d.
func (s *Server) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Calls is the number of accesses to name so far, or to all names when it is
// empty.
func (s *Server) Calls(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" {
		return s.calls[name]
	}
	total := 0
	for _, n := range s.calls {
		total += n
	}
	return total
}

// Peak is the largest number of accesses that were served at one time.
func (s *Server) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

func (s *Server) change(name string, f func(*version)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.versions[name]
	if v == nil {
		v = &version{}
		s.versions[name] = v
	}
	f(v)
}

// AccessSecretVersion is the method of the service that is stood in for.
func (s *Server) AccessSecretVersion(ctx context.Context, req *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	defer s.enter(req.GetName())()
	s.mu.Lock()
	delay := s.delay
	s.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	return s.answer(req.GetName())
}

// enter counts a call until the function that it returns is called.
func (s *Server) enter(name string) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	s.serving++
	s.peak = max(s.peak, s.serving)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.serving--
	}
}

func (s *Server) answer(name string) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.versions[name]
	if v != nil && v.fail != codes.OK && v.failsAhead != 0 {
		v.failsAhead--
		return nil, status.Errorf(v.fail, "secrettest: told to fail")
	}
	if v == nil || !v.set {
		return nil, status.Errorf(codes.NotFound, "Secret Version [%s] not found.", name)
	}
	sum := int64(crc32.Checksum(v.value, crc32.MakeTable(crc32.Castagnoli)))
	checksum := &sum
	if v.checksum != nil {
		checksum = v.checksum(sum)
	}
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: name,
		Payload: &secretmanagerpb.SecretPayload{
			Data:       v.value,
			DataCrc32C: checksum,
		},
	}, nil
}
