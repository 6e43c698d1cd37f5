"""A load test's result for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

MIB = 1 << 20
COLUMNS = (
    "at once",
    "temperature",
    "top_p",
    "TTFT ms p50",
    "p95",
    "TPOT ms p50",
    "p95",
    "output tok/s",
    "prefill tok/s",
    "Python",
)


def print_report(result: dict[str, Any]) -> None:
    """Print one row for each number of requests at once."""
    model, device = result["model"], result["device"]
    threads = device["threads"]
    console = Console(highlight=False)
    console.print(
        f"[bold]{model['id']}[/bold] ({model['quantization']}) on "
        f"{device['adapter'] or device['cpu']}, library {device['target']}, "
        f"{threads['prefill']} threads to read, {threads['decode']} to write; "
        f"{result['prompt_tokens']} tokens of prompt, {result['max_tokens']} of answer"
    )
    table = Table(*COLUMNS)
    for column in table.columns:
        column.justify = "right"
    for row in result["concurrency"]:
        # Requests that come together share the time of their prefills.
        prefill = row["prefill_tokens_per_s"] if row["requests_at_once"] == 1 else None
        table.add_row(
            str(row["requests_at_once"]),
            f"{row['sampling']['temperature']:g}",
            f"{row['sampling'].get('top_p', 1):g}",
            *(_ms(row[name][p]) for name in ("ttft_s", "tpot_s") for p in ("p50", "p95")),
            f"{row['output_tokens_per_s']:.1f}",
            "-" if prefill is None else f"{prefill:.0f}",
            f"{row['overhead_share']:.1%}",
        )
    console.print(table)
    fresh = result["fresh_process"]
    console.print(
        f"fresh process: {fresh['start_to_first_token_s']:.2f} s to its first token, "
        f"{fresh['resident_beyond_weights_bytes'] / MIB:.0f} MiB resident beyond the weights"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"
