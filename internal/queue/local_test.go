package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/queue"
)

// A worker keeps when each task was delivered, in seconds since the test began.
type worker struct {
	begun time.Time

	mu   sync.Mutex
	seen map[string][]int
}

func newWorker() *worker { return &worker{begun: time.Now(), seen: map[string][]int{}} }

func (w *worker) note(t queue.Task) (tries int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[t.Run] = append(w.seen[t.Run], int(time.Since(w.begun).Seconds()))
	return len(w.seen[t.Run])
}

func numbered(n int) queue.Task {
	return queue.Task{Kind: queue.Run, Owner: "o", Run: "r" + strconv.Itoa(n)}
}

func add(t *testing.T, q *queue.Local, task queue.Task, after time.Duration) {
	t.Helper()
	if err := q.Enqueue(t.Context(), task, time.Now().Add(after)); err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLocalDeliversWhenATaskIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker()
		q := queue.NewLocal(t.Context(), func(_ context.Context, task queue.Task) error { w.note(task); return nil }, quiet())
		defer q.Close()
		add(t, q, numbered(1), time.Minute)
		add(t, q, numbered(2), 0)
		add(t, q, numbered(2), 0) // the same task
		time.Sleep(time.Second)
		add(t, q, numbered(3), 9*time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		if diff := cmp.Diff(map[string][]int{"r1": {60}, "r2": {0}, "r3": {10}}, w.seen); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestLocalTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker()
		q := queue.NewLocal(t.Context(), func(_ context.Context, task queue.Task) error {
			switch w.note(task) {
			case 1:
				return errors.New("not now")
			case 2:
				panic("not now either")
			case 3, 4:
				return errors.New("not yet")
			}
			return nil
		}, quiet())
		defer q.Close()
		add(t, q, numbered(1), 0)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if diff := cmp.Diff(map[string][]int{"r1": {0, 1, 3, 7, 15}}, w.seen); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		add(t, q, numbered(1), 0) // it was done, so this is another
		synctest.Wait()
		if len(w.seen["r1"]) != 6 {
			t.Errorf("a task that was done cannot be added again: %v", w.seen)
		}
	})
}

func TestLocalGivesUpAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker()
		q := queue.NewLocal(t.Context(), func(_ context.Context, task queue.Task) error { w.note(task); return errors.New("never") }, quiet())
		defer q.Close()
		add(t, q, numbered(1), 0)
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		tries := w.seen["r1"]
		if last := tries[len(tries)-1]; last > 24*3600 || last < 23*3600 || len(tries) > 160 {
			t.Errorf("%d tries, the last after %d s", len(tries), last)
		}
		add(t, q, numbered(2), 72*time.Hour) // a day counts from when it is due
		time.Sleep(144 * time.Hour)
		synctest.Wait()
		if tries = w.seen["r2"]; len(tries) < 100 || tries[len(tries)-1]-tries[0] < 23*3600 {
			t.Errorf("%d tries of one for later", len(tries))
		}
	})
}

func TestLocalIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		working, most := 0, 0
		var mu sync.Mutex
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			working += n
			most = max(most, working)
		}
		q := queue.NewLocal(t.Context(), func(ctx context.Context, _ queue.Task) error {
			count(1)
			defer count(-1)
			time.Sleep(time.Second)
			return nil
		}, quiet())
		defer q.Close()
		for i := range 1000 {
			add(t, q, numbered(i), 0)
		}
		if err := q.Enqueue(t.Context(), numbered(1000), time.Now()); !errors.Is(err, queue.ErrFull) {
			t.Errorf("task 1001: %v", err)
		}
		if err := q.Enqueue(t.Context(), queue.Task{}, time.Now()); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("no task: %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if most != 16 {
			t.Errorf("%d at once, want 16", most)
		}
		add(t, q, numbered(1000), 0) // there is room again
	})
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		q := queue.NewLocal(t.Context(), func(ctx context.Context, _ queue.Task) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		}, quiet())
		add(t, q, numbered(1), 0)
		add(t, q, numbered(2), time.Hour)
		synctest.Wait()
		q.Close()
		if !ended {
			t.Error("Close returned before a delivery had ended")
		}
		if err := q.Enqueue(t.Context(), numbered(3), time.Now()); !errors.Is(err, queue.ErrFull) {
			t.Errorf("after Close: %v", err)
		}
		q.Close()
	})
}
