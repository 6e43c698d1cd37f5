import json
from itertools import islice
from pathlib import Path

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from models.pocket.training.cases import held_out_cases
from models.pocket.training.conversations import stream
from models.pocket.training.evaluate import evaluate
from models.pocket.training.shape import ModelShape
from models.pocket.training.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, render

FOLDER = Path(__file__).parents[2] / "models" / "pocket"
MAX_BYTES = 8_000_000


def read_json(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_the_folder_is_complete_and_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "evaluation.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MAX_BYTES


def test_the_configuration_is_the_default_shape():
    config = read_json("config.json")
    assert config == ModelShape().to_config()
    assert config["hidden_size"] % 32 == 0
    assert config["intermediate_size"] % 32 == 0


def test_the_weights_are_float16_and_named_as_llama():
    with safe_open(FOLDER / "model.safetensors", framework="numpy") as weights:
        names = set(weights.keys())
        assert {weights.get_tensor(name).dtype.name for name in names} == {"float16"}
        shape = ModelShape()
        assert weights.get_slice("model.embed_tokens.weight").get_shape() == [
            shape.vocab_size,
            shape.hidden_size,
        ]
    assert len(names) == 2 + 9 * shape.layers


def test_the_tokenizer_knows_every_byte():
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == ModelShape().vocab_size
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]
    # Every code point block, hence every byte that UTF-8 uses, outside the surrogates.
    text = "".join(chr(c) for c in range(0, 0x11000, 7) if not 0xD800 <= c <= 0xDFFF)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert read_json("tokenizer_config.json")["chat_template"] == CHAT_TEMPLATE


def test_answers_fit_the_context():
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    for messages in islice(stream(9), 50):
        assert len(tokenizer.encode(render(messages)).ids) <= ModelShape().context_tokens


def test_the_model_card_shows_the_measured_accuracies():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    accuracy = read_json("evaluation.json")["accuracy"]
    for task, share in accuracy["float32"].items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {task} |"))
        assert f"| {100 * share:.1f} % | {100 * accuracy['q4'][task]:.1f} % |" in row


@pytest.fixture(scope="module")
def scores():
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from models.pocket.training.evaluate import TransformersBackend

    tasks = ("arithmetic", "capitals", "names", "facts")
    cases = held_out_cases(per_task=120, tasks=tasks)
    return evaluate(TransformersBackend(FOLDER, max_new_tokens=40), cases)


@pytest.mark.parametrize(
    ("task", "minimum"),
    [("arithmetic", 0.95), ("capitals", 0.99), ("names", 0.95), ("facts", 0.95)],
)
def test_held_out_accuracy(scores, task, minimum):
    assert scores[task].accuracy >= minimum, scores[task].mistakes[:5]
