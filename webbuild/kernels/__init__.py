"""Tensor programs: their definitions and how they are scheduled for a target."""
