"""Model architectures: `<model_type>.py` and its TVM-free `<model_type>_spec.py`, found by name."""
