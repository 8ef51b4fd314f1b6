// Package tasks has Cloud Tasks deliver the service's tasks to itself, through Google's
// own client.
//
// A task is a POST to the service's /tasks with an ID token of an account that may do
// nothing else. Its name tells it from all others, so that one that is added twice is
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

	mu  sync.Mutex
	api *cloudtasks.Client // nil until the first call
}

// New makes a queue. It does not wait for the network.
func New(c Config) (*Queue, error) {
	own, err := channel.Endpoint(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("cloud tasks' endpoint: %w", err)
	}
	return &Queue{config: c, own: own}, nil
}

// client returns the API's client, made when it is first needed: most instances of a
// service add no task, and looking up credentials takes time.
func (q *Queue) client(ctx context.Context) (*cloudtasks.Client, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.api == nil {
		// The client outlives the call that makes it, so it must not end with that call's
		// context.
		api, err := cloudtasks.NewClient(context.WithoutCancel(ctx), q.own...)
		if err != nil {
			return nil, err
		}
		api.CallOptions.CreateTask = createOptions()
		q.api = api
	}
	return q.api, nil
}

// createOptions replace the client's own, which never tries again. That is safe for a
// task with a name.
func createOptions() []gax.CallOption {
	return []gax.CallOption{
		gax.WithTimeout(10 * time.Second), // where the caller's context has no deadline
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
// It does not wait for them. Without a call before there is nothing to close.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.api == nil {
		return nil
	}
	return q.api.Close()
}
