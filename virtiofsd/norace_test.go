//go:build !race

package main

// raceDetector says that the test program has the race detector in it.
const raceDetector = false
