"""TVM's runtime for WebAssembly, built from the sources in the installed wheels, and linking with it."""
