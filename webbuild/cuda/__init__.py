"""Kernels for NVIDIA's GPUs as a library holds them: compilers, and what they compile put in its place."""
