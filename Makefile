# `make chat` and `make test` are all that a new user needs; both run `make setup` first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
BUNDLE := build/pocket-q4f16_1

.PHONY: setup emscripten chat test check bench bench-kernels web-assets clean

setup: $(VENV)/.run-installed web-assets

# Debian keeps venv in a package of its own.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV) && webbuild/install_system_packages.sh python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.run-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[web,bench]'
	touch $@

$(VENV)/.test-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.run-installed

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	touch $@

web-assets: node_modules/.package-lock.json
	node web/build.mjs

# emsdk at the pinned version where it can be downloaded, else Debian's package.
emscripten: | $(VENV)/bin/python
	$(BIN)/python -m webbuild.wasm.emscripten >/dev/null 2>&1 || webbuild/install_system_packages.sh emscripten

chat: setup emscripten
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f16_1 --output $(BUNDLE)
	$(BIN)/mlc-edge web $(BUNDLE) --port $(PORT)

test: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium curl g++ g++-aarch64-linux-gnu mesa-vulkan-drivers qemu-user-static
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest

check: $(VENV)/.test-installed node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run --silent check

bench: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f32_1 --output build/pocket-q4f32_1
	$(BIN)/mlc-edge bench build/pocket-q4f32_1 --target webgpu

bench-kernels: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.browser_kernels

clean:
	rm -rf build dist web/static/dist web/static/index.html web/static/benchmark.html web/static/service-worker.js web/static/app-lock.json
