# Shared by the scripts: installs or names what is missing, builds, installs the extension.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# How to become root, if at all.
if [ "$(id -u)" = 0 ]; then as_root=()
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root=(sudo)
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then as_root=(sudo)
else as_root=(no-root)
fi
can_be_root() { [ "${as_root[0]:-}" != no-root ]; }

# PG_CONFIG chooses the server; otherwise the newest installed one that has headers.
find_pg_config() {
  if [ -n "${PG_CONFIG:-}" ]; then printf '%s\n' "$PG_CONFIG"; return; fi
  local candidate
  for candidate in $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -t/ -k5 -rn); do
    if [ -f "$("$candidate" --includedir-server)/postgres.h" ] && [ -x "$(dirname "$candidate")/postgres" ]; then
      printf '%s\n' "$candidate"; return
    fi
  done
}

need_packages() {
  local missing=() package
  for package in postgresql-15 postgresql-server-dev-15 gcc make libkrb5-dev libssl-dev; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  PG_CONFIG=$(find_pg_config)
  # Any server with its headers will do; the packages are only how Debian gets one.
  if [ -n "$PG_CONFIG" ] && command -v gcc >/dev/null && command -v make >/dev/null && [ ${#missing[@]} -eq 0 ]; then return; fi
  if [ -n "${PG_CONFIG:-}" ] && ! command -v apt-get >/dev/null; then return; fi
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then die "install a PostgreSQL 13 to 18 server with its headers, gcc and make, or set PG_CONFIG"; fi
  can_be_root || die "these packages are missing; install them and run this again: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  # Keeps Debian from making and starting a server of its own at install.
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  PG_CONFIG=$(find_pg_config)
  [ -n "$PG_CONFIG" ] || die "no PostgreSQL server with headers was found after the installation; set PG_CONFIG"
}

need_node() {
  command -v node >/dev/null || die "Node.js 20 or newer is needed: install it from nodejs.org or your distribution, and run this again"
  [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] || die "Node.js 20 or newer is needed, this is $(node --version)"
  command -v npm >/dev/null || die "npm is needed beside Node.js (Debian: apt-get install npm), then run this again"
}

install_npm_packages() {
  # The lock file is the truth; a second run with the same one costs nothing.
  if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say "installing npm packages"
    npm ci --no-audit --no-fund --loglevel=error
  fi
}

build_all() {
  say "building"
  npm run -s build
  make -s PG_CONFIG="$PG_CONFIG" -C extension
}

# Into the server's own directories: the extension, the agent's bundle and the command.
install_all() {
  local dir; dir=$("$PG_CONFIG" --pkglibdir)
  if [ -f "$dir/pg_replica.so" ] &&
    [ "$(make -s PG_CONFIG="$PG_CONFIG" build-id)" = "$(make -s PG_CONFIG="$PG_CONFIG" installed-build-id)" ]; then return; fi
  say "installing the extension and the agent into $dir"
  if [ -w "$dir" ]; then make -s PG_CONFIG="$PG_CONFIG" install >/dev/null
  else
    can_be_root || die "this build is not installed in $dir, where this user may not write.
Run this as root, and then this script again:
  make -C '$PWD' install PG_CONFIG=$PG_CONFIG"
    "${as_root[@]}" make -s PG_CONFIG="$PG_CONFIG" install >/dev/null
  fi
}

# For what starts no server.
prepare_build() {
  need_packages
  need_node
  install_npm_packages
  build_all
  export PG_CONFIG
}

prepare_everything() {
  prepare_build
  install_all
}
