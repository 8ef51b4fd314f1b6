// Package version says which Gatehouse this is.
package version

// Version is the version of the code, by semantic versioning.
const Version = "0.1.0"
