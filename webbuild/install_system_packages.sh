#!/bin/sh
# Installs the named tools with apt where they are missing: install_system_packages.sh emscripten chromium
set -eu

command_of() {
  case "$1" in
    dbus) echo dbus-daemon ;;
    emscripten) echo emcc ;;
    g++-aarch64-linux-gnu) echo aarch64-linux-gnu-g++ ;;
    g++-x86-64-linux-gnu) echo x86_64-linux-gnu-g++ ;;
    iproute2) echo ip ;;
    qemu-user-static) echo qemu-aarch64-static ;;
    systemd) echo systemd-run ;;
    webkit2gtk-driver) echo WebKitWebDriver ;;
    xvfb) echo Xvfb ;;
    *) echo "$1" ;;
  esac
}

is_there() {
  case "$1" in
    gir1.2-webkit2-4.1) ls /usr/lib/*/girepository-1.0/WebKit2-4.1.typelib >/dev/null 2>&1 ;;
    libvulkan-dev) [ -e /usr/include/vulkan/vk_layer.h ] ;;
    mesa-vulkan-drivers) ls /usr/share/vulkan/icd.d/lvp_icd* >/dev/null 2>&1 ;;
    # For the system's own Python.
    python3-gi) /usr/bin/python3 -c 'import gi' >/dev/null 2>&1 ;;
    *) command -v "$(command_of "$1")" >/dev/null 2>&1 ;;
  esac
}

packages_of() {
  case "$1" in
    # A headless machine may have no font at all.
    chromium) echo chromium fonts-liberation ;;
    # Under this name for other machines only.
    g++-"$(uname -m | tr _ -)"-linux-gnu) echo g++ ;;
    *) echo "$1" ;;
  esac
}

missing=""
for package in "$@"; do
  is_there "$package" || missing="$missing $(packages_of "$package")"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "error: missing:$missing. Install them with your system's package manager and run this again." >&2
  exit 2
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
