"""NVIDIA's GPUs by CUDA: what the driver tells of them, TVM's runtime for them, and the model runner."""
