package main

import "fmt"

// A verdict is the result for a new revision, and the exit code.
type verdict int

const (
	good   verdict = 0
	harm   verdict = 3
	tooFew verdict = 4
	unread verdict = 5
)

// figures are what a revision did in a period.
type figures struct {
	requests float64
	refused  float64 // of requests: answered with 4xx
	failed   float64 // of requests: answered with 5xx
	p95      float64 // of the latency, in milliseconds; 0: not measured
}

func (f figures) String() string {
	return fmt.Sprintf("%.0f requests, %.1f %% failed, %.1f %% refused, p95 %.0f ms", f.requests, 100*f.rate(f.failed), 100*f.rate(f.refused), f.p95)
}

func (f figures) rate(of float64) float64 {
	if f.requests == 0 {
		return 0
	}
	return of / f.requests
}

// The thresholds of harm. Both revisions have the same callers and the same model at
// the same time, so a difference is due to the revision; the margins allow for chance.
const (
	minRequests = 50   // of the new revision, to judge it; of the old one, to compare latency
	minFailed   = 3    // fewer failures may be chance
	moreFailed  = 0.02 // fraction of requests, above the old revision's
	moreRefused = 0.20 // the same; callers cause refusals too, but not for one revision only
	slower      = 1.5  // times the old revision's p95,
	slowerBy    = 500  // and by this many milliseconds
)

// judge compares a new revision with the old one, and returns the reason for its
// verdict.
func judge(old, new figures) (verdict, string) {
	switch {
	// If most of a few requests fail, that is harm, for any number of requests.
	case new.failed >= minFailed && new.rate(new.failed) > max(0.5, old.rate(old.failed)+moreFailed):
		return harm, "most requests to the new revision fail"
	case new.requests < minRequests:
		return tooFew, fmt.Sprintf("%.0f requests are too few to judge by", new.requests)
	case new.failed >= minFailed && new.rate(new.failed) > old.rate(old.failed)+moreFailed:
		return harm, "the new revision fails more often than the old one"
	case new.rate(new.refused) > old.rate(old.refused)+moreRefused:
		return harm, "the new revision refuses what the old one does not"
	case old.requests >= minRequests && new.p95 > old.p95*slower && new.p95 > old.p95+slowerBy:
		return harm, "the new revision is slower than the old one"
	}
	return good, "the new revision does as well as the old one"
}
