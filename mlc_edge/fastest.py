"""Which device computes a model fastest on this machine: measured once, and remembered.

Each is measured by a process of its own (`python -m mlc_edge.fastest BUNDLE DEVICE`), so that a driver that
crashes or hangs doesn't take this one along, and nothing of the others' memory stays.
"""

import hashlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlc_edge.bundle import LOCK_NAME, BundleLock, read_lock
from mlc_edge.compiled import Progress
from mlc_edge.cpu import host_cpu
from mlc_edge.devices import DeviceChoice, open_runner, suits_cpu
from mlc_edge.errors import ToolchainError
from mlc_edge.files import FileError, read_json, read_plain, write_json
from mlc_edge.model_runner import CacheSizes, ModelRunner
from mlc_edge.places import speeds_folder
from mlc_edge.version import __version__
from mlc_edge.vulkan.build import is_compiled
from mlc_edge.vulkan.device import Adapter, probe_adapters
from mlc_edge.vulkan.runner import suits

# A turn of a conversation, as devices are compared by it.
TURN_TOKENS = 256
PROMPT_TOKENS, ANSWER_TOKENS = 128, 16
# Named ones only: a Raspberry Pi 5's is slower than the CPU beside it.
SLOW_ADAPTERS = ("V3D",)
# A device that takes longer to load and answer is no choice.
MEASURE_SECONDS = 300


@dataclass(frozen=True)
class Speed:
    """Tokens by second of one sequence."""

    prefill: float
    decode: float


def choose_device(bundle: Path, report: Progress) -> DeviceChoice:
    """What "auto" is for `bundle`: the fastest of the devices that are worth trying."""
    lock = read_lock(bundle)
    adapters = [adapter for adapter in _adapters(lock) if is_worthwhile(lock, adapter)]
    devices = [DeviceChoice("cpu")] if suits_cpu(lock) else []
    devices += [DeviceChoice("vulkan", adapter.index) for adapter in adapters]
    if len(devices) < 2:
        return DeviceChoice("auto")
    gpus = [(adapter.index, adapter.name, adapter.driver) for adapter in adapters]
    machine = f"{host_cpu()} {gpus} {__version__}"
    return fastest(bundle, devices, machine, report)


def is_worthwhile(lock: BundleLock, adapter: Adapter) -> bool:
    """Whether a GPU that nobody named is tried."""
    is_slow = adapter.is_software or any(name in adapter.name for name in SLOW_ADAPTERS)
    return not is_slow and suits(lock, adapter)


def fastest(
    bundle: Path, devices: Sequence[DeviceChoice], machine: str, report: Progress
) -> DeviceChoice:
    """The fastest of `devices`; one that fails is only taken where all do.

    What was measured is remembered for this bundle and `machine`, a description of what computes.
    """
    content = read_plain(bundle, LOCK_NAME) + machine.encode()
    path = speeds_folder() / f"{hashlib.sha256(content).hexdigest()[:32]}.json"
    speeds = _read(path)
    if speeds is None:
        speeds = {}
        for device in devices:
            report(f"measuring how fast {device} is with this model (once)", None)
            if speed := _measured_apart(bundle, device):
                speeds[str(device)] = speed
        # Without the record it is measured again next time.
        with suppress(OSError):
            write_json(path, {name: asdict(speed) for name, speed in speeds.items()})
    able = [device for device in devices if str(device) in speeds]
    return min(able or devices[:1], key=lambda device: _turn_seconds(speeds.get(str(device))))


def measure(runner: ModelRunner) -> Speed:
    """Of a runner with a cache for two sequences; the first one warms it up."""
    prompt = list(range(min(PROMPT_TOKENS, runner.prefill_chunk_size)))
    prefills, decodes = [], []
    for sequence in range(2):
        runner.add_sequence(sequence)
        prefills.append(_seconds(lambda run=sequence: runner.prefill([run], [prompt])))
        for token in range(ANSWER_TOKENS):
            decodes.append(_seconds(lambda run=sequence, id=token: runner.decode([run], [id])))
        runner.remove_sequence(sequence)
    return Speed(len(prompt) / prefills[-1], 1 / statistics.median(decodes[ANSWER_TOKENS:]))


def _turn_seconds(speed: Speed | None) -> float:
    """For reading a turn and writing one."""
    return TURN_TOKENS * (1 / speed.prefill + 1 / speed.decode) if speed else math.inf


def _adapters(lock: BundleLock) -> Sequence[Adapter]:
    """This machine's, where there are kernels for them and the plugin is there to ask."""
    if all(target.device != "vulkan" for target in lock.targets.values()):
        return ()
    try:
        return probe_adapters() if is_compiled() else ()
    except ToolchainError:
        return ()


def _seconds(step: Any) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _measured_apart(bundle: Path, device: DeviceChoice) -> Speed | None:
    command = [sys.executable, "-m", "mlc_edge.fastest", str(bundle), str(device)]
    with suppress(subprocess.TimeoutExpired, ValueError, TypeError, KeyError):
        done = subprocess.run(command, capture_output=True, timeout=MEASURE_SECONDS)
        if done.returncode == 0:
            return _speed(json.loads(done.stdout))
    return None


def _read(path: Path) -> dict[str, Speed] | None:
    try:
        content = read_json(path.parent, path.name)
        return {name: _speed(speed) for name, speed in content.items()}
    except (OSError, FileError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _speed(content: Any) -> Speed:
    found = Speed(float(content["prefill"]), float(content["decode"]))
    if not (found.prefill > 0 and found.decode > 0):
        raise ValueError(f"{content} is no speed")
    return found


def main() -> None:
    """Measure one device and print its speed."""
    bundle, device = Path(sys.argv[1]), DeviceChoice.parse(sys.argv[2])
    runner = open_runner(bundle, device)
    chunk = min(PROMPT_TOKENS, runner.prefill_chunk_size)
    runner.create_cache(CacheSizes(2, 2 * (chunk + ANSWER_TOKENS), chunk))
    print(json.dumps(asdict(measure(runner))))


if __name__ == "__main__":
    main()
