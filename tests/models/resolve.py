"""Run as a program: resolve a model, print its bundle and the progress as JSON."""

import json
import sys

from mlc_edge.models import resolve_model

if __name__ == "__main__":
    steps: list[tuple[str, float | None]] = []
    bundle = resolve_model(
        sys.argv[1] if len(sys.argv) > 1 else None,
        progress=lambda step, share: steps.append((step, share)),
    )
    print(json.dumps({"bundle": str(bundle), "steps": steps}))
