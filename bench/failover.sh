#!/usr/bin/env bash
# Time from a fault to the first acknowledged write of a client, beside what bare PostgreSQL needs in the same run.
#   bench/failover.sh [--json] [--rounds N] [--cause postmaster|host|switchover|all]
# Exit code 0: every floor held; 1: one did not; 2: it could not be measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# The last line of standard output is the result.
prepare_everything >&2
exec node build/bench/failover.js --bindir "$("$PG_CONFIG" --bindir)" "$@"
