"""Compile a language model once, run it in a browser, on a Raspberry Pi, on a Jetson."""

__version__ = "0.1.0"
