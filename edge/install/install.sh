#!/usr/bin/env bash
# Install the daemon on a device, with no network. Run it again to bring a newer version or another model.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
# shellcheck source=edge/install/common.sh
source "$HERE/common.sh"

usage() {
  cat <<'TEXT'
Usage: sudo install.sh [--root DIR] WHEELS BUNDLE

WHEELS is the folder that collect-wheels.sh filled on a PC, BUNDLE what `mlc-edge build` wrote.
--root DIR installs below DIR, and leaves this system's users and services alone.
TEXT
}

read_arguments() {
  local words=()
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --root)
        [ -n "${2:-}" ] || fail "--root needs a folder."
        ROOT=$2
        shift
        ;;
      -*) fail "there is no option $1: see install.sh --help." ;;
      *) words+=("$1") ;;
    esac
    shift
  done
  [ ${#words[@]} = 2 ] || fail "expected WHEELS and BUNDLE: see install.sh --help."
  [ -d "${words[0]}" ] || fail "there is no folder of wheels ${words[0]}: make one with collect-wheels.sh."
  WHEELS=$(cd "${words[0]}" && pwd)
  BUNDLE=${words[1]}
}

check_given() {
  [ -f "$BUNDLE/mlc-lock.json" ] || fail "$BUNDLE is not a bundle (no mlc-lock.json): make one with mlc-edge build."
  local required='import sys; sys.exit(sys.version_info < (3, 10) or sys.maxsize < 2**32)'
  "$PYTHON" -c "$required" 2>/dev/null ||
    fail "$PYTHON is missing, older than 3.10, or of a 32-bit system: use a 64-bit system with a newer Python."
  PIP=$(one_wheel pip)
  WHEEL=$(one_wheel mlc_edge)
}

one_wheel() {
  local found
  found=$(find "$WHEELS" -maxdepth 1 -name "$1-*.whl")
  [ -f "$found" ] || fail "$WHEELS should hold one wheel $1-*.whl: empty it and run collect-wheels.sh again."
  echo "$found"
}

create_user() {
  is_system || return 0
  id "$SERVICE" >/dev/null 2>&1 || useradd --system --user-group --no-create-home \
    --home-dir "$STATE/home" --shell /usr/sbin/nologin "$SERVICE"
}

install_program() {
  local version='import sys; print(*sys.version_info[:2])' clear=()
  if [ -d "$PROGRAM" ] && [ "$("$PROGRAM/bin/python" -c "$version" 2>&1)" != "$("$PYTHON" -c "$version")" ]; then
    clear=(--clear)
  fi
  # Debian keeps what installs pip in a package that bare systems lack: pip runs from its wheel.
  "$PYTHON" -m venv --without-pip "${clear[@]}" "$PROGRAM"
  local pip=("$PROGRAM/bin/python" "$PIP/pip" --quiet --disable-pip-version-check install --no-index)
  "${pip[@]}" --no-deps --force-reinstall "$WHEEL"
  "${pip[@]}" --find-links "$WHEELS" --upgrade "${WHEEL}[edge]" ||
    fail "$WHEELS lacks wheels for this device: run collect-wheels.sh --python $("$PYTHON" -c "$version" | tr ' ' .)."
  # What collect-wheels.sh --vulkan brought: a library, which needs nothing of Python.
  find "$WHEELS" -maxdepth 1 -name 'wgpu-*.whl' -exec "${pip[@]}" --no-deps --ignore-requires-python {} +
  mkdir -p "$(dirname "$COMMAND")"
  ln -sfn "${PROGRAM#"$ROOT"}/bin/mlc-edge" "$COMMAND"
}

# Keeps what the owner wrote.
install_settings() {
  mkdir -p "$SETTINGS"
  [ -e "$SETTINGS/config.toml" ] || put 644 "$SETTINGS/config.toml" <"$(board_settings)"
  [ -e "$SETTINGS/keys" ] ||
    "$PYTHON" -c 'import secrets; print("sk-" + secrets.token_urlsafe(32))' | put 600 "$SETTINGS/keys"
  if is_system; then chown "$SERVICE:$SERVICE" "$SETTINGS/keys"; fi
}

board_settings() {
  local board=$ROOT/proc/device-tree/compatible
  case $([ ! -r "$board" ] || tr '\0' '\n' <"$board") in
    *raspberrypi,*) echo "$HERE/../raspberrypi/config.toml" ;;
    *nvidia,tegra*) echo "$HERE/../jetson/config.toml" ;;
    *) echo "$HERE/config.toml" ;;
  esac
}

# Writes standard input to a file that is there as a whole, or not at all.
put() {
  (umask 077 && cat >"$2.partial")
  chmod "$1" "$2.partial"
  mv "$2.partial" "$2"
}

install_unit() {
  mkdir -p "$(dirname "$UNIT")"
  put 644 "$UNIT" <"$HERE/mlc-edge.service"
  has_systemd || return 0
  # An image may be made on a machine of another size: there the unit's own limit holds.
  mkdir -p "$(dirname "$MEMORY_LIMIT")"
  put 644 "$MEMORY_LIMIT" < <(echo "[Service]" && echo "MemoryMax=$(memory_max)")
  systemctl daemon-reload
}

memory_max() {
  (cd / && "$PROGRAM/bin/python" -c 'from edge.hardware.device import memory_max, probe; print(memory_max(probe()))')
}

# Root writes models: nobody else may write to their folder, or exchange a part of its path. An owner's
# own links, such as to another disk, stay.
claim_models() {
  local folder
  for folder in "$STATE" "$STATE/models"; do
    [ ! -L "$folder" ] || continue
    mkdir -p "$folder"
    if is_system; then
      chown root:root "$folder"
      find "$folder" -maxdepth 1 -type l ! -user root -delete
    fi
    chmod 755 "$folder"
  done
}

# A daemon that runs is restarted by the update, and gets its old model back if it fails.
install_model() {
  local options=()
  has_systemd || options=(--no-restart)
  "$PROGRAM/bin/mlc-edge" update "$BUNDLE" --dir "$STATE/models" "${options[@]}"
}

start() {
  if has_systemd; then
    systemctl enable --quiet --now "$SERVICE" || fail "the daemon does not start: see journalctl -u $SERVICE."
    show_first_question
  elif is_system && command -v systemctl >/dev/null; then
    systemctl enable --quiet "$SERVICE"
    echo "Installed; the daemon starts with the system."
  else
    echo "Installed below ${ROOT:-/}."
  fi
}

show_first_question() {
  cat <<TEXT
Installed, and ready. Ask on this device (the key is in $SETTINGS/keys):

curl http://127.0.0.1:8000/v1/chat/completions -H "Authorization: Bearer \$(sudo cat $SETTINGS/keys)" \\
  -H 'Content-Type: application/json' -d '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'
TEXT
}

# The daemon's user reads the program and the models.
umask 022
read_arguments "$@"
set_places
check_given
create_user
install_program
install_settings
install_unit
claim_models
install_model
start
