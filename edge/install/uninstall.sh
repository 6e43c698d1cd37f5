#!/usr/bin/env bash
# Remove the daemon from a device; settings and models stay unless --purge is given.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=edge/install/common.sh
source "$HERE/common.sh"
PURGE=

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) echo "Usage: sudo uninstall.sh [--purge] [--root DIR]" && exit 0 ;;
    --purge) PURGE=yes ;;
    --root)
      [ -n "${2:-}" ] || fail "--root needs a folder."
      ROOT=$2
      shift
      ;;
    *) fail "unexpected $1: see uninstall.sh --help." ;;
  esac
  shift
done
set_places

if has_systemd && [ -e "$UNIT" ]; then systemctl disable --quiet --now "$SERVICE"; fi
rm -f "$UNIT" "$MEMORY_LIMIT" "$COMMAND"
rmdir "$UNIT.d" 2>/dev/null || true  # the owner may have settings of their own there
if has_systemd; then systemctl daemon-reload; fi
rm -rf "$PROGRAM"
if [ -n "$PURGE" ]; then
  rm -rf "$SETTINGS" "$STATE"
  if is_system && id "$SERVICE" >/dev/null 2>&1; then userdel "$SERVICE"; fi
else
  echo "Kept: $SETTINGS and $STATE. Remove them with uninstall.sh --purge."
fi
