package main

import (
	"slices"
	"time"
)

// Figures are what one run measured, by name, each in the unit of [metrics].
type Figures map[string]float64

// The figures.
const (
	throughput  = "throughput"
	p50         = "p50"
	p99         = "p99"
	cpu         = "CPU"
	allocated   = "allocated"
	peakMemory  = "peak memory"
	failures    = "errors"
	open        = "open at once"
	firstP50    = "first event, p50"
	firstP99    = "first event, p99"
	firstAnswer = "first answer"
	firstTurn   = "first turn"
	idleMemory  = "memory after the first turn"
	added       = "added to the model's time"
	firstTurns  = "p50 of turns 1 to 20"
	lastTurns   = "p50 of turns 181 to 200"
	firstCPU    = "CPU of turns 1 to 100"
	lastCPU     = "CPU of turns 101 to 200"
	grown       = "memory for the 200 turns"
)

// A metric is a figure as it is shown.
type metric struct {
	name, unit string
	decimals   int
	compare    comparison // beside the limit's
}

type comparison int

const (
	ratio      comparison = iota
	difference            // ours less the limit's
	itself                // only this project
)

// metrics are all figures, in the order they are shown.
var metrics = []metric{
	{throughput, "requests/s", 0, ratio},
	{p50, "ms", 3, ratio},
	{p99, "ms", 3, ratio},
	{failures, "", 0, itself},
	{open, "", 0, itself},
	{firstP50, "ms", 1, ratio},
	{firstP99, "ms", 1, ratio},
	{cpu, "ms a request", 3, ratio},
	{allocated, "KiB a request", 1, ratio},
	{peakMemory, "MiB", 1, ratio},
	{firstAnswer, "ms", 1, difference},
	{firstTurn, "ms", 1, difference},
	{idleMemory, "MiB", 1, ratio},
	{added, "ms", 2, itself},
	{firstTurns, "ms", 2, itself},
	{lastTurns, "ms", 2, itself},
	{firstCPU, "ms a turn", 2, itself},
	{lastCPU, "ms a turn", 2, itself},
	{grown, "MiB", 1, itself},
}

// with compares a figure with the limit's. It is false where the limit's is 0.
func (c comparison) with(limit, ours float64) (float64, bool) {
	switch c {
	case difference:
		return ours - limit, true
	case itself:
		return ours, true
	}
	if limit == 0 {
		return 0, false
	}
	return ours / limit, true
}

// A budget bounds a comparison.
type budget struct {
	text string
	met  func(float64) bool
}

func atLeast(n float64) budget {
	return budget{"≥ " + number(n), func(x float64) bool { return x >= n }}
}
func atMost(n float64) budget {
	return budget{"≤ " + number(n), func(x float64) bool { return x <= n }}
}

// percentile is the smallest of the sorted durations that p percent of them do
// not exceed; 0 without any.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*p+99)/100-1]
}

// median is the middle of values, or between the two in the middle; 0 without any.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mib(bytes int64) float64    { return float64(bytes) / (1 << 20) }
