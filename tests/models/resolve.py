"""Run as a program: resolve a model, print its bundle and the progress as JSON."""

import json
import sys

from mlc_edge.models import resolve_model

TRUST = "--trust-library"
TARGET = "--target="

if __name__ == "__main__":
    steps: list[tuple[str, float | None]] = []
    models = [word for word in sys.argv[1:] if not word.startswith("--")]
    targets = [word.removeprefix(TARGET) for word in sys.argv if word.startswith(TARGET)]
    bundle = resolve_model(
        models[0] if models else None,
        target=targets[0] if targets else None,
        progress=lambda step, share: steps.append((step, share)),
        trust_library=TRUST in sys.argv,
    )
    print(json.dumps({"bundle": str(bundle), "steps": steps}))
