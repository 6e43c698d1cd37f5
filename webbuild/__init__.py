"""The build pipeline: checkpoint in, bundle out."""
