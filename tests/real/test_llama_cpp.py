"""The same file gives the same greedy answers as in llama.cpp, until two tokens tie.

Both round activations to 8 bits where weights have few: that moves log probabilities by a tenth (llama.cpp
parts from itself at leads of up to 0.3 when only its cache's type changes). So the same values in float32,
which nothing rounds, hold what is computed, and the file as it is what people get.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlc_edge import MLCEngine
from tests.real.questions import QUESTIONS, chat

pytestmark = pytest.mark.real
ANSWER_TOKENS = 32
# Differences of logits up to which two tokens tie.
TIE = {"q4_1": 0.75, "f32": 1e-3}


@dataclass(frozen=True)
class Compared:
    """An engine, and what llama.cpp answers with the same weights."""

    engine: MLCEngine
    answers: list[dict[str, Any]]
    tie: float


def llama_cpp(peer: Path, *arguments: object, text: str = "") -> None:
    command = [str(peer), str(Path(__file__).with_name("llama_cpp_answers.py"))]
    subprocess.run([*command, *map(str, arguments)], input=text, text=True, check=True)


@pytest.fixture(scope="module", params=TIE)
def compared(
    request: pytest.FixtureRequest, gguf: Path, peer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compared]:
    folder = tmp_path_factory.mktemp("llama_cpp")
    if request.param == "f32":
        file, bundle = folder / "f32.gguf", request.getfixturevalue("exact_bundle")
        llama_cpp(peer, gguf, "requantize", file)
    else:
        file, bundle = gguf, request.getfixturevalue("bundle")
    answers = folder / "answers.json"
    text = json.dumps([chat(question) for question in QUESTIONS])
    llama_cpp(peer, file, ANSWER_TOKENS, answers, text=text)
    with MLCEngine(bundle) as engine:
        yield Compared(engine, json.loads(answers.read_text()), TIE[request.param])


def test_greedy_answers_are_the_same_until_a_tie(compared: Compared):
    partings = []
    for question, theirs in zip(QUESTIONS, compared.answers, strict=True):
        answer = compared.engine.chat.completions.create(
            messages=chat(question),
            temperature=0,
            max_tokens=len(theirs["tokens"]),
            ignore_eos=True,
            logprobs=True,
            top_logprobs=2,
        )
        assert answer.usage.prompt_tokens == len(theirs["prompt"])
        ours = answer.choices[0].logprobs.content
        pairs = zip(ours, theirs["pieces"], strict=True)
        place = next((n for n, (a, b) in enumerate(pairs) if list(a.bytes) != b), None)
        if place is not None:
            first, second = (top.logprob for top in ours[place].top_logprobs)
            partings.append((question, place, round(first - second, 4), theirs["leads"][place]))
    for question, place, lead, their_lead in partings:
        print(f"{question!r}: token {place}, leads {lead:.4f} here and {their_lead:.4f} there")
    print(f"{len(QUESTIONS) - len(partings)} of {len(QUESTIONS)} answers are the same")
    assert all(lead < compared.tie for _, _, lead, _ in partings)


def test_each_token_of_llama_cpps_answers_is_the_likeliest_or_ties(compared: Compared):
    """Behind a tie, too."""
    behind = []
    for theirs in compared.answers:
        prompt = theirs["prompt"] + theirs["tokens"]
        echo = compared.engine.completions.create(
            prompt=prompt, echo=True, logprobs=1, max_tokens=0, temperature=0
        )
        scores = echo.choices[0].logprobs
        first = len(theirs["prompt"])
        pairs = zip(scores.token_logprobs[first:], scores.top_logprobs[first:], strict=True)
        behind += [max(top.values()) - token for token, top in pairs]
    ties = sum(lead > 0 for lead in behind)
    print(f"{ties} of {len(behind)} tokens are second here, by at most {max(behind):.5f}")
    assert max(behind) < compared.tie
