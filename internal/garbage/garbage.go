// Package garbage decides when the Go runtime collects garbage.
package garbage

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// Room is what a deployed process has, in bytes: a quarter of the smallest instance.
const Room = 128 << 20

// CollectAbove has garbage collected when the process takes room bytes, or twice what is in
// use, whichever is more. Go's own rule is the latter alone, by which a process with little in
// use collects every few megabytes, many times a second under load.
//
// It sets a memory limit and no GOGC, which Go documents for that
// (https://go.dev/doc/gc-guide#Memory_limit), while twice what is in use is below room, and
// else Go's own rule. After each collection it looks at what is in use. GOMEMLIMIT holds as
// before, and room is at most a third of it. A process with another GOGC than 100 keeps
// that.
//
// The rule is the program's; to be called at most once.
func CollectAbove(room int64) {
	c := &collector{limit: debug.SetMemoryLimit(-1)}
	c.room = min(room, c.limit/3)
	for i, name := range figures {
		c.samples[i].Name = name
	}
	metrics.Read(c.samples[:])
	if c.of(percent) != 100 {
		return
	}
	given.Store(c.limit)
	c.collected(struct{}{})
}

// given is GOMEMLIMIT once the program has a rule of this package, else 0.
var given atomic.Int64

// MemoryLimit returns GOMEMLIMIT in bytes, [math.MaxInt64] where it is not set. The limit that
// [debug.SetMemoryLimit] returns is this package's while little is in use.
func MemoryLimit() int64 { return cmp.Or(given.Load(), debug.SetMemoryLimit(-1)) }

// The figures of the runtime that are read, in this order.
const (
	percent = iota
	live
	stacks
	globals
	total
	released
	free
	objects
)

var figures = [...]string{
	percent: "/gc/gogc:percent", live: "/gc/heap/live:bytes", stacks: "/gc/scan/stack:bytes", globals: "/gc/scan/globals:bytes",
	total: "/memory/classes/total:bytes", released: "/memory/classes/heap/released:bytes", free: "/memory/classes/heap/free:bytes", objects: "/memory/classes/heap/objects:bytes",
}

// A collector sets Go's rules. After its first call of collected, only the runtime calls it,
// one call at a time.
type collector struct {
	room, limit int64
	samples     [len(figures)]metrics.Sample
}

// of returns a figure as it was last read.
func (c *collector) of(i int) int64 { return int64(c.samples[i].Value.Uint64()) }

// collected chooses the rule for the next collection, and has itself called after that.
func (c *collector) collected(struct{}) {
	metrics.Read(c.samples[:])
	// The heap at the next collection, by Go's own rule and by the limit of room, which counts
	// what is not the heap, too.
	usual := 2*c.of(live) + c.of(stacks) + c.of(globals)
	within := c.room - (c.of(total) - c.of(released) - c.of(free) - c.of(objects))
	if own := c.of(percent) == 100; usual < within && own {
		debug.SetMemoryLimit(c.room)
		debug.SetGCPercent(-1)
	} else if usual >= within && !own {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(c.limit)
	}
	next := new([64]byte) // of no use to anyone, so that the next collection finds it
	runtime.AddCleanup(next, c.collected, struct{}{})
}
