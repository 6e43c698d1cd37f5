"""Weights in few bits: formats, which tensor gets which, and how values become levels."""
