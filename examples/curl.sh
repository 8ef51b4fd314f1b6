#!/bin/sh
# Asks, goes on with the session, reads it, and deletes it: examples/curl.sh [URL]
# With a key: GATEHOUSE_API_KEY=… examples/curl.sh https://invoke-….run.app
set -eu
url=${1:-http://127.0.0.1:8080}
call() { curl -sS --fail-with-body -H 'Content-Type: application/json' ${GATEHOUSE_API_KEY:+-H "X-API-Key: $GATEHOUSE_API_KEY"} "$@"; }

answer=$(call "$url/invoke" -d '{"query": "My name is Ada. What can you do?"}')
echo "$answer"
session=$(printf '%s' "$answer" | sed -n 's/.*"session_id":"\([^"]*\)".*/\1/p')

# The same session, as a stream of events.
call -N "$url/invoke" -H 'Accept: text/event-stream' -d "{\"query\": \"What is my name?\", \"session_id\": \"$session\"}"

call "$url/sessions/$session"
call -X DELETE "$url/sessions/$session"
