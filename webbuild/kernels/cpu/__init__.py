"""Kernels for CPUs, written over vectors of 16 numbers; LLVM splits them for shorter registers."""
