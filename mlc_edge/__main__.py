"""`python -m mlc_edge` is the `mlc-edge` command."""

from mlc_edge.cli import main

main()
