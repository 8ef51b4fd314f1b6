//go:build race

package e2e_test

// raceDetector says that the tests look for data races, so the programs that
// they start are built to look for them too.
const raceDetector = true
