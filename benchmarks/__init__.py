"""Measurements of this project, alone and against its peers."""
