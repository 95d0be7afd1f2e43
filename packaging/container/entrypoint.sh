#!/bin/sh
# Makes this node when its data directory is empty, then runs it. Needs an init above it (tini) that reaps processes.
#   PG_REPLICA_NODE_ID      name of the node (default: the host name)
#   PG_REPLICA_PEERS        name=host:7400,... of all nodes
#   PG_REPLICA_JOIN         host:7400 of a node to join; empty: this node makes the cluster
#   PG_REPLICA_HOST         how the others reach this node (default: the host name)
#   PG_REPLICA_SECRET_FILE  the cluster's secret, mode 0600, owned by this user
#   PG_REPLICA_PASSFILE     password file of the superuser, for the other nodes' servers
#   PG_REPLICA_PWFILE       file with the superuser's password, for the first node
set -eu
: "${PGDATA:?names the data directory}"
: "${PG_REPLICA_PEERS:?names all nodes: name=host:7400,...}"
: "${PG_REPLICA_SECRET_FILE:?names the file with the secret of the cluster}"
: "${PG_REPLICA_PASSFILE:?names the password file}"
host=${PG_REPLICA_HOST:-$(hostname)}
port=${PGPORT:-5432}

if [ ! -e "$PGDATA/PG_VERSION" ] && [ ! -e "$PGDATA/pg_replica/meta" ]; then
  set -- -D "$PGDATA" --node-id "${PG_REPLICA_NODE_ID:-$(hostname)}" --port "$port" --peers "$PG_REPLICA_PEERS" \
    --raft-port "${PG_REPLICA_RAFT_PORT:-7400}" --http-port "${PG_REPLICA_HTTP_PORT:-8008}" \
    --secret-file "$PG_REPLICA_SECRET_FILE" \
    --advertise-dsn "host=$host port=$port user=postgres dbname=postgres passfile=$PG_REPLICA_PASSFILE"
  if [ -n "${PG_REPLICA_SOCKETS:-}" ]; then set -- "$@" --set "unix_socket_directories=$PG_REPLICA_SOCKETS"; fi
  if [ -n "${PG_REPLICA_JOIN:-}" ]; then
    # The other node may not be up yet.
    until pg_replica join "$@" --from "$PG_REPLICA_JOIN"; do sleep 2; done
  else
    pg_replica init "$@" --pwfile "${PG_REPLICA_PWFILE:?names the file with the password of the superuser}"
  fi
fi
# Not postgres itself: when the server dies the container lives on, so that the agent can give its lease back.
exec pg_replica supervise -D "$PGDATA"
