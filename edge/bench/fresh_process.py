"""Run as a program by the benchmark: load a model, draw one token, say how long and how large."""

import json
import re
import sys
import time
from pathlib import Path

from mlc_edge import EngineConfig, MLCEngine

KIB = 1024


def main(bundle: str, device: str, target: str, threads: str, started: str) -> None:
    """Print seconds since `started` (Unix time) and resident bytes, as JSON."""
    config = EngineConfig(
        device=device,
        target=target or None,
        prefill_threads=int(threads),
        decode_threads=int(threads),
    )
    with MLCEngine(bundle, config, trust_library=True) as engine:
        engine.completions.create(prompt=[1, 2, 3, 4], max_tokens=1, ignore_eos=True)
        first_token_s = time.time() - float(started)
        engine.completions.create(prompt=[5, 6, 7, 8] * 16, max_tokens=32, ignore_eos=True)
        resident, weights = resident_bytes(Path(bundle))
    print(
        json.dumps(
            {
                "start_to_first_token_s": first_token_s,
                "resident_bytes": resident,
                "resident_beyond_weights_bytes": resident - weights,
            }
        )
    )


def resident_bytes(bundle: Path) -> tuple[int, int]:
    """This process's resident memory, and the part that is mapped from the bundle's weights."""
    whole = mapped = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(".bin") and str(bundle.resolve()) in line
        elif line.startswith("Rss:"):
            count = int(line.split()[1]) * KIB
            whole += count
            mapped += count if inside else 0
    return whole, mapped


if __name__ == "__main__":
    main(*sys.argv[1:])
