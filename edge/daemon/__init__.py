"""The daemon: an engine behind OpenAI's HTTP API, for an operator to trust."""
