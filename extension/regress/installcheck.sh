#!/bin/sh
# Runs the regression tests of the extension on a temporary server of its own: installcheck.sh PG_CONFIG PG_REGRESS TEST...
# PostgreSQL refuses to run as root; as root this runs as the user postgres (PGUSER_OS chooses another one).
set -eu
pg_config=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
bindir=$("$pg_config" --bindir)
pg_regress=$(dirname "$("$pg_config" --pgxs)")/../../src/test/regress/pg_regress
[ -x "$pg_regress" ] || { echo "pg_regress is not there: $pg_regress (install PostgreSQL's server development files)" >&2; exit 1; }
[ -f "$("$pg_config" --sharedir)/extension/pg_replica.control" ] || {
  echo "pg_replica is not installed in $("$pg_config" --pkglibdir): run make install first" >&2
  exit 1
}

work=$(mktemp -d "${TMPDIR:-/tmp}/pg_replica_regress_XXXXXX")
trap 'rm -rf "$work"' EXIT
# The tests may stand where that user can not read.
cp -R "$here/sql" "$here/expected" "$work/"
# The extension without its management: a managed server does not let itself be written to without a cluster.
cat >"$work/temp.conf" <<CONF
shared_preload_libraries = 'pg_replica'
pg_replica.enabled = off
CONF

as_user=
if [ "$(id -u)" -eq 0 ]; then
  user=${PGUSER_OS:-postgres}
  chown -R "$user" "$work"
  as_user="runuser -u $user --"
fi
status=0
(cd "$work" && $as_user "$pg_regress" --inputdir="$work" --outputdir="$work" --bindir="$bindir" \
  --temp-instance="$work/instance" --temp-config="$work/temp.conf" --no-locale "$@") || status=$?
if [ "$status" -ne 0 ] && [ -f "$work/regression.diffs" ]; then cat "$work/regression.diffs" >&2; fi
exit "$status"
