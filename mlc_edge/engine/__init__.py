"""The engine: requests in, answers out, on one device."""
