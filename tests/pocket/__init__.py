"""Tests of the embedded model: data, tokenizer, training and the checkpoint."""
