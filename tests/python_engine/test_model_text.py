"""What the engine takes from a bundle's files about text: the golden vectors of both engines."""

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import SecurityError

from mlc_edge.chat_template import ChatTemplate
from mlc_edge.engine.model_text import read_model_text
from mlc_edge.engine.protocol import ChatMessage
from mlc_edge.engine.sampling_defaults import chat_sampling
from mlc_edge.errors import BundleError
from tests.golden import make
from tests.web.fakes import TEMPLATE, write_bundle

GOLDEN = json.loads((make.FOLDER / "model_text.json").read_text())
CASES, REFUSED = GOLDEN["cases"], GOLDEN["refused"]
FIELDS = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "minP": "min_p",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "repetitionPenalty": "repetition_penalty",
}


@pytest.mark.parametrize("index", range(len(CASES)))
def test_a_bundles_files_say_what_its_text_is(index: int, tmp_path: Path):
    case: dict[str, Any] = CASES[index]
    files = {
        "mlc-chat-config.json": json.dumps(case["chat"]).encode(),
        "generation_config.json": json.dumps(case["generation"] or {}).encode(),
    }
    if case["template_file"]:
        files["chat_template.jinja"] = f"!{TEMPLATE}".encode()
    text = read_model_text(write_bundle(tmp_path, files))
    sampling = text.facts.defaults
    assert {name: getattr(sampling, FIELDS[name]) for name in FIELDS} == case["defaults"]
    assert text.sampling == case["sampling"]
    assert chat_sampling(text.sampling) == case["chat_sampling"]
    assert sorted(text.stop_tokens) == case["stop_tokens"]
    assert text.active_vocab_size == case["active_vocab_size"]
    assert text.facts.vocab_size == case["chat"]["vocab_size"]
    ids = text.conversation.tokens([ChatMessage("user", "Hi")])
    written = b"".join(map(text.vocabulary.bytes, ids)).decode()
    assert written == ("!Hi" if case["template_file"] else "Hi")


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_values_that_no_engine_takes_are_refused(index: int, tmp_path: Path):
    case = REFUSED[index]
    path, field = case["file"], case["field"]
    bundle = write_bundle(tmp_path, {"generation_config.json": b"{}"})
    content = {**json.loads((bundle / path).read_text()), field: case["value"]}
    changed = {"generation_config.json": b"{}", path: json.dumps(content).encode()}
    with pytest.raises(BundleError, match=path):
        read_model_text(write_bundle(tmp_path / "changed", changed))


@pytest.mark.parametrize(
    "expression",
    ["'x' * 10**9", "10**9 * 'x'", "[0] * 10**9", "2 ** (10**9)", "7 ** (10**8) * 2"],
)
def test_a_templates_expressions_do_not_fill_the_memory(expression: str):
    template = ChatTemplate({"chat_template": "{{ " + expression + " }}"})
    with pytest.raises(SecurityError, match="beyond what templates may make"):
        template.render([])


def test_templates_multiply_what_is_small():
    template = ChatTemplate(
        {"chat_template": "{{ '-' * 20 }}{{ 3 * 4 }}{{ 2 ** 10 }}{{ 1.5 * 2 }}"}
    )
    assert template.render([]) == "-" * 20 + "12" + "1024" + "3.0"
