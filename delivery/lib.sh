# shellcheck shell=bash
# shellcheck disable=SC2034 # the steps use the settings
# What the steps of the delivery have in common: their settings, how they say
# what they do, and the few questions they ask of Cloud Run. Each step sources
# this file with its own arguments; the only one they take is --dry-run, which
# prints the commands that change or ask anything and calls none of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The settings, all from the environment; cloudbuild.yaml sets each from the
# substitution of the same name.
project=${PROJECT:-${PROJECT_ID:-}}
region=${REGION:-us-central1}
repository=${REPOSITORY:-gatehouse}
invoke_service=${INVOKE_SERVICE:-invoke}
health_service=${HEALTH_SERVICE:-health}
watch_seconds=${WATCH_SECONDS:-600}
smoke_account=${SMOKE_ACCOUNT:-} # whom the smoke test calls as; invoke instead by
smoke_key_secret=${SMOKE_KEY_SECRET:-} # an API key, where the secret of this name holds one
state_bucket=${STATE_BUCKET:-}
var_file=${VAR_FILE:-} # what the deployment sets; empty: environments/PROJECT.tfvars
cache_bucket=${CACHE_BUCKET:-}
state=${DELIVERY_STATE:-.delivery} # what one step leaves for the next

dry_run=false
case ${1:-} in
  "") ;;
  --dry-run) dry_run=true ;;
  *) printf 'usage: %s [--dry-run]\n' "$0" >&2; exit 64 ;;
esac

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }
fail() { say "$*"; exit 1; }

# run does what changes something; ask does what only looks, and gives an
# invented answer, its first argument, in a dry run.
run() {
  if $dry_run; then printf '+ %s\n' "${*@Q}" >&2; else "$@"; fi
}
ask() {
  local invented=$1
  shift
  if $dry_run; then
    printf '+ %s\n' "${*@Q}" >&2
    printf '%s\n' "$invented"
  else
    "$@"
  fi
}

# need stops the step when a setting is missing.
need() {
  local name
  for name in "$@"; do
    if [ -z "${!name}" ]; then
      if $dry_run; then printf -v "$name" '%s' "${name^^}"; else fail "set ${name^^} in the environment"; fi
    fi
  done
}

# keep and kept are the memory between steps. A dry run keeps nothing, and finds
# what it invents.
keep() { $dry_run || { mkdir -p "$state" && printf '%s\n' "$2" >"$state/$1"; }; }
kept() {
  if [ -s "$state/$1" ] && ! $dry_run; then cat "$state/$1"; elif $dry_run; then printf '%s\n' "$2"; else fail "$state/$1 is missing: run delivery/$3 first"; fi
}

# tool is where a program of this repository is, built if need be.
tool() {
  if ! $dry_run && [ ! -x "$state/bin/${1##*/}" ]; then
    mkdir -p "$state/bin"
    CGO_ENABLED=0 go build -o "$state/bin/${1##*/}" "./$1"
  fi
  printf '%s\n' "$state/bin/${1##*/}"
}

# commit is the source's, in twelve digits.
commit() {
  if [ -n "${COMMIT_SHA:-}" ]; then printf '%s\n' "${COMMIT_SHA:0:12}"; else git rev-parse --short=12 HEAD; fi
}

# image_of_commit is where the image of this commit is found by its tag. Terraform
# is told it for services that are not there yet; after that a delivery alone
# says, by a digest, which image serves.
image_of_commit() { printf '%s\n' "$region-docker.pkg.dev/$project/$repository/gatehouse:$(commit)"; }

# terraform_with runs a command of Terraform's with all that this deployment
# sets. Without its file every variable would fall back to its default.
terraform_with() {
  local command=$1 file=${var_file:-environments/$project.tfvars}
  shift
  if ! $dry_run && [ ! -f "$file" ]; then
    fail "$file is missing: commit what the deployment sets as that file, or name another (delivery.var_file in terraform/, VAR_FILE here)"
  fi
  run terraform -chdir=terraform init -input=false -backend-config "bucket=$state_bucket" || return 1
  run terraform -chdir=terraform "$command" -input=false "$@" \
    -var-file "../$file" -var "project_id=$project" -var "region=$region" -var "image=$(image_of_commit)"
}

# service_of is the Cloud Run service of a function.
service_of() { case $1 in invoke) printf '%s\n' "$invoke_service" ;; health) printf '%s\n' "$health_service" ;; esac; }

# traffic lists the revisions of a service that have traffic, as
# "revision percent", sorted.
traffic() {
  ask "$1-old 100" gcloud run services describe "$1" --project "$project" --region "$region" \
    --flatten 'status.traffic[]' --format 'value(status.traffic.revisionName,status.traffic.percent)' |
    awk '$2 > 0 { sum[$1] += $2 } END { for (r in sum) print r, sum[r] }' | sort
}

# oldest is the one of the revisions named that was made first. A delivery moves
# traffic from an older revision to a newer one, so of those that share it, this
# is the one that was trusted before.
oldest() {
  local revision
  for revision in "$@"; do
    printf '%s %s\n' "$(gcloud run revisions describe "$revision" --project "$project" --region "$region" \
      --format 'value(metadata.creationTimestamp)')" "$revision"
  done | sort | awk 'NR == 1 { print $2 }'
}

# send sets a service's traffic, as "revision=percent,…".
send() {
  run gcloud run services update-traffic "$1" --project "$project" --region "$region" --to-revisions "$2" --quiet >&2
}

# smoke calls the revisions under test by the URLs of their tag.
smoke() {
  local program
  program=$(tool cmd/smoke)
  local args=(-invoke "$1" -health "$2")
  if [ -n "$smoke_key_secret" ]; then
    GATEHOUSE_API_KEY=$(ask KEY gcloud secrets versions access latest --secret "$smoke_key_secret" --project "$project")
    export GATEHOUSE_API_KEY
  else
    need smoke_account
  fi
  # With a key too: health stands behind Cloud Run's own check.
  [ -z "$smoke_account" ] || args+=(-impersonate "$smoke_account")
  run "$program" "${args[@]}" >&2
}
