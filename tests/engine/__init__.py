"""The browser engine: its parts under Node, the whole in Chromium."""
