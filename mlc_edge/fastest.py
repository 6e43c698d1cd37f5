"""Which device computes a model fastest on this machine: measured once, and remembered.

Each is measured by a process of its own (`python -m mlc_edge.fastest BUNDLE DEVICE`), so that a driver that
crashes or hangs doesn't take this one along, and nothing of the others' memory stays.
"""

import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlc_edge.bundle import LOCK_NAME, BundleLock, read_lock
from mlc_edge.compiled import Progress
from mlc_edge.cpu import host_cpu
from mlc_edge.cuda.driver import gpus
from mlc_edge.cuda.runner import suits as suits_gpu
from mlc_edge.devices import DeviceChoice, open_runner, suits_cpu
from mlc_edge.errors import ConfigError, ToolchainError
from mlc_edge.files import FileError, read_json, read_plain, write_json
from mlc_edge.model_runner import CacheSizes, ModelRunner
from mlc_edge.places import PACKAGES, child_environment, speeds_folder
from mlc_edge.version import __version__
from mlc_edge.vulkan.build import is_compiled
from mlc_edge.vulkan.device import Adapter, probe_adapters
from mlc_edge.vulkan.runner import suits

# A turn of a conversation, as devices are compared by it.
TURN_TOKENS = 256
PROMPT_TOKENS, ANSWER_TOKENS = 128, 16
# A device that takes longer to load and answer is no choice.
MEASURE_SECONDS = 300
# A failure may be a moment's: full memory, a driver that is being installed.
RETRY_SECONDS = 86_400
# What ends a child that could have gone on: a person, a service manager, the kernel without memory.
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class _Interrupted(Exception):
    """A device was not measured to its end."""


@dataclass(frozen=True)
class Speed:
    """Tokens by second of one sequence."""

    prefill: float
    decode: float


def choose_device(
    bundle: Path, asked: DeviceChoice, target: str | None, report: Progress
) -> DeviceChoice:
    """What was asked for; for "auto" the fastest of the devices that are worth trying with `bundle`.

    Where there are not two of them, or a target is named, that stays "auto", for `open_runner`.
    """
    if asked.kind != "auto" or target:
        return asked
    lock = read_lock(bundle)
    adapters = [adapter for adapter in _adapters(lock) if is_worthwhile(lock, adapter)]
    devices = [DeviceChoice("cpu")] if suits_cpu(lock) else []
    devices += [DeviceChoice("vulkan", adapter.index) for adapter in adapters]
    has_cuda = any(target.device == "cuda" for target in lock.targets.values())
    by_cuda = [gpu for gpu in gpus() if suits_gpu(lock, gpu)] if has_cuda else []
    devices += [DeviceChoice("cuda", gpu.index) for gpu in by_cuda]
    if len(devices) < 2:
        return asked
    known = [(adapter.index, adapter.name, adapter.driver) for adapter in adapters]
    known += [(gpu.index, gpu.name, gpu.driver) for gpu in by_cuda]
    cpu = host_cpu()
    # A set's order changes from one process to the next.
    machine = f"{cpu.model} {cpu.arch} {sorted(cpu.features)} {known} {__version__}"
    return fastest(bundle, devices, machine, report)


def is_worthwhile(lock: BundleLock, adapter: Adapter) -> bool:
    """Whether a GPU that nobody named is tried."""
    return not adapter.is_slow and suits(lock, adapter)


def fastest(
    bundle: Path, devices: Sequence[DeviceChoice], machine: str, report: Progress
) -> DeviceChoice:
    """The fastest of `devices`; one that fails is only taken where all do.

    What was measured is remembered for this bundle and `machine`, a description of what computes.
    """
    content = read_plain(bundle, LOCK_NAME) + machine.encode()
    path = speeds_folder() / f"{hashlib.sha256(content).hexdigest()[:32]}.json"
    names = [str(device) for device in devices]
    speeds = _read(path, names)
    if speeds is None:
        speeds = {}
        with suppress(_Interrupted):
            for name in names:
                report(f"measuring how fast {name} is with this model (once)", None)
                speeds[name] = _measured_apart(bundle, name)
            _write(path, speeds)
    return min(devices, key=lambda device: _turn_seconds(speeds.get(str(device))))


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
    except (ConfigError, ToolchainError):
        return ()


def _seconds(step: Any) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _measured_apart(bundle: Path, device: str) -> Speed | None:
    """None for a device that fails; raises _Interrupted where that isn't known."""
    command = [sys.executable, "-m", "mlc_edge.fastest", str(bundle.resolve()), device]
    # The child ends when nobody holds the other end.
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            command,
            cwd=PACKAGES,
            env=child_environment(),
            stdin=reader,
            capture_output=True,
            timeout=MEASURE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        raise _Interrupted from error
    finally:
        os.close(reader)
        os.close(writer)
    if -done.returncode in STOPPING_SIGNALS:
        raise _Interrupted
    with suppress(*UNREADABLE, IndexError):
        # Drivers may have their say before.
        return _speed(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None
    return None


def _read(path: Path, names: Sequence[str]) -> dict[str, Speed | None] | None:
    """What was measured of those devices; a failure is tried again some time."""
    with suppress(*UNREADABLE, OSError, FileError):
        content = read_json(path.parent, path.name)
        found = {name: _speed(content["speeds"][name]) for name in names}
        if None not in found.values() or 0 <= time.time() - content["at"] < RETRY_SECONDS:
            return found
    return None


def _write(path: Path, speeds: Mapping[str, Speed | None]) -> None:
    """Best effort: without the record it is measured again next time."""
    found = {name: speed and asdict(speed) for name, speed in speeds.items()}
    with suppress(OSError):
        write_json(path, {"at": time.time(), "speeds": found})


def _speed(content: Any) -> Speed | None:
    if content is None:
        return None
    found = Speed(float(content["prefill"]), float(content["decode"]))
    if not (math.isfinite(found.prefill * found.decode) and found.prefill > 0 < found.decode):
        raise ValueError(f"{content} is no speed")
    return found


def _end_with(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os._exit(1)


def main() -> None:
    """Measure one device and print its speed."""
    # It imports the engine, which imports this.
    from mlc_edge.engine.self_test import self_test

    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    runner = open_runner(Path(sys.argv[1]), DeviceChoice.parse(sys.argv[2]))
    chunk = min(PROMPT_TOKENS, runner.prefill_chunk_size)
    runner.create_cache(CacheSizes(2, 2 * (chunk + ANSWER_TOKENS), chunk))
    self_test(runner)
    print(json.dumps(asdict(measure(runner))))


if __name__ == "__main__":
    main()
