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
		granted, leased, err := c.Lease(t.Context(), name, want, 10, expires)
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

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := newClock()
	c := limit.NewMemory(clock.Now)
	for i := range 1<<16 + 1 {
		if _, _, err := c.Lease(t.Context(), fmt.Sprint(i), 1, 10, start.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int64{"0": 0, "1": 1} {
		if _, leased, _ := c.Lease(t.Context(), name, 0, 10, start); leased != want {
			t.Errorf("counter %s: %d leased, not %d", name, leased, want)
		}
	}
}
