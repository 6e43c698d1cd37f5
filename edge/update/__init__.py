"""Another model on a device, or the one before, without a moment of none."""
