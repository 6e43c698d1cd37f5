"""The embedded model: its conversations, tokenizer, training and held-out evaluation."""
