"""What `mlc-edge bench` measures on this device."""
