"""TVM's runtime for WebAssembly, built from the installed wheels' sources, and its linking."""
