"""The engine and the daemon on real aarch64 code, under qemu."""
