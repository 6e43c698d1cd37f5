"""What a build shows on a terminal."""

import gzip
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from mlc_edge.bundle import BundleLock
from webbuild.build import Progress
from webbuild.quality.divergence import Agreement


class TerminalProgress(Progress):
    """One line a stage on stderr, with a bar where its length is known."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()

    def _end_bar(self) -> None:
        if self._task is not None:
            self._bars.stop()
            self._bars.remove_task(self._task)
            self._task = None

    def stage(self, text: str, total_bytes: int = 0) -> None:
        """A step begins; `total_bytes` is what it will write, 0 if unknown."""
        self._end_bar()
        self._console.print(text, highlight=False)
        if total_bytes and self._console.is_terminal:
            self._task = self._bars.add_task("", total=total_bytes)
            self._bars.start()

    def advance(self, count: int) -> None:
        """The step has written `count` more bytes."""
        if self._task is not None:
            self._bars.advance(self._task, count)

    def warn(self, text: str) -> None:
        """The bundle will not do all that one might expect of it."""
        self._end_bar()
        self._console.print(f"warning: {text}", highlight=False, soft_wrap=True, markup=False)


def print_bundle(folder: Path, lock: BundleLock) -> None:
    """A table of the bundle's files; libraries with what a browser downloads of them."""
    table = Table("file", "bytes", "gzipped", title=f"{folder}: {lock.model.weights}")
    for column in table.columns[1:]:
        column.justify = "right"
    for file in lock.files:
        is_library = file.path in {target.library for target in lock.targets.values()}
        content = (folder / file.path).read_bytes() if is_library else b""
        table.add_row(
            file.path, f"{file.bytes:,}", f"{len(gzip.compress(content)):,}" if is_library else ""
        )
    table.add_section()
    table.add_row("total", f"{sum(file.bytes for file in lock.files):,}", "")
    Console().print(table)


def print_quality(quality: Agreement) -> None:
    """What rounding did to the model, in a line."""
    Console().print(
        f"against the floats: KL {quality.mean_divergence:.4f}, same first choice "
        f"{quality.same_choice:.1%}, perplexity {quality.reference_perplexity:.2f} to "
        f"{quality.model_perplexity:.2f} (a text of {len(quality.divergences)} tokens)",
        highlight=False,
    )
