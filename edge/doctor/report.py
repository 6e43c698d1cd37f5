"""A diagnosis for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from edge.doctor.diagnosis import DECODE_EFFICIENCY, STEP_OVERHEAD_S, Diagnosis, Fit
from edge.hardware.model_size import CONTEXT_TOKENS
from mlc_edge.cuda.driver import Gpu
from mlc_edge.vulkan.device import Adapter

GIB = 1 << 30
SHOWN_FEATURES = (
    "asimd asimddp asimdhp i8mm bf16 sve sve2 avx2 fma f16c avx_vnni avx512f avx512_vnni avx512_bf16"
).split()
PLUGINS = {
    "shipped": "came with this program",
    "compiled": "compiled here",
    None: "compiled when Vulkan is first used",
}


def print_report(diagnosis: Diagnosis) -> None:
    """Print tables to the terminal."""
    console = Console()
    console.print(_facts(diagnosis))
    console.print(_models(diagnosis))
    console.print(
        f"[dim]Time of a token: bytes of the weights / {DECODE_EFFICIENCY:.0%} of the measured "
        f"bandwidth + {STEP_OVERHEAD_S * 1000:g} ms. Memory: 4-bit weights, a cache for "
        f"{CONTEXT_TOKENS} tokens, and the program; {_size(diagnosis.profile.memory_reserve_bytes)} "
        "are left to others.[/dim]"
    )
    for problem in diagnosis.problems:
        console.print(f"[yellow]![/yellow] {problem.what}. {problem.remedy}", highlight=False)
    if not diagnosis.problems:
        console.print("[green]✓[/green] Nothing stands in the way.")


def _facts(diagnosis: Diagnosis) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    features = [name for name in SHOWN_FEATURES if name in diagnosis.cpu.features]
    heat = diagnosis.temperature_c
    threads = diagnosis.profile
    for name, value in (
        ("board", diagnosis.board),
        ("system", diagnosis.system),
        ("processor", f"{diagnosis.cpu.model} ({diagnosis.cpu.arch}), {diagnosis.cores} cores"),
        ("instructions", " ".join(features) or "none of interest"),
        ("target", diagnosis.target or "none"),
        (
            "threads",
            f"{threads.prefill_threads} to read prompts, {threads.decode_threads} to write",
        ),
        (
            "memory",
            f"{diagnosis.memory_available_bytes / GIB:.1f} GiB free of "
            f"{diagnosis.memory_total_bytes / GIB:.1f} GiB, "
            f"{diagnosis.memory_bandwidth / 1e9:.1f} GB/s measured",
        ),
        ("GPU", diagnosis.gpu or "none found"),
        ("Vulkan drivers", ", ".join(diagnosis.vulkan) or "none found"),
        ("Vulkan plugin", PLUGINS[diagnosis.plugin]),
        ("Vulkan adapters", "\n".join(_adapters(diagnosis.adapters))),
        ("CUDA", "\n".join(map(_gpu, diagnosis.gpus)) or diagnosis.no_gpus),
        ("temperature", "not measured" if heat is None else f"{heat:.0f} °C"),
        ("held back", ", ".join(diagnosis.throttled) or "no"),
        ("disk", f"{diagnosis.disk_free_bytes / GIB:.1f} GiB free"),
        ("versions", ", ".join(f"{name} {v}" for name, v in diagnosis.versions.items())),
    ):
        table.add_row(name, value)
    return table


def _gpu(gpu: Gpu) -> str:
    whose = "of the machine's memory" if gpu.shares_memory else "of its own memory"
    return (
        f"cuda:{gpu.index}: {gpu.name}, {gpu.driver}, {_size(gpu.memory_bytes)} {whose}; takes libraries "
        f"for compute capability {gpu.capability / 10} or less, the newest of them: cuda-native"
    )


def _adapters(found: tuple[Adapter, ...] | None) -> Iterator[str]:
    if found is None:
        yield "known once `mlc-edge run --device vulkan` was used"
        return
    for adapter in found:
        limits = adapter.limits
        yield (
            f"vulkan:{adapter.index}: {adapter.name}, {adapter.kind}, {adapter.driver}; "
            f"{', '.join(adapter.features)}; buffers of {_size(limits['maxBufferSize'])}, "
            f"{_size(limits['maxStorageBufferBindingSize'])} of them bound"
        )
    if not found:
        yield "none found"


def _models(diagnosis: Diagnosis) -> Table:
    table = Table("model", "weights", "memory", "fits", "tokens/s, about")
    for column in table.columns[1:]:
        column.justify = "right"
    asked = (diagnosis.model,) if diagnosis.model else ()
    for fit in (*asked, *diagnosis.models):
        table.add_row(*_row(fit))
    return table


def _row(fit: Fit) -> tuple[str, ...]:
    speed = fit.expected_decode_tokens_per_s
    return (
        fit.name,
        _size(fit.weight_bytes),
        _size(fit.memory_bytes),
        "[green]yes[/green]" if fit.fits else "[red]no[/red]",
        (f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}") if fit.fits else "",
    )


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB // 10 else f"{count / (1 << 20):.1f} MiB"
