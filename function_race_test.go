//go:build race

package gatehouse_test

// raceDetector says that the tests look for data races, so the programs that
// they start are built to look for them too.
const raceDetector = true
