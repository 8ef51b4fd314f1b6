// Package tasks has Cloud Tasks deliver the service's tasks to itself, through Google's
// own client.
//
// A task is a POST to the service's /tasks with an ID token of an account that may do
// nothing else. Its name identifies it, so that one that is added twice is
// delivered as one, though more than once in the end. Package taskstest stands in for
// Cloud Tasks.
//
// Creating a task is the last step of accepting a run, so a lost response matters: it is
// created again under its name, and AlreadyExists is success. What a task is about lies in the
// session store; its body is names, and whoever could read the queue would read nothing of a
// conversation.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"example.com/gatehouse/internal/gcp/channel"
	"example.com/gatehouse/internal/queue"
)

// maxWait bounds a call whose context has no deadline.
const maxWait = 10 * time.Second

// MaxDeadline is how long a delivery may take at most
// (https://cloud.google.com/tasks/docs/reference/rpc/google.cloud.tasks.v2#task).
const MaxDeadline = 30 * time.Minute

// A Config is what a [Queue] is made of.
type Config struct {
	Queue    string        // projects/PROJECT/locations/LOCATION/queues/QUEUE
	Account  string        // the service account whose ID tokens come with the tasks
	URL      string        // of the service, which is the tokens' audience
	Endpoint string        // of Cloud Tasks; "" is Google's own
	Deadline time.Duration // of a delivery
}

// A Queue adds tasks to a queue of Cloud Tasks. It is safe for concurrent use; its calls
// share one connection, which the first of them makes.
type Queue struct {
	config Config
	own    []option.ClientOption

	mu     sync.Mutex
	made   *making // nil until the first call, and after one that failed
	closed bool
}

// A making is a client that is made in the background, for all calls that wait for it.
type making struct {
	done chan struct{} // closed after api and err are set, under the queue's lock
	api  *cloudtasks.Client
	err  error
}

// errClosed is the error of calls after Close.
var errClosed = errors.New("the queue is closed")

// New makes a queue. It does not wait for the network.
func New(c Config) (*Queue, error) {
	own, err := channel.Endpoint(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("cloud tasks' endpoint: %w", err)
	}
	return &Queue{config: c, own: own}, nil
}

// client returns the API's client, made when it is first needed: most instances of a
// service add no task, and looking up credentials takes time. It waits no longer than ctx.
func (q *Queue) client(ctx context.Context) (*cloudtasks.Client, error) {
	made, err := q.make(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-made.done:
		return made.api, made.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// make returns the client that is being made or is there, and begins to make one if there is
// none.
func (q *Queue) make(ctx context.Context) (*making, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosed
	}
	if q.made != nil {
		return q.made, nil
	}
	made := &making{done: make(chan struct{})}
	q.made = made
	go func() {
		defer close(made.done)
		// The client outlives the call that makes it, so it must not end with that call's
		// context; and NewClient may take as long as the metadata server does.
		api, err := cloudtasks.NewClient(context.WithoutCancel(ctx), q.own...)
		if err == nil {
			api.CallOptions.CreateTask = createOptions()
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		switch {
		case err != nil:
			q.made = nil // the next call tries again
		case q.closed: // Close has not waited for it
			err = errors.Join(errClosed, api.Close())
			api = nil
		}
		made.api, made.err = api, err
	}()
	return made, nil
}

// createOptions replace the client's own, which never tries again. That is safe for a
// task with a name.
func createOptions() []gax.CallOption {
	return []gax.CallOption{
		// Unavailable is tried again until the context ends, after at most 5 s each; a refusal
		// is final, a used-up quota among them, since the caller can be answered better than it
		// can wait.
		gax.WithRetry(func() gax.Retryer {
			return gax.OnCodes([]codes.Code{codes.Unavailable}, gax.Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2})
		}),
	}
}

// Enqueue adds t for the time at. A task of its name that was added within a day is the
// same task, so that adding one again changes nothing. It takes no longer than ctx, or 10
// seconds where that has no deadline.
//
// The error has the status of Cloud Tasks (package status). The task may have been added even
// so: to add it again is safe.
func (q *Queue) Enqueue(ctx context.Context, t queue.Task, at time.Time) error {
	body, err := t.Encode()
	if err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxWait)
		defer cancel()
	}
	api, err := q.client(ctx)
	if err != nil {
		return fmt.Errorf("making Cloud Tasks' client: %w", err)
	}
	// After DispatchDeadline Cloud Tasks takes the delivery for failed and tries again,
	// although the first may still be at work. Without it the deadline would be 10 minutes,
	// less than a run may take.
	_, err = api.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{
		Parent: q.config.Queue,
		Task: &cloudtaskspb.Task{
			Name:             q.config.Queue + "/tasks/" + t.Name(),
			ScheduleTime:     timestamppb.New(at),
			DispatchDeadline: durationpb.New(min(q.config.Deadline, MaxDeadline)),
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
				Url:        q.config.URL + queue.Path,
				HttpMethod: cloudtaskspb.HttpMethod_POST,
				Headers:    map[string]string{"Content-Type": "application/json"},
				Body:       body,
				// By the token's account the service distinguishes the queue from every other
				// caller.
				AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
					ServiceAccountEmail: q.config.Account, Audience: q.config.URL,
				}},
			}},
		},
	})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("adding a task: %w", err)
	}
	return nil
}

// Close ends the connection. Calls under way fail.
//
// It does not wait for them, and calls after it fail. A client that is still being made is
// closed as soon as it is there.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	if q.made == nil || q.made.api == nil {
		return nil
	}
	return q.made.api.Close()
}
