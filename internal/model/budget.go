package model

import "sync/atomic"

// A budget bounds the retries of the process, so that a storm of failures adds
// at most a fifth to the load and cannot keep the model down by itself. Every
// call pays in a fifth of a retry. It is full at first: a fresh process can
// retry, too. It is safe for concurrent use, and its zero value is empty.
type budget struct{ fifths atomic.Int64 }

const (
	fifthsOfRetry = 5
	maxRetries    = 10 // saved up at most
)

func (b *budget) fill() { b.fifths.Store(maxRetries * fifthsOfRetry) }

// call pays in for one call.
func (b *budget) call() {
	for {
		had := b.fifths.Load()
		if had >= maxRetries*fifthsOfRetry || b.fifths.CompareAndSwap(had, had+1) {
			return
		}
	}
}

// retry takes one retry out, if there is one.
func (b *budget) retry() bool {
	for {
		had := b.fifths.Load()
		if had < fifthsOfRetry {
			return false
		}
		if b.fifths.CompareAndSwap(had, had-fifthsOfRetry) {
			return true
		}
	}
}
