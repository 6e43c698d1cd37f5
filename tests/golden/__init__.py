"""Vectors that hold the TypeScript and the Python engine to one behaviour; see make.py."""
