"""The embedded model on the stand-in: every launch of its library is computed by TVM's runtime for CUDA."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlc_edge.cuda.runner import CudaRunner
from mlc_edge.engine.self_test import self_test
from mlc_edge.model_runner import CacheSizes
from tests.conftest import POCKET
from tests.daemon.daemons import ROOT, TIMEOUT_S
from tests.gpu.models import GpuModel

# Of float16 kernels, relative to the largest logit.
TOLERANCE = 2e-2
QUESTION = ("--prompt", "What is the capital of France?")


def command(environment: dict[str, str], *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlc_edge", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=TIMEOUT_S,
    )


@pytest.mark.usefixtures("device")
def test_logits_are_those_of_transformers(bundle: Path):
    runner = CudaRunner(bundle, sizes=CacheSizes(2, 128, 32))
    self_test(runner)
    tokens = list(range(40, 58))
    expected = GpuModel(POCKET, bundle, runner.target).logits(tokens)
    runner.add_sequence(0)
    found = [runner.prefill([0], [tokens[:9]])[0], runner.prefill([0], [tokens[9:16]])[0]]
    runner.fork_sequence(0, 1, 16)
    found += [*runner.decode([0, 1], [tokens[16], tokens[16]])]
    runner.pop(1, 1)
    found += [*runner.verify(1, tokens[16:18])]
    places = [8, 15, 16, 16, 16, 17]
    assert np.abs(np.array(found) - expected[places]).max() < TOLERANCE * np.abs(expected).max()


def test_a_chat_computes_on_the_gpu_that_is_named(bundle: Path, environment: dict[str, str]):
    done = command(environment, "chat", bundle, "--device", "cuda:0", *QUESTION)
    assert (done.returncode, done.stdout) == (0, "The capital of France is Paris.\n"), done.stderr


@pytest.mark.parametrize(
    ("changes", "device", "problem"),
    [
        ({}, "cuda:7", "there is no GPU 7 for CUDA: use one of cuda:0 (stand-in 0)"),
        ({"STANDIN_GPUS": "0"}, "cuda", "cuInit gives error 100"),
        ({"STANDIN_CAPABILITY": "87"}, "cuda", "computeCapability of 90 (it has 87)"),
        ({"STANDIN_VERSION": "12060"}, "cuda", "cudaVersion of 13000 (it has 12060)"),
        ({"STANDIN_MIB": "2"}, "cuda", "may be used of stand-in 0's"),
        ({"LD_LIBRARY_PATH": ""}, "cuda", "NVIDIA's driver (libcuda.so.1) is not installed"),
    ],
)
def test_what_a_machine_lacks_is_told(
    bundle: Path, environment: dict[str, str], changes: dict[str, str], device: str, problem: str
):
    done = command({**environment, **changes}, "chat", bundle, "--device", device, *QUESTION)
    assert done.returncode != 0
    assert problem in done.stderr and "Traceback" not in done.stderr


def test_the_doctor_lists_gpus(environment: dict[str, str]):
    done = command(environment, "doctor", "--json")
    assert '"name": "stand-in 0"' in done.stdout and '"capability": 90' in done.stdout
