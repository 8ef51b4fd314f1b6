// Package version holds the version of the code.
package version

// Version is the version by Semantic Versioning. It is the newest one in
// CHANGELOG.md, which a test checks.
const Version = "0.2.0"
