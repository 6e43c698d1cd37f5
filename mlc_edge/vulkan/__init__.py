"""Vulkan devices: a plugin of TVM's runtime on wgpu-native, and the model runner that computes with it."""
