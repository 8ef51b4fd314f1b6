package model

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// In any order of calls and retries, the retries stay a fifth of the
// calls, but for those that a fresh process may make.
func TestTheBudgetHoldsInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b budget
		b.fill()
		calls, retries := 0, 0
		for i, isCall := range rapid.SliceOfN(rapid.Bool(), 0, 500).Draw(t, "calls") {
			if isCall {
				calls++
				b.call()
			} else if b.retry() {
				retries++
			}
			if retries > maxRetries+calls/fifthsOfRetry {
				t.Fatalf("after %d steps: %d retries for %d calls", i+1, retries, calls)
			}
		}
	})
}

// Also over any stretch of time, however long the process was idle or well.
func TestTheBudgetSavesUpNoMoreThanAFreshOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b budget
		b.fill()
		for range rapid.IntRange(0, 1000).Draw(t, "retries wanted before") {
			b.retry()
		}
		for range rapid.IntRange(0, 10_000).Draw(t, "calls that went well") {
			b.call()
		}
		calls, retries := rapid.IntRange(0, 1000).Draw(t, "calls that fail"), 0
		for range calls {
			b.call()
			for b.retry() {
				retries++
			}
		}
		if retries > maxRetries+calls/fifthsOfRetry+1 {
			t.Fatalf("%d retries for %d calls", retries, calls)
		}
	})
}

func TestTheBudgetHoldsForCallsAtOnce(t *testing.T) {
	t.Parallel()
	var b budget
	b.fill()
	const calls = 10_000
	var retries atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range calls / 8 {
				b.call()
				for b.retry() {
					retries.Add(1)
				}
			}
		})
	}
	group.Wait()
	// The first call of each goroutine pays into a budget that may be full: 8 fifths at most.
	if n, most := retries.Load(), int64(maxRetries+calls/fifthsOfRetry); n > most || n < most-2 {
		t.Errorf("%d retries for %d calls, want %d", n, calls, most)
	}
}

func TestAnEmptyBudgetGivesNothing(t *testing.T) {
	t.Parallel()
	var b budget
	if b.retry() {
		t.Error("a retry out of nothing")
	}
}
