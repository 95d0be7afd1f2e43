#!/usr/bin/env bash
# Everything that must be green: lint, format, types, C build without warnings, unit, simulator and integration tests.
# Installs what it needs (Debian packages when root or sudo, npm packages from the lock file).
#   scripts/test.sh            all of it
#   scripts/test.sh --unit     without the tests that start PostgreSQL servers
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" = --unit ]; then prepare_build; else prepare_everything; fi
say "lint, format, layers"
npm run -s lint
say "extension: clean build with warnings as errors"
make -s -C extension PG_CONFIG="$PG_CONFIG" clean
make -s -C extension PG_CONFIG="$PG_CONFIG" COPT=-Werror

tests() { find "build/test/$1" -name '*.test.js' | sort; }

say "unit and simulator tests"
mapfile -t files < <(tests unit)
node --test --enable-source-maps "${files[@]}"

if [ "${1:-}" != --unit ]; then
  say "integration tests (real PostgreSQL servers)"
  mapfile -t files < <(tests integration)
  node --test --enable-source-maps --test-concurrency=1 "${files[@]}"
fi
