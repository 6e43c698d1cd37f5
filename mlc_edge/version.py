"""This package's version."""

__version__ = "0.1.0"
# The package for Pyodide, which `mlc-edge site` writes.
BROWSER_DISTRIBUTION = "mlc-edge-web"
