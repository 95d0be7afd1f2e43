#!/usr/bin/env bash
# A real three-node cluster on this machine, in a temporary folder, on free ports.
#   scripts/demo.sh              shows it live until Ctrl-C
#   scripts/demo.sh --failover   kills primaries, checks what must hold, prints the timeline, exits 0 only if all held
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prepare_everything
exec node dist/pg_replica.mjs demo --bindir "$("$PG_CONFIG" --bindir)" "$@"
