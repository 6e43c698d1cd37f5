"""What this device is, and which models it runs."""
