package breaker_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/breaker"
)

const cooldown = 10 * time.Second

// attempt asks b for a permit and ends the attempt with v; false: b kept it away.
func attempt(b *breaker.Breaker, v breaker.Verdict) bool {
	permit, refused := b.Allow()
	if refused == nil {
		permit.Done(v)
	}
	return refused == nil
}

// opened returns a breaker that three attempts have opened.
func opened(t *testing.T) *breaker.Breaker {
	t.Helper()
	b := breaker.New(breaker.Settings{Failures: 3, Cooldown: cooldown})
	for range 3 {
		if !attempt(b, breaker.Away) {
			t.Fatal("kept away before the third failure")
		}
	}
	if b.State() != breaker.Open {
		t.Fatalf("%s after three failures", b.State())
	}
	return b
}

func TestOnlyFailuresInARowOpenIt(t *testing.T) {
	t.Parallel()
	const away, answered, uncounted = breaker.Away, breaker.Answered, breaker.Uncounted
	for _, tt := range []struct {
		name string
		ends []breaker.Verdict
		want breaker.State
	}{
		{"two failures", []breaker.Verdict{away, away}, breaker.Closed},
		{"three failures", []breaker.Verdict{away, away, away}, breaker.Open},
		{"an answer between", []breaker.Verdict{away, away, answered, away, away}, breaker.Closed},
		{"nothing that counts between", []breaker.Verdict{away, away, uncounted, away}, breaker.Open},
		{"nothing that counts", []breaker.Verdict{uncounted, uncounted, uncounted, uncounted}, breaker.Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := breaker.New(breaker.Settings{Failures: 3, Cooldown: cooldown})
			for _, v := range tt.ends {
				attempt(b, v)
			}
			if b.State() != tt.want {
				t.Errorf("%s, want %s", b.State(), tt.want)
			}
		})
	}
}

func TestOneTrialAfterTheCooldownDecides(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  breaker.Verdict
		want breaker.State
	}{
		{"it answers", breaker.Answered, breaker.Closed},
		{"it fails", breaker.Away, breaker.Open},
		{"it means nothing: the next is a trial, too", breaker.Uncounted, breaker.HalfOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := opened(t)
				time.Sleep(cooldown - time.Second)
				if refused := b.Refuses(); refused == nil || refused.RetryAfter != time.Second {
					t.Errorf("a second before the cooldown's end: %v", refused)
				}
				time.Sleep(time.Second)
				trial, refused := b.Allow()
				if refused != nil {
					t.Fatal(refused)
				}
				if attempt(b, breaker.Answered) || b.Refuses() == nil {
					t.Error("a second attempt goes through beside the trial")
				}
				trial.Done(tt.end)
				if b.State() != tt.want {
					t.Errorf("%s, want %s", b.State(), tt.want)
				}
				if through := attempt(b, breaker.Answered); through != (tt.want != breaker.Open) {
					t.Errorf("the next attempt goes through: %t", through)
				}
			})
		})
	}
}

func TestATrialThatBeginsToAnswerLetsOthersIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := opened(t)
		time.Sleep(cooldown)
		trial, _ := b.Allow()
		trial.Begins()
		if !attempt(b, breaker.Answered) {
			t.Error("others wait for the trial's end")
		}
		trial.Done(breaker.Away)
		if b.State() != breaker.Closed {
			t.Errorf("a trial that ended twice counts twice: %s", b.State())
		}
	})
}

func TestATrialThatNeverEndsKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := opened(t)
		time.Sleep(cooldown)
		lost, _ := b.Allow()
		time.Sleep(time.Minute)
		if attempt(b, breaker.Answered) || b.State() != breaker.Open {
			t.Errorf("it has not failed: %s", b.State())
		}
		time.Sleep(cooldown)
		if !attempt(b, breaker.Answered) || b.State() != breaker.Closed {
			t.Errorf("the next trial does not close it: %s", b.State())
		}
		lost.Done(breaker.Away)
		if !attempt(b, breaker.Answered) {
			t.Error("the lost trial's end is heard")
		}
	})
}

func TestAnAttemptOfAnEarlierStateIsNotHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Settings{Failures: 1, Cooldown: cooldown})
		late, _ := b.Allow()
		attempt(b, breaker.Away)
		late.Done(breaker.Answered)
		if b.State() != breaker.Open {
			t.Errorf("an answer from before the failure closes it: %s", b.State())
		}
	})
}

func TestChangesAreReportedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var changes []string
		b = breaker.New(breaker.Settings{Failures: 1, Cooldown: cooldown, OnChange: func(s breaker.State) {
			changes = append(changes, s.String())
			if b.State() != s { // would hang if a lock were held
				t.Errorf("reported %s, is %s", s, b.State())
			}
		}})
		attempt(b, breaker.Away)
		time.Sleep(cooldown)
		attempt(b, breaker.Answered)
		if want := []string{"open", "half_open", "closed"}; !slices.Equal(changes, want) {
			t.Errorf("%q, want %q", changes, want)
		}
	})
}

func TestANilBreakerLetsEverythingThrough(t *testing.T) {
	t.Parallel()
	var b *breaker.Breaker
	for range 9 {
		if !attempt(b, breaker.Away) {
			t.Fatal("kept away")
		}
	}
	if b.Refuses() != nil || b.State() != breaker.Closed {
		t.Errorf("%v, %s", b.Refuses(), b.State())
	}
}

func TestNamesOfStates(t *testing.T) {
	t.Parallel()
	for _, s := range []breaker.State{breaker.Closed, breaker.HalfOpen, breaker.Open} {
		if got := breaker.Parse(s.String()); got != s {
			t.Errorf("%s reads as %s", s, got)
		}
	}
	if got := breaker.Parse("of another revision"); got != breaker.Closed {
		t.Errorf("an unknown one reads as %s", got)
	}
}

func TestARefusalHasItsReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := opened(t)
		_, open := b.Allow()
		time.Sleep(cooldown)
		_, _ = b.Allow()
		_, trial := b.Allow()
		var refused *breaker.RefusedError
		if !errors.As(trial, &refused) || open.Error() == trial.Error() || trial.RetryAfter != time.Second {
			t.Errorf("open: %v; beside a trial: %v, again in %v", open, trial, trial.RetryAfter)
		}
	})
}
