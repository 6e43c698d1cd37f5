# `make chat` and `make test` are all that a new user needs; both run `make setup` first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
BUNDLE := build/pocket-q4f16_1

.PHONY: setup chat test test-slow check bench web-assets clean

setup: $(VENV)/.run-installed web-assets

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

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

chat: setup
	webbuild/install_system_packages.sh emscripten
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f16_1 --output $(BUNDLE)
	$(BIN)/mlc-edge web $(BUNDLE) --port $(PORT)

test: $(VENV)/.test-installed web-assets
	webbuild/install_system_packages.sh emscripten chromium
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(VENV)/.test-installed web-assets
	webbuild/install_system_packages.sh emscripten chromium
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.test-installed node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run --silent check

bench: $(VENV)/.test-installed web-assets
	webbuild/install_system_packages.sh emscripten chromium
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f32_1 --output build/pocket-q4f32_1
	$(BIN)/mlc-edge bench build/pocket-q4f32_1 --target webgpu

clean:
	rm -rf build dist web/static/dist web/static/index.html web/static/benchmark.html web/static/service-worker.js web/static/app-lock.json
