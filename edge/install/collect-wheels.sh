#!/usr/bin/env bash
# On a PC with a network: fill a folder with all that install.sh needs on a device without one.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROJECT=$HERE/../..
PC_PYTHON=${PC_PYTHON:-python3}
PYTHON_VERSION=3.11
ARCH=aarch64
VULKAN=
OUT=
# pip judges conditions on Python's version by the Python that it runs on itself, not by the device's:
# what the dependencies want for older ones is named here.
FOR_OLDER_PYTHONS=("exceptiongroup" "tomli>=2" "typing-extensions")

usage() {
  cat <<'TEXT'
Usage: collect-wheels.sh [--python VERSION] [--arch aarch64|x86_64] [--vulkan] OUT

VERSION is the device's Python: 3.11 (Raspberry Pi OS 12, the default), 3.13 (Raspberry Pi OS 13),
3.10 (JetPack 6), 3.12 (JetPack 7). --vulkan: what a GPU needs, too. Copy OUT to the device, and run OUT/install/install.sh there.
TEXT
}

fail() {
  echo "error: $*" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --python) PYTHON_VERSION=${2:?--python needs a version} && shift ;;
    --arch) ARCH=${2:?--arch needs a name} && shift ;;
    --vulkan) VULKAN=yes ;;
    -*) fail "there is no option $1: see collect-wheels.sh --help." ;;
    *) OUT=$1 ;;
  esac
  shift
done
[ -n "$OUT" ] || fail "expected the folder to fill: see collect-wheels.sh --help."
[ -f "$PROJECT/web/static/index.html" ] || fail "the chat page is not built: run make setup."
[ -z "$VULKAN" ] || [ -n "$(find "$PROJECT/mlc_edge/vulkan/shipped" -name "plugin-$ARCH-*.so" 2>/dev/null)" ] ||
  fail "the plugin for Vulkan is not compiled: run make vulkan-plugins."

PIP=("$PC_PYTHON" -m pip --disable-pip-version-check)
rm -rf "$OUT/wheels" "$OUT/install" "$OUT/raspberrypi" "$OUT/jetson"
mkdir -p "$OUT/wheels" "$OUT/raspberrypi" "$OUT/jetson"
"${PIP[@]}" wheel --quiet --no-deps --wheel-dir "$OUT/wheels" "$PROJECT"
PLATFORMS=()
for name in manylinux_2_28 manylinux_2_17 manylinux2014; do PLATFORMS+=(--platform "${name}_$ARCH"); done
"${PIP[@]}" download --quiet --only-binary=:all: "${PLATFORMS[@]}" --implementation cp \
  --python-version "$PYTHON_VERSION" --dest "$OUT/wheels" --find-links "$OUT/wheels" \
  "$(echo "$OUT"/wheels/mlc_edge-*.whl)[edge]" pip "${FOR_OLDER_PYTHONS[@]}"
if [ -n "$VULKAN" ]; then
  # It runs with any Python, though its metadata refuses JetPack 6's.
  "${PIP[@]}" download --quiet --only-binary=:all: "${PLATFORMS[@]}" --no-deps --ignore-requires-python \
    --dest "$OUT/wheels" "$(grep -o 'wgpu==[0-9.]*' "$PROJECT/pyproject.toml")"
fi
cp -r "$HERE" "$OUT/install"
cp "$HERE/../raspberrypi/config.toml" "$OUT/raspberrypi/"
cp "$HERE/../jetson/config.toml" "$OUT/jetson/"
echo "Copy $OUT and a bundle to the device, then: sudo $(basename "$OUT")/install/install.sh $(basename "$OUT")/wheels BUNDLE"
