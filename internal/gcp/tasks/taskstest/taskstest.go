// Package taskstest stands in for Cloud Tasks in tests: a gRPC server on loopback with
// the published protos, which delivers tasks over HTTP as a test asks: at once or when
// they are due, several times, late, out of order, again after a failure. Their ID tokens
// are signed by an issuer at the same address.
//
// Google has no emulator of Cloud Tasks. This one is strict where the service is (names,
// deadlines, sizes) and troublesome where the service may be: what it promises is delivery at
// least once, and a test of a run should see every delivery that this allows.
package taskstest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/auth/authtest"
)

// The queue that a [Server] has, and the account whose tokens it sends.
const (
	Queue   = "projects/p-1/locations/us-central1/queues/gatehouse-runs"
	Account = "gatehouse-tasks@p-1.iam.gserviceaccount.com"
)

// A Server is a Cloud Tasks with one queue. It delivers nothing by itself before
// [Server.Run]. Its methods are safe for concurrent use, also while it serves.
type Server struct {
	// Addr is the server's host:port on loopback.
	Addr string
	// Issuer signs the tokens.
	Issuer *authtest.Issuer

	cloudtaskspb.UnimplementedCloudTasksServer

	client *http.Client
	ctx    context.Context // ends with the test
	work   sync.WaitGroup

	mu      sync.Mutex
	names   map[string]bool // of all tasks that there ever were
	waiting map[string]*task
	run     *Behavior // nil: a test delivers
	fail    codes.Code
	failing int
	calls   int
	results []Result
}

// A Behavior is how a [Server] delivers.
type Behavior struct {
	Copies int                  // deliveries of each task side by side; 0 is one
	Early  bool                 // at once, not when a task is due
	Delay  func() time.Duration // before each delivery; nil is none
	Pause  time.Duration        // before a task whose deliveries all failed is tried again; 0 is 10 ms
	Tries  int                  // after which a task is dropped; 0 is no bound
}

// A Result is how a delivery ended.
type Result struct {
	Task   string // its name's last part
	Status int    // 0 when there was no answer
}

type task struct {
	*cloudtaskspb.Task
	tries int
}

// Start starts a server that lives as long as the test.
//
// When the test ends, waiting deliveries are dropped, and those under way are cancelled and
// waited for, so that none reaches the next test's service.
func Start(t testing.TB) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		ctx: ctx, names: map[string]bool{}, waiting: map[string]*task{},
		client: &http.Client{Transport: &http.Transport{}},
	}
	api := grpc.NewServer()
	cloudtaskspb.RegisterCloudTasksServer(api, s)
	s.Issuer = authtest.StartBeside(t, "RS256", api)
	s.Addr = strings.TrimPrefix(s.Issuer.URL, "http://")
	t.Cleanup(func() {
		s.mu.Lock()
		cancel() // no delivery begins from here on
		s.mu.Unlock()
		s.work.Wait()
		api.Stop()
		s.client.CloseIdleConnections()
	})
	return s
}

// Run begins to deliver what is added, and what waits.
func (s *Server) Run(b Behavior) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = &b
	for _, name := range slices.Sorted(maps.Keys(s.waiting)) {
		s.start(s.waiting[name], b)
	}
}

// FailNext makes the next n calls that add a task fail with code.
func (s *Server) FailNext(code codes.Code, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.failing = code, n
}

// Calls is the number of calls that were to add a task.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Waiting returns the tasks that have not been done yet, the next one first.
func (s *Server) Waiting() []*cloudtaskspb.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*cloudtaskspb.Task
	for _, t := range s.waiting {
		all = append(all, t.Task)
	}
	slices.SortFunc(all, func(a, b *cloudtaskspb.Task) int {
		return cmp.Or(a.ScheduleTime.AsTime().Compare(b.ScheduleTime.AsTime()), strings.Compare(a.Name, b.Name))
	})
	return all
}

// Results are how the deliveries so far have ended, in that order.
func (s *Server) Results() []Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.results)
}

// Token returns an ID token as Cloud Tasks sends it, of account for audience.
func (s *Server) Token(account, audience string) string {
	claims := s.Issuer.Claims(audience, time.Now())
	claims["email"], claims["email_verified"], claims["sub"], claims["azp"] = account, true, "1122334455", "1122334455"
	return s.Issuer.Sign(claims)
}

// Deliver delivers a task once, now, and returns the answer's status, or 0 without one. A
// task that is done can be delivered again: Cloud Tasks does that too.
func (s *Server) Deliver(ctx context.Context, t *cloudtaskspb.Task) int {
	s.mu.Lock()
	tries := 0
	if waits := s.waiting[t.Name]; waits != nil {
		tries = waits.tries
		waits.tries++
	}
	s.mu.Unlock()
	answer := s.deliver(ctx, t, tries)
	// mu is not held during the delivery: the service that is called may add tasks.
	id := t.Name[strings.LastIndexByte(t.Name, '/')+1:]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, Result{id, answer})
	if answer >= 200 && answer < 300 {
		delete(s.waiting, t.Name)
	}
	return answer
}

func (s *Server) deliver(ctx context.Context, t *cloudtaskspb.Task, tries int) int {
	ctx, cancel := context.WithTimeout(ctx, t.DispatchDeadline.AsDuration())
	defer cancel()
	request := t.GetHttpRequest()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, request.Url, bytes.NewReader(request.Body))
	if err != nil {
		return 0
	}
	for name, value := range request.Headers {
		r.Header.Set(name, value)
	}
	token := request.GetOidcToken()
	r.Header.Set("Authorization", "Bearer "+s.Token(token.ServiceAccountEmail, token.Audience))
	r.Header.Set("User-Agent", "Google-Cloud-Tasks")
	r.Header.Set("X-CloudTasks-TaskName", t.Name[strings.LastIndexByte(t.Name, '/')+1:])
	r.Header.Set("X-CloudTasks-TaskRetryCount", strconv.Itoa(tries))
	response, err := s.client.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// start delivers t by b until it is done. mu is held.
func (s *Server) start(t *task, b Behavior) {
	s.work.Go(func() {
		if wait := time.Until(t.ScheduleTime.AsTime()); !b.Early && !s.sleep(wait) {
			return
		}
		for try := 1; ; try++ {
			var copies sync.WaitGroup
			for range max(b.Copies, 1) {
				copies.Go(func() {
					if b.Delay == nil || s.sleep(b.Delay()) {
						s.Deliver(s.ctx, t.Task)
					}
				})
			}
			copies.Wait()
			s.mu.Lock()
			_, waits := s.waiting[t.Name]
			if waits && try == b.Tries {
				delete(s.waiting, t.Name)
			}
			s.mu.Unlock()
			if !waits || try == b.Tries || !s.sleep(cmp.Or(b.Pause, 10*time.Millisecond)) {
				return
			}
		}
	})
}

// sleep waits for d and reports whether the test still goes on.
func (s *Server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// taskName is what Cloud Tasks takes as the last part of a name
// (https://cloud.google.com/tasks/docs/reference/rpc/google.cloud.tasks.v2#task).
var taskName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,500}$`)

// CreateTask is the method of the service that is stood in for.
//
// A name is taken for good, also once its task is done: the service remembers it for a day,
// which is longer than any test.
func (s *Server) CreateTask(_ context.Context, r *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.failing > 0 {
		s.failing--
		return nil, status.Error(s.fail, "taskstest: told to fail")
	}
	if s.ctx.Err() != nil {
		return nil, status.Error(codes.Unavailable, "taskstest: the test has ended")
	}
	if r.Parent != Queue {
		return nil, status.Error(codes.NotFound, "Queue does not exist.")
	}
	if err := check(r.Task); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "taskstest: %v", err)
	}
	if s.names[r.Task.Name] {
		return nil, status.Error(codes.AlreadyExists, "Requested entity already exists")
	}
	t := &task{Task: r.Task}
	s.names[t.Name], s.waiting[t.Name] = true, t
	if s.run != nil {
		s.start(t, *s.run)
	}
	return r.Task, nil
}

// check holds a task to the bounds that Cloud Tasks documents.
func check(t *cloudtaskspb.Task) error {
	request, deadline := t.GetHttpRequest(), t.GetDispatchDeadline().AsDuration()
	id, ok := strings.CutPrefix(t.GetName(), Queue+"/tasks/")
	switch {
	case !ok || !taskName.MatchString(id):
		return errors.New("a task's name is not one of the queue's")
	case request == nil || request.HttpMethod != cloudtaskspb.HttpMethod_POST:
		return errors.New("not a POST")
	case len(request.Body) > 100<<10:
		return errors.New("the body is over 100 KiB")
	case request.GetOidcToken().GetServiceAccountEmail() == "":
		return errors.New("no account for the token")
	case deadline < 15*time.Second || deadline > 30*time.Minute:
		return fmt.Errorf("a deadline of %v", deadline)
	case time.Until(t.GetScheduleTime().AsTime()) > 30*24*time.Hour:
		return errors.New("scheduled more than 30 days ahead")
	}
	return nil
}
