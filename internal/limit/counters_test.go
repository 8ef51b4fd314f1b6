package limit_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := limit.NewMemory(clock.Now)
	seq := int64(0)
	lease := func(name, instance string, want, wantHeld, wantCharged int64) {
		t.Helper()
		seq++
		a, err := c.Update(t.Context(), name, limit.Update{
			Instance: instance, Seq: seq, At: clock.Now(), Expires: start.Add(time.Minute), PerDay: 10, Want: want,
		})
		if held := a.Shares[instance].Held; err != nil || held != wantHeld || a.Charged() != wantCharged {
			t.Errorf("%d held, %d charged, error %v; want %d, %d", held, a.Charged(), err, wantHeld, wantCharged)
		}
	}
	lease("a", "one", 7, 7, 7)
	lease("a", "two", 7, 3, 10)
	lease("a", "three", 7, 0, 10)
	lease("b", "one", 20, 10, 10)
	lease("a", "one", 3, 3, 6) // returns 4
	lease("a", "three", 7, 4, 10)
	if a, err := c.Look(t.Context(), "a"); err != nil || a.Charged() != 10 {
		t.Errorf("a look: %+v, %v", a, err)
	}
	if a, err := c.Look(t.Context(), "unknown"); err != nil || a.Charged() != 0 {
		t.Errorf("a look at nothing: %+v, %v", a, err)
	}
	clock.Advance(time.Minute)
	lease("a", "four", 1, 1, 1)
}

func TestShare(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ want, least, left, share int64 }{
		"there is plenty":                      {100, 10, 600, 100},
		"half of what is left":                 {200, 10, 300, 150},
		"whole multiples of what is needed":    {200, 10, 250, 120},
		"what is needed, beyond half":          {200, 100, 150, 100},
		"the last":                             {200, 100, 70, 70},
		"a need that is all that is wanted":    {200, 200, 250, 200},
		"nothing left":                         {200, 100, 0, 0},
		"more leased than a limit that shrank": {200, 100, -50, 0},
		"no least part":                        {100, 0, 50, 25},
		"a look":                               {0, 0, 100, 0},
	} {
		if got := limit.Share(tt.want, tt.least, tt.left); got != tt.share {
			t.Errorf("%s: %d, want %d", name, got, tt.share)
		}
	}
}

// Instances that serve a caller evenly use nearly all of the limit before one of them
// is refused.
func TestEvenLoadIsNotRefusedEarly(t *testing.T) {
	t.Parallel()
	const most = 600
	for count := 1; count <= 8; count++ {
		clock := testclock.New(start)
		shared := limit.NewMemory(clock.Now)
		all := make([]*limit.Limiter, count)
		for i := range all {
			all[i] = newLimiter(shared, clock, 10)
		}
		for minute := range 3 {
			through := 0
			for ; through <= most; through++ {
				if _, err := all[through%count].Take(t.Context(), []limit.Rule{{Name: "caller", Who: "c", PerMinute: most}}, limit.Turn); err != nil {
					break
				}
			}
			if through > most || through < most*2/3 {
				t.Errorf("%d instances, minute %d: the first refusal after %d of %d", count, minute, through, most)
			}
			t.Logf("%d instances, minute %d: %d", count, minute, through)
			clock.Advance(time.Minute)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := limit.NewMemory(clock.Now)
	u := limit.Update{Instance: "i", Seq: 1, At: start, Expires: start.Add(time.Minute), PerDay: 10, Want: 1}
	for i := range 1<<16 + 1 {
		if _, err := c.Update(t.Context(), fmt.Sprint(i), u); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int64{"0": 0, "1": 1} {
		if a, _ := c.Look(t.Context(), name); a.Charged() != want {
			t.Errorf("account %s: %d charged, not %d", name, a.Charged(), want)
		}
	}
}
