// Package delivery holds the steps that bring a commit to users: check, build, plan,
// deploy, smoke, promote. They are shell scripts, so that they run on a laptop as in
// cloudbuild.yaml, and --dry-run prints what each would do. apply is not one of them:
// another account changes the infrastructure, after an approval. cmd/gate runs the
// last three steps for a manual deployment, and writes all of them for a repository
// that imports this module.
//
// The parts with logic are in Go: watch compares two revisions, drift finds the cause
// of a difference in the infrastructure, and the tests run the steps against stand-ins
// for gcloud, Cloud Monitoring and the functions.
package delivery
