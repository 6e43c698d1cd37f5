"""Logits, settings and a seed to tokens: the definitions in NumPy's double precision."""

from collections import Counter
from typing import Any

import numpy as np

MASK = 0xFFFFFFFF
STEPS = 12
VOCABULARY = 40
PROMPT = [3, 4, 5, 5]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_p": 0.6},
    {"top_p": 0.05},
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.5},
    {"repetition_penalty": 0.7, "presence_penalty": 0.5, "frequency_penalty": -0.25},
    {"temperature": 0, "presence_penalty": 2.0, "frequency_penalty": 1.0},
    {"logit_bias": {"7": 3.5, "0": -100}},
    {"top_p": 0.9, "logit_bias": {str(i): -100 for i in range(20)}},
]
SEEDS = [0, 1, -1, 1234567890123456]


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10."""
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ left, q & MASK, (p >> 32) ^ d ^ right, p & MASK
        left, right = (left + 0x9E3779B9) & MASK, (right + 0xBB67AE85) & MASK
    return a, b, c, d


def uniform(seed: int, choice: int, position: int) -> float:
    """In [0, 1), a multiple of 2^-32."""
    words = philox((position, choice, 0, 0), (seed & MASK, (seed >> 32) & MASK))
    return words[0] / 2**32


def logits(step: int) -> np.ndarray:
    """float32 [vocabulary] with a few likely tokens, exact in JSON."""
    ids = np.arange(VOCABULARY)
    waves = 3 * np.sin(1.7 * ids + 0.9 * step) + 2 * np.cos(0.31 * ids * (step + 1))
    return np.round(waves, 3).astype(np.float32)


def _scores(step: int, settings: dict[str, Any], drawn: list[int]) -> np.ndarray:
    scores = logits(step).astype(np.float64)
    penalty = settings.get("repetition_penalty", 1)
    for token in {*PROMPT, *drawn}:
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    for token, count in Counter(drawn).items():
        scores[token] -= settings.get("presence_penalty", 0)
        scores[token] -= count * settings.get("frequency_penalty", 0)
    for token, bias in settings.get("logit_bias", {}).items():
        scores[int(token)] += bias
    return scores


def _draw(scores: np.ndarray, settings: dict[str, Any], u: float) -> int:
    temperature, top_p = settings.get("temperature", 1), settings.get("top_p", 1)
    if temperature == 0:
        return int(scores.argmax())
    powers = np.exp(scores / temperature - (scores / temperature).max())
    probabilities = powers / powers.sum()
    order = sorted(range(VOCABULARY), key=lambda token: (-probabilities[token], token))
    kept = order
    if top_p < 1:
        sums = np.cumsum(probabilities[order])
        kept = order[: int((sums < top_p).sum()) + 1]
    kept = sorted(kept)
    sums = np.cumsum(probabilities[kept])
    return kept[int((sums <= u * sums[-1]).sum())]


def _case(settings: dict[str, Any], seed: int, choice: int) -> dict[str, Any]:
    drawn: list[int] = []
    logprobs = []
    for step in range(STEPS):
        scores = _scores(step, settings, drawn)
        token = _draw(scores, settings, uniform(seed, choice, step))
        logprobs.append(float(scores[token] - np.logaddexp.reduce(scores)))
        drawn.append(token)
    return {
        "settings": settings,
        "seed": seed,
        "choice": choice,
        "tokens": drawn,
        "logprobs": [round(value, 9) for value in logprobs],
    }


def make() -> dict[str, Any]:
    cases = [_case(settings, seed, 0) for settings in SETTINGS for seed in SEEDS]
    cases += [_case({}, 1, choice) for choice in (1, 2)]
    # Known answers of the Random123 library's own tests.
    philox_cases = [
        {"counter": list(counter), "key": list(key), "words": list(philox(counter, key))}
        for counter, key in (
            ((0, 0, 0, 0), (0, 0)),
            ((MASK, MASK, MASK, MASK), (MASK, MASK)),
            ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)),
        )
    ]
    return {
        "logits": [[float(value) for value in logits(step)] for step in range(STEPS)],
        "prompt": PROMPT,
        "philox": philox_cases,
        "cases": cases,
    }
