# shellcheck shell=bash
# shellcheck disable=SC2034 # the steps use the settings
# What the steps of the delivery have in common: their settings, how they report
# what they do, and the few questions they ask of Cloud Run. Each step sources
# this file with its own arguments; the only one they take is --dry-run, which
# prints the commands that change or ask anything and calls none of them.
#
# The scripts work on the repository REPOSITORY_DIR, which need not be the one
# that they are in: a module that imports Gatehouse is delivered by them too.
set -euo pipefail
steps=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "${REPOSITORY_DIR:-$steps/..}"

# The settings, all from the environment; cloudbuild.yaml sets each from the
# substitution of the same name.
project=${PROJECT:-${PROJECT_ID:-}}
region=${REGION:-us-central1}
repository=${REPOSITORY:-gatehouse}
# Without the default prefix, which is the repository's name, all names have it.
if [ "$repository" = gatehouse ]; then prefix=; else prefix=$repository-; fi
invoke_service=${INVOKE_SERVICE:-${prefix}invoke}
health_service=${HEALTH_SERVICE:-${prefix}health}
watch_seconds=${WATCH_SECONDS:-600}
smoke_account=${SMOKE_ACCOUNT:-} # whom the smoke test calls as; on a laptop, empty: whoever runs it; invoke instead by
smoke_key_secret=${SMOKE_KEY_SECRET:-} # an API key, where the secret of this name holds one
state_bucket=${STATE_BUCKET:-}
var_file=${VAR_FILE:-} # what the deployment sets; empty: environments/PROJECT.tfvars
root=${TERRAFORM_ROOT:-environments} # of Terraform
image_from=build # the step that keeps the image that Terraform is told
state=${DELIVERY_STATE:-.delivery} # what one step leaves for the next

dry_run=false
case ${1:-} in
  "") ;;
  --dry-run) dry_run=true ;;
  *) printf 'usage: %s [--dry-run]\n' "$0" >&2; exit 64 ;;
esac

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }
fail() { say "$*"; exit 1; }

# run does what changes something; ask does what only looks, and returns an
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

# tool is where a program of this repository is, built if it is missing or older than the
# source. Steps without Go use what an earlier step has built.
tool() {
  local program=$state/bin/${1##*/}
  if ! $dry_run && { [ ! -x "$program" ] || { stale "$program" && command -v go >/dev/null; }; }; then
    mkdir -p "$state/bin"
    CGO_ENABLED=0 go build -o "$program" "example.com/gatehouse/$1"
  fi
  printf '%s\n' "$program"
}

# stale reports whether Go source is newer than a file. A module that imports Gatehouse
# takes another version of it by its go.mod.
stale() {
  [ -n "$(find . -name '.?*' -prune -o \( -name '*.go' -o -name go.mod -o -name go.sum \) -newer "$1" -print | head -n 1)" ]
}

# commit is the source's, in twelve digits.
commit() {
  if [ -n "${COMMIT_SHA:-}" ]; then printf '%s\n' "${COMMIT_SHA:0:12}"; else git rev-parse --short=12 HEAD; fi
}

# go_version is the exact Go version that go.mod names: its toolchain line, or
# else its go line. By itself the buildpack takes the newest that it knows.
go_version() {
  local version
  version=$(sed -nE 's/^toolchain +go([^ ]+) *$/\1/p' go.mod)
  [ -n "$version" ] || version=$(sed -nE 's/^go +([^ ]+) *$/\1/p' go.mod)
  [[ $version =~ ^1\.[0-9]+\.[0-9]+$ ]] || fail "go.mod names no exact Go version (${version:-none}). Run: go get toolchain@go1.26.8"
  printf '%s\n' "$version"
}

# terraform_with runs a command of Terraform's with all that this deployment
# sets. Without its file every variable would fall back to its default.
terraform_with() {
  local command=$1 file=${var_file:-environments/$project.tfvars}
  shift
  if ! $dry_run && [ ! -f "$file" ]; then
    fail "$file is missing: commit what the deployment sets as that file, or name another (delivery.var_file in terraform/, VAR_FILE here)"
  fi
  run terraform -chdir="$root" init -input=false -backend-config "bucket=$state_bucket" -backend-config "prefix=$repository" || return 1
  run terraform -chdir="$root" "$command" -input=false "$@" -var "project_id=$project" -var "region=$region" -var "settings=../$file" \
    -var "image=$(kept image "$region-docker.pkg.dev/$project/$repository/gatehouse@sha256:0" "$image_from")"
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
  elif [ -n "${BUILD_ID:-}" ]; then
    need smoke_account # a build has no identity token of its own
  fi
  # With a key too: health stands behind Cloud Run's own check.
  [ -z "$smoke_account" ] || args+=(-impersonate "$smoke_account")
  run "$program" "${args[@]}" >&2
}
