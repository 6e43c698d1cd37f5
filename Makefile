# `make chat`, `make run` and `make test` are all that a new user needs; each installs what it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
BUNDLE := build/pocket-q4f16_1

LLAMA_CPP := llama-cpp-python==0.3.36
# AMX is left out: llama.cpp crashed with it on the machines that this was tried on.
LLAMA_CPP_FLAGS := -DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_VBMI=ON \
  -DGGML_AVX512_BF16=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON

# Compiled once for all checkouts: ten minutes or more.
LLAMA_CPP_WHEEL := $(or $(MLC_EDGE_CACHE),$(HOME)/.cache/mlc-edge)/wheels/$(shell echo '$(LLAMA_CPP) $(LLAMA_CPP_FLAGS)' | cksum | cut -d' ' -f1)
REAL_MODEL := build/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: setup emscripten chat run vulkan-plugin vulkan-plugins wheel real-model npm-package test test-real check mutants bench bench-engine bench-cpu bench-kernels bench-gpu bench-dispatch bench-drawing bench-flight bench-script step-table bench-page screenshots recording web-assets clean

setup: $(VENV)/.run-installed web-assets

# Debian keeps venv in a package of its own.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV) && webbuild/install_system_packages.sh python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.run-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[edge,bench]'
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

run: setup
	webbuild/install_system_packages.sh g++
	$(BIN)/mlc-edge run --port $(PORT)

# A real model of 93 MB, from PyPI.
real-model: setup emscripten
	webbuild/install_system_packages.sh g++
	$(BIN)/python -m benchmarks.real_model $(REAL_MODEL)

# The device of `mlc-edge run --device vulkan`; it is compiled when it is first needed, too.
vulkan-plugin: setup
	webbuild/install_system_packages.sh g++
	$(BIN)/python -m pip install --quiet --editable '.[vulkan]'
	$(BIN)/python -m mlc_edge.vulkan.build

# The same for all machines that a wheel is for.
vulkan-plugins: $(VENV)/.run-installed
	webbuild/install_system_packages.sh g++-x86-64-linux-gnu g++-aarch64-linux-gnu
	$(BIN)/python -m pip install --quiet --editable '.[vulkan]'
	$(BIN)/python -m mlc_edge.vulkan.ship

# What devices install: pages and plugins are in it.
wheel: web-assets vulkan-plugins
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

test: $(VENV)/.test-installed web-assets emscripten vulkan-plugins
	webbuild/install_system_packages.sh chromium curl dbus firefox-esr g++ g++-aarch64-linux-gnu gir1.2-webkit2-4.1 iproute2 \
	  libvulkan-dev mesa-vulkan-drivers python3-gi qemu-user-static systemd webkit2gtk-driver xvfb
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n 2

# mlc-edge-web-VERSION.tgz, for `npm install`.
npm-package: node_modules/.package-lock.json
	node web/npm.mjs build/npm
	npm pack --pack-destination build ./build/npm

# What needs the real model and other programs to compare it with.
test-real: $(VENV)/.test-installed web-assets emscripten build/llama-venv/.installed
	webbuild/install_system_packages.sh chromium g++
	$(BIN)/python -m pytest -m real -rP

check: $(VENV)/.test-installed node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run --silent check

# Plants the faults of tests/mutants/*.toml, one at a time: AREA=store, JOBS=2.
mutants: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium curl g++ g++-aarch64-linux-gnu libvulkan-dev mesa-vulkan-drivers qemu-user-static
	$(BIN)/python -m tests.mutants $(AREA) --jobs $(or $(JOBS),1)

bench: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f32_1 --output build/pocket-q4f32_1
	$(BIN)/mlc-edge bench build/pocket-q4f32_1 --target webgpu

bench-engine: $(VENV)/.test-installed
	webbuild/install_system_packages.sh g++
	$(BIN)/python -m benchmarks.checkpoints 1.1b build/random-1.1b
	$(BIN)/mlc-edge build build/random-1.1b --target native --mlc-compatible --quant-effort fast --no-measure --output build/random-1.1b-q4f16_1
	$(BIN)/mlc-edge bench build/random-1.1b-q4f16_1 --concurrency 1,4,16

$(LLAMA_CPP_WHEEL)/.built: | $(VENV)/bin/python
	webbuild/install_system_packages.sh g++
	CMAKE_ARGS="$(LLAMA_CPP_FLAGS)" $(BIN)/python -m pip wheel --quiet --no-deps --no-binary llama-cpp-python --wheel-dir $(@D) '$(LLAMA_CPP)'
	touch $@

build/llama-venv/.installed: $(LLAMA_CPP_WHEEL)/.built | $(VENV)/bin/python
	$(PYTHON) -m venv build/llama-venv
	build/llama-venv/bin/python -m pip install --quiet $(LLAMA_CPP_WHEEL)/llama_cpp_python-*.whl gguf
	touch $@

bench-cpu: $(VENV)/.test-installed build/llama-venv/.installed
	$(BIN)/python -m benchmarks.against_llama_cpp --peer build/llama-venv/bin/python --json build/llama-cpp.json

bench-kernels: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.browser_kernels

# Products of a token and of a prompt, and attention, on a GPU by Vulkan: our programs against TVM's own.
bench-gpu: $(VENV)/.test-installed
	webbuild/install_system_packages.sh g++ mesa-vulkan-drivers
	$(BIN)/python -m benchmarks.gpu_products
	$(BIN)/python -m benchmarks.gpu_products --tokens 128
	$(BIN)/python -m benchmarks.gpu_attention

# A decode step's commands in the browser: our dispatcher against the one of npm's web-runtime.
bench-dispatch: $(VENV)/.test-installed emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.dispatch

# What a token and a chunk of a prompt tell a GPU to do, kernel by kernel.
step-table: $(VENV)/.test-installed emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.step_table

# A token drawn on the device against sampling in JavaScript, in the browser.
bench-drawing: $(VENV)/.test-installed emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.drawing

# Decoding in the browser with one, two and three steps in flight.
bench-flight: $(VENV)/.test-installed emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.flight

# CPU time of a token's script in the browser, at the shape of a 1B model.
bench-script: $(VENV)/.test-installed emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/python -m benchmarks.token_script --profile

# A first visit over a slow network, and what holds up the page while answers come.
bench-page: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f16_1 --output $(BUNDLE)
	$(BIN)/python -m benchmarks.first_visit $(BUNDLE)
	$(BIN)/python -m benchmarks.page_tasks

# Every state of the page at three widths, light and dark: build/screenshots.
screenshots: $(VENV)/.test-installed web-assets
	webbuild/install_system_packages.sh chromium
	MLC_EDGE_SHOTS=build/screenshots $(BIN)/python -m pytest tests/page/test_every_state.py

# The README's pictures of the page, and its recording.
recording: $(VENV)/.test-installed web-assets emscripten
	webbuild/install_system_packages.sh chromium
	$(BIN)/mlc-edge build models/pocket --target webgpu --quant q4f16_1 --output $(BUNDLE)
	$(BIN)/python -m benchmarks.pictures $(BUNDLE)

clean:
	rm -rf build dist web/static/dist web/static/index.html web/static/benchmark.html web/static/service-worker.js web/static/app-lock.json
