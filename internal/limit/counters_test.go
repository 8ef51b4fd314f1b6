package limit_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/gatehouse/internal/limit"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	clock := newClock()
	c := limit.NewMemory(clock.Now)
	expires := start.Add(time.Minute)
	lease := func(name string, want, wantGranted, wantLeased int64) {
		t.Helper()
		granted, leased, err := c.Lease(t.Context(), name, want, want, 10, expires)
		if err != nil || granted != wantGranted || leased != wantLeased {
			t.Errorf("%d granted, %d leased, error %v; want %d, %d", granted, leased, err, wantGranted, wantLeased)
		}
	}
	lease("a", 0, 0, 0)
	lease("a", 7, 7, 7)
	lease("a", 7, 3, 10)
	lease("a", 7, 0, 10)
	lease("b", 20, 10, 10)
	if err := c.Return(t.Context(), "a", 4); err != nil {
		t.Fatal(err)
	}
	lease("a", 0, 0, 6)
	lease("a", 7, 4, 10)
	if err := c.Return(t.Context(), "unknown", 4); err != nil {
		t.Fatal(err)
	}
	lease("unknown", 0, 0, 0)
	clock.advance(time.Minute)
	lease("a", 0, 0, 0)
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
		"a look":                               {0, 0, 100, 0},
	} {
		if got := limit.Share(tt.want, tt.least, tt.left); got != tt.share {
			t.Errorf("%s: %d, want %d", name, got, tt.share)
		}
	}
}

// Instances that share a caller evenly use nearly all of the limit before one of
// them is refused.
func TestEvenLoadIsNotRefusedEarly(t *testing.T) {
	t.Parallel()
	const most = 600
	for count := 1; count <= 8; count++ {
		clock := newClock()
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
			clock.advance(time.Minute)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := newClock()
	c := limit.NewMemory(clock.Now)
	for i := range 1<<16 + 1 {
		if _, _, err := c.Lease(t.Context(), fmt.Sprint(i), 1, 1, 10, start.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int64{"0": 0, "1": 1} {
		if _, leased, _ := c.Lease(t.Context(), name, 0, 0, 10, start); leased != want {
			t.Errorf("counter %s: %d leased, not %d", name, leased, want)
		}
	}
}
