#!/bin/sh
# The command pg_replica: runs the program that the server's agent is made of. Installed by make install.
exec "${PG_REPLICA_NODE:-node}" "@AGENT_DIR@/pg_replica.mjs" "$@"
