#!/usr/bin/env bash
# Every suite that runs on the stack; called within it, with its environment.
set -euo pipefail
cd "$(dirname "$0")"

suite() {
  printf '\n\033[1m%s\033[0m\n' "$1"
  shift
  node --import tsx --test --test-concurrency=1 --test-timeout=600000 \
    --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=./policy/reporter.mjs --test-reporter-destination=stdout "$@"
}

suite "What hosted answers" stack/*.test.ts
suite "Replicate's official clients" replicate/*.test.ts
suite "Journeys" journeys/*.test.ts
suite "Photos" photos/*.test.ts
suite "Adversary" adversary/*.test.ts
suite "Faults" faults/*.test.ts chaos/*.test.ts mutants/*.test.ts policy/*.test.ts
suite "Lambda" lambda/*.test.ts

# Last, so that whatever requests may have changed of grants and policies shows.
printf '\n\033[1mDatabase\033[0m\n'
node --import tsx database/run.ts
