// Package delivery holds the steps by which a commit reaches users: check,
// build, plan, deploy, smoke, promote. They are shell scripts, so that they run
// on a laptop as they do in cloudbuild.yaml, and --dry-run shows what each would
// do. apply is not among them: infrastructure changes by another account, after
// an approval. cmd/gate runs the last three for a deployment by hand, and writes
// all of them out for a repository that only imports this module.
//
// What is written in Go is what must think: watch, which compares two revisions,
// drift, which finds the cause of a difference in the infrastructure, and the
// tests, which run the steps against stand-ins for gcloud, Cloud Monitoring and
// the functions.
package delivery
