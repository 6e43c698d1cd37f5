"""Models in GGUF files, as llama.cpp has them."""
