"""Whether a bundle works on this device: run in a process of its own, which it may take down."""

import sys
from pathlib import Path

from mlc_edge.errors import MlcEdgeError

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
ANSWER_TOKENS = 8
# A daemon may serve another model at this moment: no more cache than one short answer needs.
CACHE_TOKENS = 512
FAILURE = "error: "


def self_check(bundle: Path) -> None:
    """Load `bundle`, which computes its numeric self-test, and answer greedily; raises MlcEdgeError."""
    from mlc_edge.engine.config import EngineConfig
    from mlc_edge.engine.sync import MLCEngine

    config = EngineConfig(mode="interactive", max_total_tokens=CACHE_TOKENS)
    with MLCEngine(bundle, config) as engine:
        engine.chat.completions.create(
            messages=QUESTION, temperature=0, max_tokens=ANSWER_TOKENS, ignore_eos=True
        )


def main() -> None:
    """Check the bundle that the command line names; exit code 1, and the reason on stdout, if it fails."""
    try:
        self_check(Path(sys.argv[1]))
    except MlcEdgeError as error:
        # Whatever starts this program may have words of its own on stderr.
        print(f"{FAILURE}{error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
