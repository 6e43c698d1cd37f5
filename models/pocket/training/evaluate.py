"""Held-out accuracy of a checkpoint: `python -m models.pocket.training.evaluate models/pocket`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from models.pocket.training.cases import TASKS, Case, held_out_cases, is_right
from models.pocket.training.dialogue import Message


class Backend(Protocol):
    """Whatever answers conversations greedily: PyTorch, a compiled model, a server."""

    def generate(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """One answer for each conversation, without the end token."""
        ...


@dataclass(frozen=True)
class Score:
    """How many cases of a task were right, and what was answered to the others."""

    task: str
    right: int
    total: int
    mistakes: tuple[tuple[Case, str], ...]

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.right / self.total


def evaluate(backend: Backend, cases: Sequence[Case], *, batch_size: int = 64) -> dict[str, Score]:
    """The score of each task; conversations of like length are answered together."""
    ordered = sorted(cases, key=lambda case: sum(len(m["content"]) for m in case.messages))
    answered: list[tuple[Case, str]] = []
    starts = range(0, len(ordered), batch_size)
    for start in tqdm(starts, unit="batch", leave=False, disable=None):
        batch = ordered[start : start + batch_size]
        answers = backend.generate([case.messages for case in batch])
        answered += zip(batch, answers, strict=True)
    tasks = sorted(answered, key=lambda pair: TASKS.index(pair[0].task))
    return {
        task: _score(task, list(pairs)) for task, pairs in groupby(tasks, lambda pair: pair[0].task)
    }


def _score(task: str, pairs: list[tuple[Case, str]]) -> Score:
    mistakes = tuple((case, answer) for case, answer in pairs if not is_right(case, answer))
    return Score(task, len(pairs) - len(mistakes), len(pairs), mistakes)


class TransformersBackend:
    """Answers with Hugging Face transformers in float32, weights rounded to 4 bits on request."""

    def __init__(self, folder: Path, *, fake_q4: bool = False, max_new_tokens: int = 128) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._max_new_tokens = max_new_tokens
        if fake_q4:
            from models.pocket.training.model import fake_quantize

            with torch.no_grad():
                for weight in {p for p in self._model.parameters() if p.ndim == 2}:
                    weight.copy_(fake_quantize(weight))

    def generate(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """One greedy answer for each conversation."""
        import torch

        prompts = [
            self._tokenizer.apply_chat_template(
                [dict(message) for message in messages], add_generation_prompt=True, tokenize=False
            )
            for messages in conversations
        ]
        inputs = self._tokenizer(
            prompts, add_special_tokens=False, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            output = self._model.generate(
                **inputs, do_sample=False, max_new_tokens=self._max_new_tokens
            )
        answers = output[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        return texts


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def report(scores: dict[str, dict[str, Score]]) -> str:
    """A Markdown table: a row for each task, a column for each precision."""
    names = list(scores)
    lines = [f"| task | cases | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    for task, first in scores[names[0]].items():
        cells = (f"{100 * scores[name][task].accuracy:.1f} %" for name in names)
        lines.append(f"| {task} | {first.total} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line: a table to read, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--per-task", type=int, default=400, help="cases of each task")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--json", type=Path, help="write the accuracies to this file")
    parser.add_argument("--mistakes", type=int, default=0, help="wrong answers to show of each")
    options = parser.parse_args(arguments)
    cases = held_out_cases(per_task=options.per_task, tasks=tuple(options.tasks))
    scores: dict[str, dict[str, Score]] = {}
    with _threads(2):
        for name, fake_q4 in (("float32", False), ("q4", True)):
            backend = TransformersBackend(options.checkpoint, fake_q4=fake_q4)
            scores[name] = evaluate(backend, cases)
    print(report(scores))
    for name, per_task in scores.items():
        for score in per_task.values():
            for case, answer in score.mistakes[: options.mistakes]:
                question = case.messages[-1]["content"]
                print(f"{name} {score.task}: {question!r} -> {answer!r}, not {case.expected!r}")
    if options.json:
        result = {
            "cases_per_task": options.per_task,
            "accuracy": {
                name: {task: round(score.accuracy, 4) for task, score in per_task.items()}
                for name, per_task in scores.items()
            },
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
