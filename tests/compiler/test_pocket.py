"""The embedded model, compiled to 4 bits, is as good on held-out questions as in float32."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from models.pocket.training.cases import held_out_cases
from models.pocket.training.dialogue import Message
from models.pocket.training.evaluate import TransformersBackend, evaluate
from tests.build.conftest import run_build
from tests.compiler.one_sequence import OneSequence

POCKET = Path(__file__).parents[2] / "models" / "pocket"
PER_TASK = 60
LONGEST_ANSWER = 64
TWO_POINTS = 0.02


class CompiledBackend:
    """Answers greedily with a native library."""

    def __init__(self, bundle: Path) -> None:
        self._runner = OneSequence(bundle)
        self._tokenizer = AutoTokenizer.from_pretrained(POCKET)

    def generate(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        return [self._answer(messages) for messages in conversations]

    def _answer(self, messages: Sequence[Message]) -> str:
        self._runner.reset()
        prompt = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        logits = self._runner.prefill(prompt["input_ids"])
        answer: list[int] = []
        while (token := int(logits.argmax())) != self._tokenizer.eos_token_id:
            answer.append(token)
            if len(answer) == LONGEST_ANSWER:
                break
            logits = self._runner.decode(token)
        return self._tokenizer.decode(answer)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pocket") / "pocket-q4f32_1"
    result = run_build(POCKET, "--target", "native", "--quant", "q4f32_1", "-o", output)
    assert result.returncode == 0, result.stderr
    return output


def test_compiled_model_stays_within_two_points_of_float32(bundle: Path):
    tasks = ("arithmetic", "capitals", "names", "facts")
    cases = held_out_cases(per_task=PER_TASK, tasks=tasks)
    compiled = evaluate(CompiledBackend(bundle), cases)
    reference = evaluate(TransformersBackend(POCKET), cases)
    for task in tasks:
        assert compiled[task].accuracy >= reference[task].accuracy - TWO_POINTS, compiled[
            task
        ].mistakes
