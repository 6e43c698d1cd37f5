# Where everything is; sourced by install.sh and uninstall.sh.
# shellcheck shell=bash disable=SC2034
SERVICE=mlc-edge
ROOT=

fail() {
  echo "error: $*" >&2
  exit 2
}

# Sets all places below ROOT, and asks for the rights to write there.
set_places() {
  if [ -n "$ROOT" ]; then
    mkdir -p "$ROOT"
    ROOT=$(cd "$ROOT" && pwd)
  elif [ "$(id -u)" != 0 ]; then
    fail "installing and uninstalling need root's rights: run this with sudo."
  fi
  PROGRAM=$ROOT/opt/mlc-edge
  COMMAND=$ROOT/usr/local/bin/mlc-edge
  SETTINGS=$ROOT/etc/mlc-edge
  STATE=$ROOT/var/lib/mlc-edge
  UNIT=$ROOT/etc/systemd/system/$SERVICE.service
  MEMORY_LIMIT=$UNIT.d/10-memory.conf
}

# A system of its own below ROOT has no users and services to care for.
is_system() { [ -z "$ROOT" ]; }

has_systemd() { is_system && [ -d /run/systemd/system ]; }
