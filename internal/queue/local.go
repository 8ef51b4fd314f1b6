package queue

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"example.com/gatehouse/internal/rescue"
)

// The bounds of a [Local].
const (
	maxWaiting = 1000             // tasks
	maxWorking = 16               // of them at once
	firstPause = time.Second      // before a task is tried again; it doubles
	maxPause   = 10 * time.Minute // between two tries
	lifetime   = 24 * time.Hour   // after which a task that is due is given up
)

// ErrFull means that a [Local] holds as many tasks as it may, or has ended.
var ErrFull = errors.New("the queue takes no more tasks")

// Local is a queue in this process, which forgets its tasks when the process ends. It
// is safe for concurrent use.
//
// One goroutine decides what is due; each delivery is another. deliver may block for as long as
// a run takes, and may enqueue. Unlike Cloud Tasks, it forgets a name once the task has ended.
type Local struct {
	deliver func(context.Context, Task) error
	log     *slog.Logger

	mu      sync.Mutex
	waiting schedule
	names   map[string]struct{} // of the tasks that wait or are worked on
	working int
	ended   bool

	changed chan struct{} // a task was added, or one has ended
	stop    context.CancelFunc
	stopped chan struct{}
}

// NewLocal makes a queue that hands its tasks to deliver, up to 16 at once, each until
// deliver returns nil. It ends with ctx or by [Local.Close].
//
// A panic of deliver is an error like any other. After an error the task is due again in a
// second, then in two, and so on up to ten minutes, until a day after it was due first; that it
// is given up is logged.
func NewLocal(ctx context.Context, deliver func(context.Context, Task) error, log *slog.Logger) *Local {
	ctx, stop := context.WithCancel(ctx)
	l := &Local{
		deliver: deliver, log: log, names: map[string]struct{}{},
		changed: make(chan struct{}, 1), stop: stop, stopped: make(chan struct{}),
	}
	go l.work(ctx)
	return l
}

// Enqueue adds t for the time at, unless the queue holds a task of its name.
//
// The error is [ErrFull], or wraps [ErrInvalid].
func (l *Local) Enqueue(_ context.Context, t Task, at time.Time) error {
	if err := t.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.names[t.Name()]; known {
		return nil
	}
	if l.ended || len(l.names) >= maxWaiting {
		return ErrFull
	}
	l.names[t.Name()] = struct{}{}
	heap.Push(&l.waiting, &entry{task: t, at: at, until: time.Now().Add(max(time.Until(at), 0) + lifetime)})
	l.wake()
	return nil
}

// Close ends the deliveries under way, drops the tasks that wait, and returns once
// nothing of the queue runs.
//
// deliver must return soon after its context has ended, or Close does not. It may be called
// twice.
func (l *Local) Close() {
	l.stop()
	<-l.stopped
}

// wake has work look again. It never blocks: one look sees all changes.
func (l *Local) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// work delivers what is due until ctx ends.
func (l *Local) work(ctx context.Context) {
	defer close(l.stopped)
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, wait := l.due(time.Now())
		for _, e := range due {
			deliveries.Go(func() { l.attempt(ctx, e) })
		}
		timer.Reset(wait)
		select {
		// end comes before the deliveries are waited for: one that fails from here on is not
		// queued again.
		case <-ctx.Done():
			l.end()
			return
		case <-timer.C:
		case <-l.changed:
		}
	}
}

// due takes the tasks that are due and have room to be worked on, and returns how long
// there will be no other.
func (l *Local) due(now time.Time) (due []*entry, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 && l.working < maxWorking {
		if wait := l.waiting[0].at.Sub(now); wait > 0 {
			return due, wait
		}
		l.working++
		due = append(due, heap.Pop(&l.waiting).(*entry))
	}
	return due, time.Hour // until something changes
}

// attempt delivers a task once, and puts it back unless it is done, given up, or the queue has
// ended.
func (l *Local) attempt(ctx context.Context, e *entry) {
	err := rescue.Call(func() error { return l.deliver(ctx, e.task) })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working--
	l.wake()
	e.tries++
	// The shift is bounded first: 1 s << 20 is 12 days, and a shift past 33 would overflow a
	// Duration.
	pause := min(firstPause<<min(e.tries-1, 20), maxPause)
	next := time.Now().Add(pause)
	if err == nil || l.ended || next.After(e.until) {
		delete(l.names, e.task.Name())
		if err != nil && !l.ended {
			l.log.WarnContext(ctx, "A task was given up.", "kind", string(e.task.Kind), "tries", e.tries, "error", err.Error())
		}
		return
	}
	e.at = next
	heap.Push(&l.waiting, e)
}

func (l *Local) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if n := len(l.waiting); n > 0 {
		l.log.Info("Tasks of the local queue end with the process.", "tasks", n)
	}
	l.waiting = nil
}

// An entry is a task and when it is due.
type entry struct {
	task  Task
	at    time.Time
	until time.Time
	tries int
}

// A schedule is a heap of entries, the next one first.
type schedule []*entry

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(e any)        { *s = append(*s, e.(*entry)) }
func (s *schedule) Pop() any {
	old := *s
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	return e
}
