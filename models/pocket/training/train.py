"""Train the embedded model from scratch: `python -m models.pocket.training.train --out models/pocket`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from models.pocket.training import conversations
from models.pocket.training.model import PocketModel
from models.pocket.training.packing import Batch, batches
from models.pocket.training.shape import ModelShape, TrainSettings
from models.pocket.training.tokenizer import (
    END_OF_TEXT_ID,
    TURN_END_ID,
    TURN_START_ID,
    save_tokenizer,
    train_tokenizer,
)

logger = logging.getLogger(__name__)


def make_optimizers(model: nn.Module, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and name.startswith("layers.")]
    rest = [p for name, p in named if p.ndim != 2 or not name.startswith("layers.")]
    return [
        torch.optim.Muon(
            matrices, lr=settings.matrix_rate, weight_decay=settings.weight_decay, momentum=0.95
        ),
        torch.optim.AdamW(rest, lr=settings.vector_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_at(step: int, settings: TrainSettings) -> float:
    """The share of the full learning rate: warm-up, constant, then linearly to zero."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    remaining = (settings.steps - step) / (settings.steps * settings.decay_share)
    return min(warm, remaining, 1.0)


def save_checkpoint(
    model: PocketModel, tokenizer: Tokenizer, folder: Path, *, context_tokens: int
) -> None:
    """Write the Hugging Face layout; the weights appear whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder, max_length=context_tokens)
    generation = {
        "bos_token_id": TURN_START_ID,
        "eos_token_id": [TURN_END_ID, END_OF_TEXT_ID],
        "pad_token_id": END_OF_TEXT_ID,
        "do_sample": False,
        "max_new_tokens": 128,
    }
    for name, content in (
        ("config.json", model.shape.to_config()),
        ("generation_config.json", generation),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    weights = {
        f"model.{name}": tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    partial = folder / "model.safetensors.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    os.replace(partial, folder / "model.safetensors")


def _tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arrays = (batch.tokens, batch.positions, batch.documents, batch.targets)
    tokens, positions, documents, targets = (torch.from_numpy(array) for array in arrays)
    return tokens, positions, documents, targets


def _begin(
    start: Path | None, shape: ModelShape, settings: TrainSettings
) -> tuple[PocketModel, Tokenizer]:
    model = PocketModel(shape)
    if start is None:
        corpus = islice(conversations.stream(settings.seed), settings.tokenizer_conversations)
        return model, train_tokenizer(corpus, vocab_size=shape.vocab_size)
    weights = load_file(start / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): w for name, w in weights.items()})
    return model, Tokenizer.from_file(str(start / "tokenizer.json"))


def train(
    out: Path, shape: ModelShape, settings: TrainSettings, *, start: Path | None = None
) -> list[float]:
    """Train and save to `out`, also on the way; returns the loss of each step.

    With `start`, the weights and the tokenizer of that checkpoint are trained further.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    model, tokenizer = _begin(start, shape, settings)
    optimizers = make_optimizers(model, settings)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    sources = [
        batches(
            tokenizer,
            seed=settings.seed + 1,
            batch_tokens=settings.batch_tokens,
            row_tokens=row_tokens,
            long=long,
        )
        for row_tokens, long in ((settings.row_tokens, False), (shape.context_tokens, True))
    ]
    losses: list[float] = []
    progress = tqdm(range(settings.steps), unit="step", mininterval=5.0)
    for step in progress:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * rate_at(step, settings)
        # Some batches stay unrounded, so that the full-precision model is as good as the rounded.
        rounding = step >= settings.quantize_from * settings.steps
        model.quantize(rounding and (step * settings.quantize_share) % 1 < settings.quantize_share)
        batch = next(sources[(step + 1) % settings.long_every == 0])
        loss = model.loss(*_tensors(batch))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if step % 20 == 0:
            progress.set_postfix(loss=f"{sum(losses[-20:]) / len(losses[-20:]):.4f}")
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            save_checkpoint(model, tokenizer, out, context_tokens=shape.context_tokens)
    return losses


def _add_options(parser: argparse.ArgumentParser, defaults: ModelShape | TrainSettings) -> None:
    for field in fields(defaults):
        value = getattr(defaults, field.name)
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")


def main(arguments: list[str] | None = None) -> None:
    """The command line: every setting of the shape and the training is an option."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    shape, settings = ModelShape(), TrainSettings()
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to train further")
    _add_options(parser, shape)
    _add_options(parser, settings)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shape = replace(shape, **{f.name: options[f.name] for f in fields(shape)})
    settings = replace(settings, **{f.name: options[f.name] for f in fields(settings)})
    started = time.monotonic()
    train(options["out"], shape, settings, start=options["start"])
    elapsed_s = time.monotonic() - started
    tokens = settings.steps * settings.batch_tokens
    logger.info("%d tokens in %.0f s, %.0f tokens/s", tokens, elapsed_s, tokens / elapsed_s)


if __name__ == "__main__":
    main()
