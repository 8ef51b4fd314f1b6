// Package loggingtest stands in for Google Cloud Logging in tests: a gRPC server
// on loopback that keeps the entries written to it, and fails, stalls, breaks
// connections or dies as a test asks, so that the real client runs.
package loggingtest

import (
	"context"
	"errors"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Server is a Logging API. Its methods are safe for concurrent use, also while
// it serves.
type Server struct {
	// Addr is the server's host:port on loopback, the same after Restart.
	Addr string

	loggingpb.UnimplementedLoggingServiceV2Server

	t testing.TB

	mu         sync.Mutex
	server     *grpc.Server
	done       chan struct{}       // closed when server has ended
	conns      map[string]net.Conn // by the client's address
	entries    []*loggingpb.LogEntry
	calls      int
	fail       codes.Code // OK: do not
	failsAhead int        // below zero: without end
	failsAfter int        // calls before they do
	breaks     int
	loses      int
	delay      time.Duration
	hold       chan struct{} // closed to let calls through; nil: not held
	arrived    chan struct{} // one value for each call
}

// Start starts a server that lives as long as the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, conns: map[string]net.Conn{}, arrived: make(chan struct{}, 1<<16)}
	s.listen("127.0.0.1:0")
	t.Cleanup(s.Stop)
	return s
}

func (s *Server) listen(address string) {
	s.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatalf("loggingtest: %v", err)
	}
	server, done := grpc.NewServer(), make(chan struct{})
	loggingpb.RegisterLoggingServiceV2Server(server, s)
	s.mu.Lock()
	s.Addr, s.server, s.done = listener.Addr().String(), server, done
	s.mu.Unlock()
	go func() {
		defer close(done)
		// Stopped before it came to serve is no error.
		if err := server.Serve(tracked{listener, s}); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.t.Errorf("loggingtest: %v", err)
		}
	}()
}

// tracked is a listener that reports each connection to its server.
type tracked struct {
	net.Listener
	server *Server
}

func (l tracked) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.server.mu.Lock()
		l.server.conns[conn.RemoteAddr().String()] = conn
		l.server.mu.Unlock()
	}
	return conn, err
}

// Stop kills the server: connections break, calls under way get no answer, and
// new ones are refused.
func (s *Server) Stop() { s.end((*grpc.Server).Stop) }

// Drain ends the server once calls under way have their answers; new ones are
// refused.
func (s *Server) Drain() { s.end((*grpc.Server).GracefulStop) }

func (s *Server) end(how func(*grpc.Server)) {
	s.mu.Lock()
	server, done := s.server, s.done
	s.mu.Unlock()
	how(server)
	<-done
}

// Restart serves at the same address again, after Stop or Drain. What was set
// and taken before still is.
func (s *Server) Restart() {
	s.t.Helper()
	s.listen(s.Addr)
}

// Fail makes every call fail with code, until Fail(codes.OK).
func (s *Server) Fail(code codes.Code) {
	s.set(func() { s.fail, s.failsAhead, s.failsAfter = code, -1, 0 })
}

// FailNext makes the next n calls fail with code.
func (s *Server) FailNext(code codes.Code, n int) {
	s.set(func() { s.fail, s.failsAhead, s.failsAfter = code, n, 0 })
}

// FailAfter makes every call fail with code but the next n.
func (s *Server) FailAfter(n int, code codes.Code) {
	s.set(func() { s.fail, s.failsAhead, s.failsAfter = code, -1, n })
}

// BreakNext resets the connections of the next n calls, whose entries are not
// taken.
func (s *Server) BreakNext(n int) { s.set(func() { s.breaks = n }) }

// LoseNext resets the connections of the next n calls after their entries were
// taken: the client cannot know.
func (s *Server) LoseNext(n int) { s.set(func() { s.loses = n }) }

// Delay makes every call take at least d.
func (s *Server) Delay(d time.Duration) { s.set(func() { s.delay = d }) }

// Hold makes every call wait, before anything else, until the function that it
// returns is called.
func (s *Server) Hold() (release func()) {
	hold := make(chan struct{})
	s.set(func() { s.hold = hold })
	return sync.OnceFunc(func() {
		s.set(func() { s.hold = nil })
		close(hold)
	})
}

// Arrived returns one value for each call that came in.
func (s *Server) Arrived() <-chan struct{} { return s.arrived }

// Calls is the number of calls so far.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Entries are those that were taken, in order, each with the log's name, the
// resource and the labels of its call.
func (s *Server) Entries() []*loggingpb.LogEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

func (s *Server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// WriteLogEntries is the method of the service that is stood in for.
func (s *Server) WriteLogEntries(ctx context.Context, req *loggingpb.WriteLogEntriesRequest) (*loggingpb.WriteLogEntriesResponse, error) {
	s.mu.Lock()
	s.calls++
	hold, delay := s.hold, s.delay
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	return s.answer(ctx, req)
}

func (s *Server) answer(ctx context.Context, req *loggingpb.WriteLogEntriesRequest) (*loggingpb.WriteLogEntriesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaks > 0 {
		s.breaks--
		return nil, s.reset(ctx)
	}
	if err := s.toldToFail(); err != nil {
		return nil, err
	}
	for _, entry := range req.GetEntries() {
		entry = proto.CloneOf(entry)
		if entry.LogName == "" {
			entry.LogName = req.GetLogName()
		}
		if entry.Resource == nil {
			entry.Resource = req.GetResource()
		}
		labels := maps.Clone(req.GetLabels())
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, entry.GetLabels())
		entry.Labels = labels
		s.entries = append(s.entries, entry)
	}
	if s.loses > 0 {
		s.loses--
		return nil, s.reset(ctx)
	}
	return &loggingpb.WriteLogEntriesResponse{}, nil
}

// toldToFail is the error of a call that is to fail.
func (s *Server) toldToFail() error {
	switch {
	case s.fail == codes.OK || s.failsAhead == 0:
		return nil
	case s.failsAfter > 0:
		s.failsAfter--
		return nil
	}
	s.failsAhead--
	return status.Errorf(s.fail, "loggingtest: told to fail")
}

// listFilter is the one filter that is understood: a time, a part of the insert
// id, and a log.
var listFilter = regexp.MustCompile(`^timestamp>="([^"]+)" AND insertId:"([^"]+)" AND \(log_id\("([^"]+)"\) OR jsonPayload\.audit=true\)$`)

// ListLogEntries is the method of the service that is stood in for. It knows
// every bucket of a project by the name of its view _AllLogs, and returns a few
// entries a page, for any page size that is asked for.
func (s *Server) ListLogEntries(_ context.Context, req *loggingpb.ListLogEntriesRequest) (*loggingpb.ListLogEntriesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if err := s.toldToFail(); err != nil {
		return nil, err
	}
	m := listFilter.FindStringSubmatch(req.GetFilter())
	if m == nil || req.GetOrderBy() != "timestamp asc" || len(req.GetResourceNames()) != 1 {
		return nil, status.Errorf(codes.InvalidArgument, "loggingtest: not a list that is understood: %v", req)
	}
	project, view, _ := strings.Cut(strings.TrimPrefix(req.GetResourceNames()[0], "projects/"), "/")
	since, err := time.Parse(time.RFC3339Nano, m[1])
	if err != nil || !viewName.MatchString(view) {
		return nil, status.Errorf(codes.InvalidArgument, "loggingtest: neither a time nor a view: %v", req)
	}
	var found []*loggingpb.LogEntry
	for _, entry := range s.entries {
		log := entry.GetLogName() == "projects/"+project+"/logs/"+m[3] || entry.GetJsonPayload().GetFields()["audit"].GetBoolValue()
		if log && strings.Contains(entry.GetInsertId(), m[2]) && !entry.GetTimestamp().AsTime().Before(since) {
			found = append(found, proto.CloneOf(entry))
		}
	}
	slices.SortStableFunc(found, func(a, b *loggingpb.LogEntry) int {
		return a.GetTimestamp().AsTime().Compare(b.GetTimestamp().AsTime())
	})
	begin, _ := strconv.Atoi(req.GetPageToken())
	end := min(begin+listPage, len(found))
	response := &loggingpb.ListLogEntriesResponse{Entries: found[min(begin, end):end]}
	if end < len(found) {
		response.NextPageToken = strconv.Itoa(end)
	}
	return response, nil
}

// listPage is how many entries a page has.
const listPage = 3

var viewName = regexp.MustCompile(`^locations/[^/]+/buckets/[^/]+/views/_AllLogs$`)

// reset ends the call's connection; the error that it returns goes nowhere.
func (s *Server) reset(ctx context.Context) error {
	if from, ok := peer.FromContext(ctx); ok {
		if conn, ok := s.conns[from.Addr.String()].(*net.TCPConn); ok {
			_ = conn.SetLinger(0) // RST, not FIN
			_ = conn.Close()
		}
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}
