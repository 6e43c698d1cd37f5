"""Kernels for GPUs, and for software adapters that compute in a GPU's place."""
