#!/usr/bin/env bash
# What the Raft group costs by size: leader loss, commits, restart, log on disk, memory and messages. Needs no PostgreSQL.
#   bench/raft.sh [--json] [--nodes 3,5,7,9] [--rounds N] [--proposals N] [--docs] [--quick]
# Exit code 0: measured; 2: it could not be measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# The last line of standard output is the result.
{ need_node; install_npm_packages; npm run -s build; } >&2
# The bare appends need a thread a file; the nodes themselves keep Node's own number.
UV_THREADPOOL_SIZE=16 exec node build/bench/raft.js "$@"
