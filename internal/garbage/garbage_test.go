package garbage_test

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"example.com/gatehouse/internal/garbage"
)

const mib = 1 << 20

// TestCollectAbove is one test because the rule is the process's.
func TestCollectAbove(t *testing.T) {
	before, limit := collections(100*mib), garbage.MemoryLimit()
	garbage.CollectAbove(64 * mib)
	if n := collections(100 * mib); n > before/3 || n == 0 {
		t.Errorf("with little in use, %d collections of 100 MiB of garbage, %d by Go's own rule", n, before)
	}

	inUse := make([]byte, 60*mib)
	want(t, "60 MiB in use", "GOGC=100", func() bool { return percent() == 100 })
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("with 60 MiB in use, the memory limit is %d bytes, want the %d of before", got, limit)
	}
	runtime.KeepAlive(inUse)

	if got := garbage.MemoryLimit(); got != limit {
		t.Errorf("MemoryLimit() = %d, want the %d of before", got, limit)
	}
	want(t, "little in use again", "no GOGC", func() bool { return percent() != 100 })
	if n := collections(100 * mib); n > before/3 || n == 0 {
		t.Errorf("with little in use again, %d collections of 100 MiB of garbage, %d by Go's own rule", n, before)
	}
}

// want collects garbage until the rule is chosen. One collection may not be enough: the
// runtime has the rule chosen afterwards, and what that makes for the next time may be too
// young for a collection that has begun by then.
func want(t *testing.T, with, rule string, ok func() bool) {
	t.Helper()
	for range 1000 {
		runtime.GC()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("with %s the rule is GOGC=%d, want %s", with, percent(), rule)
}

func percent() int64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

var sink []byte

// collections returns how often garbage is collected while n bytes of it are made.
func collections(n int) int {
	runtime.GC()
	var begin, end runtime.MemStats
	runtime.ReadMemStats(&begin)
	for range n / 1024 {
		sink = make([]byte, 1024)
	}
	runtime.ReadMemStats(&end)
	return int(end.NumGC - begin.NumGC)
}
