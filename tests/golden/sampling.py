"""Logits, settings and a seed to tokens: the definition in double precision, by full sorts.

Which tokens may be drawn is compared with transformers' logits warpers. Cases in which a number lies
within CLEARANCE of a border, where single precision may decide otherwise, get another seed.
"""

from collections import Counter
from typing import Any

import numpy as np
import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

MASK = 0xFFFFFFFF
CLEARANCE = 1e-6
LARGEST_FINITE = float(np.finfo(np.float32).max)
PROMPT = [3, 4, 5, 5]
INF = float("inf")

Rows = dict[str, Any]

SMALL: Rows = {"vocabulary": 40, "steps": 12, "seed": 1, "scale": 4.0, "peaks": 3, "lift": 4.0}
TIES: Rows = {"vocabulary": 300, "steps": 6, "seed": 2, "scale": 6.0, "levels": 1}
MIDDLE: Rows = {"vocabulary": 5000, "steps": 4, "seed": 3, "scale": 8.0, "peaks": 9, "lift": 5.0}
FLAT: Rows = {"vocabulary": 131072, "steps": 1, "seed": 4, "scale": 2.0}
PEAKED: Rows = {
    "vocabulary": 128256,
    "steps": 2,
    "seed": 5,
    "scale": 10.0,
    "peaks": 40,
    "lift": 9.0,
}
EQUAL: Rows = {"vocabulary": 31463, "steps": 2, "seed": 6, "scale": 0.0}
# Every 40th token alone says nothing of the others.
COMBS: list[Rows] = [
    {"vocabulary": 40000, "steps": 2, "seed": 8, "scale": 0.5, "comb": 40, "lift": lift}
    for lift in (2.0, -2.0)
]
MASKED: Rows = {"values": [[-INF, 0.5, -INF, 0.25, -INF], [-INF, -INF, -INF, -INF, -3.0]]}
FORCED: Rows = {"values": [[1.0, INF, 2.0, INF, -INF], [0.0, 0.0, INF, 0.0, 0.0]]}
HUGE: Rows = {"values": [[3e38, -3e38, 3.4028234663852886e38, 1.0], [-3e38, -3e38, 1e-45, 0.0]]}
ZEROS: Rows = {"values": [[-0.0, 0.0, -0.0, 0.0], [0.0, -0.0, -1.0, 0.0]]}
ONE: Rows = {"values": [[-7.0], [INF]]}
# None stands for NaN.
DAMAGED: Rows = {"values": [[1.0, None, 2.0], [1.0, 3.0, 2.0], [-INF, -INF, -INF], [0.0, 3.0, 2.0]]}

PENALTIES: list[dict[str, Any]] = [
    {"temperature": 0, "repetition_penalty": 1.5},
    {"repetition_penalty": 0.7, "presence_penalty": 0.5, "frequency_penalty": -0.25},
    {"temperature": 0, "presence_penalty": 2.0, "frequency_penalty": 1.0},
    {"repetition_penalty": 10, "top_p": 0.95, "top_k": 12},
    {"logit_bias": {"7": 3.5, "0": -100}},
    {"top_p": 0.9, "logit_bias": {str(i): -100 for i in range(20)}, "frequency_penalty": 0.5},
]
TRUNCATIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_p": 0.6},
    {"temperature": 0.7, "top_p": 0.9},
    {"top_p": 0.05},
    {"top_p": 0.999},
    {"top_k": 1},
    {"top_k": 20},
    {"top_k": 10, "top_p": 0.8},
    {"top_k": 2000, "top_p": 0.97, "temperature": 1.3},
    {"min_p": 0.1},
    {"min_p": 0.02, "temperature": 1.4, "top_p": 0.98},
    {"temperature": 1.2, "top_k": 25, "top_p": 0.9, "min_p": 0.05},
]
EXTREMES: list[dict[str, Any]] = [
    {"temperature": 5e-324},
    {"temperature": 1e-320, "top_p": 0.9},
    {"temperature": 1e-30, "top_p": 0.55, "min_p": 0.5},
    {"temperature": 1e-7},
    {"top_p": 0},
    {"top_p": 5e-324},
    {"top_p": 0.9999999999999999},
    {"min_p": 1},
    {"min_p": 5e-324},
    {"top_k": 9007199254740991},
    {"repetition_penalty": 0.01, "temperature": 2},
    {"repetition_penalty": 10, "temperature": 2},
    {"logit_bias": {"0": 100, "1": -100}, "temperature": 0.1},
]


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


def mix(words: np.ndarray) -> np.ndarray:
    """A hash of each uint32 (Wellons' lowbias32)."""
    words = words.astype(np.uint32)
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x7FEB352D)
    words ^= words >> np.uint32(15)
    words *= np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))


def logits(rows: Rows, step: int) -> np.ndarray:
    """float32 [vocabulary]: values that are given, or of a formula.

    The formula: with h_j = mix(4 id + j + 2^20 (8 seed + step)) / 2^32, a logit is
    scale (h_0 + h_1 + h_2 - 1.5); with `levels`, rounded down to multiples of 1 / levels; the tokens
    mix(i + 2^20 (8 seed + step)) mod vocabulary for i below `peaks` are `lift` higher; with `comb`,
    every so many tokens have the logit `lift`.
    """
    if "values" in rows:
        return np.array([np.nan if v is None else v for v in rows["values"][step]], np.float32)
    first = (8 * rows["seed"] + step) << 20
    ids = np.arange(rows["vocabulary"], dtype=np.uint32)
    parts = [mix(4 * ids + np.uint32(j + first)) / 2**32 for j in range(3)]
    values = rows["scale"] * (parts[0] + parts[1] + parts[2] - 1.5)
    if "levels" in rows:
        values = np.floor(values * rows["levels"]) / rows["levels"]
    for token in mix(np.arange(rows.get("peaks", 0)) + first):
        values[token % rows["vocabulary"]] += rows["lift"]
    if "comb" in rows:
        values[:: rows["comb"]] = rows["lift"]
    return values.astype(np.float32)


def _scores(row: np.ndarray, settings: dict[str, Any], drawn: list[int]) -> np.ndarray:
    scores = row.astype(np.float64)
    penalty = settings.get("repetition_penalty", 1)
    for token in set(PROMPT + drawn) & set(range(len(row))):
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    for token, times in Counter(drawn).items():
        scores[token] -= settings.get("presence_penalty", 0)
        scores[token] -= times * settings.get("frequency_penalty", 0)
    for token, bias in settings.get("logit_bias", {}).items():
        if int(token) < len(row):
            scores[int(token)] += bias
    finite = np.isfinite(scores)
    scores[finite] = np.clip(scores[finite], -LARGEST_FINITE, LARGEST_FINITE)
    return scores.astype(np.float32).astype(np.float64)


def _relative(scores: np.ndarray, temperature: float = 1) -> np.ndarray:
    """Logarithms of probabilities as parts of the largest."""
    highest = scores.max()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(scores == highest, 0, (scores - highest) / temperature)


def _kept(scores: np.ndarray, settings: dict[str, Any]) -> tuple[np.ndarray, float]:
    """The tokens that may be drawn, in order of id, and the share of those within CLEARANCE of a border."""
    probabilities = np.exp(_relative(scores, settings.get("temperature", 1)))
    order = np.lexsort((np.arange(len(scores)), -scores))[: settings.get("top_k")]
    top_p, min_p = settings.get("top_p", 1), settings.get("min_p", 0)
    shares = probabilities[order] / probabilities[order].sum()
    unsure = np.zeros(len(order), bool)
    if top_p < 1:
        sums = np.cumsum(shares)
        last = min(int((sums < top_p).sum()), len(order) - 1)
        unsure[1:] = np.abs(sums[:-1] - top_p) < CLEARANCE
        order = order[: last + 1]
    if min_p > 0:
        relative = shares / shares[0]
        unsure |= (np.abs(relative - min_p) < CLEARANCE) & (relative != min_p)
        order = order[probabilities[order] >= min_p]
    return np.sort(order), float(shares[unsure].sum())


def _as_transformers(scores: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """The tokens that transformers' warpers keep, in double precision."""
    warpers: list[LogitsProcessor] = [
        TemperatureLogitsWarper(float(settings.get("temperature", 1)))
    ]
    if settings.get("top_k"):
        warpers.append(TopKLogitsWarper(min(settings["top_k"], len(scores))))
    if settings.get("top_p", 1) < 1:
        warpers.append(TopPLogitsWarper(float(settings["top_p"])))
    if settings.get("min_p"):
        warpers.append(MinPLogitsWarper(float(settings["min_p"])))
    left = torch.tensor(scores)[None]
    for warp in warpers:
        left = warp(None, left)
    return np.flatnonzero(torch.isfinite(left[0]).numpy())


def _agrees_with_transformers(scores: np.ndarray, settings: dict[str, Any]) -> bool:
    """Where it can be asked: it keeps all equals of a last token, and can't divide by next to nothing."""
    kept, unsure = _kept(scores, settings)
    descending = np.sort(scores)[::-1]
    last = (scores[kept].min(), descending[min(settings.get("top_k", 1), len(scores)) - 1])
    ties = any((scores == border).sum() > 1 for border in last)
    if unsure or ties or settings.get("temperature", 1) < 0.01 or np.abs(scores[kept]).max() > 1e30:
        return True
    possible = np.exp(_relative(scores, settings.get("temperature", 1))) > 0
    theirs = _as_transformers(scores, settings)
    return np.array_equal(kept[possible[kept]], theirs[possible[theirs]])


def draw(scores: np.ndarray, settings: dict[str, Any], u: float) -> tuple[int, bool]:
    """The token, and whether rounding in single precision can't change it."""
    if settings.get("temperature", 1) == 0:
        return int(scores.argmax()), True
    kept, unsure = _kept(scores, settings)
    sums = np.cumsum(np.exp(_relative(scores[kept], settings.get("temperature", 1))))
    place = int((sums <= u * sums[-1]).sum())
    # The end is no border: what is drawn there is the last token in any case.
    borders = [sum / sums[-1] for sum in sums[max(place - 1, 0) : place + 1] if sum < sums[-1]]
    clear = all(abs(border - u) > 2 * (CLEARANCE + unsure) for border in borders)
    return int(kept[place]), clear


def logprobs(scores: np.ndarray) -> np.ndarray:
    relative = _relative(scores)
    return np.maximum(relative - np.log(np.exp(relative).sum()), -9999)


def _attempt(rows: Rows, settings: dict[str, Any], seed: int, choice: int) -> Any:
    """The case, or None if a number comes too near to a border for single precision."""
    drawn: list[int] = []
    samples: list[Any] = []
    for step in range(len(rows["values"]) if "values" in rows else rows["steps"]):
        row = logits(rows, step)
        if np.isnan(row).any() or np.isneginf(row).all():
            samples.append(None)
            continue
        scores = _scores(row, settings, drawn)
        token, clear = draw(scores, settings, uniform(seed, choice, len(drawn)))
        if not clear:
            return None
        assert _agrees_with_transformers(scores, settings), (rows, settings, step)
        relative = logprobs(scores)
        best = np.lexsort((np.arange(len(scores)), -scores))[: settings.get("top_logprobs", 0)]
        top = [[int(id), round(float(relative[id]), 7)] for id in best]
        samples.append([token, round(float(relative[token]), 7), top])
        drawn.append(token)
    return {"settings": settings, "seed": seed, "choice": choice, "samples": samples}


def _case(
    rows: Rows, settings: dict[str, Any], *, seed: int = 0, choice: int = 0, top: int = 0
) -> dict[str, Any]:
    settings = {**settings, "logprobs": True, "top_logprobs": top}
    for tries in range(400):
        # Another sampler's seed doesn't move the borders of top_p and min_p.
        tried = {**rows, "seed": rows["seed"] + tries} if "seed" in rows else rows
        case = _attempt(tried, settings, seed + 1000 * tries, choice)
        if case:
            return {"rows": _in_json(tried), **case}
    raise AssertionError((rows, settings))


def _in_json(rows: Rows) -> Rows:
    """JSON has no infinities: they are written as strings."""
    if "values" not in rows:
        return rows
    values = [[str(v) if v in (INF, -INF) else v for v in row] for row in rows["values"]]
    return {"values": values}


def _cases() -> list[dict[str, Any]]:
    cases = [
        _case(SMALL, settings, seed=seed)
        for settings in (*TRUNCATIONS, *PENALTIES)
        for seed in (0, 1, -1, 1234567890123456)
    ]
    cases += [_case(SMALL, {}, seed=1, choice=choice) for choice in (1, 2)]
    for rows, top in ((TIES, 5), (MIDDLE, 20), (FLAT, 3), (PEAKED, 3)):
        cases += [_case(rows, settings, seed=7, top=top) for settings in TRUNCATIONS]
    for rows in COMBS:
        some = [{"top_k": 20000}, {"top_p": 0.6}, {"temperature": 1.4, "top_p": 0.95}]
        cases += [_case(rows, settings, seed=7) for settings in some]
    # Shares of so many equals aren't multiples of these limits alone.
    alone = [settings for settings in TRUNCATIONS if len(settings) < 2 or "top_k" not in settings]
    alone += [{"logit_bias": {"0": 4, "62": -4}, **some} for some in ({"top_k": 7}, {"top_p": 0.6})]
    cases += [_case(EQUAL, settings, seed=7, top=3) for settings in alone]
    cases += [_case(rows, settings) for rows in (TIES, MIDDLE) for settings in PENALTIES]
    for rows in (TIES, MIDDLE, MASKED, FORCED, HUGE, ZEROS, ONE, DAMAGED):
        cases += [_case(rows, settings, seed=11, top=3) for settings in EXTREMES]
    return cases


def make() -> dict[str, Any]:
    # Known answers of the Random123 library's own tests.
    philox_cases = [
        {"counter": list(counter), "key": list(key), "words": list(philox(counter, key))}
        for counter, key in (
            ((0, 0, 0, 0), (0, 0)),
            ((MASK, MASK, MASK, MASK), (MASK, MASK)),
            ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)),
        )
    ]
    return {"prompt": PROMPT, "philox": philox_cases, "cases": _cases()}
