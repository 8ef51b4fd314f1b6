//go:build race

package e2e_test

// raceDetector is set if the tests run with the race detector, so that the programs
// they start are built with it too.
const raceDetector = true
