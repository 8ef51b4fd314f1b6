//go:build !linux

package main

import (
	"errors"
	"time"
)

var errLinux = errors.New("the benchmark reads what processes cost from Linux's /proc: run it on Linux")

func raiseFiles(uint64) error               { return errLinux }
func cpuTime(int) (time.Duration, error)    { return 0, errLinux }
func memory(int) (now, peak int64, _ error) { return 0, 0, errLinux }
func proportional(int) (int64, error)       { return 0, errLinux }
func children(int) (int, error)             { return 0, errLinux }
func hardware(*Machine)                     {}
func loadAverage() float64                  { return 0 }
