"""MLC's conversation templates say what Jinja templates say: transformers renders the latter."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.build.checkpoints import POCKET, write_checkpoint
from tests.build.conftest import run_build
from webbuild.conv_template import MLC_LLM, WEB_LLM, derive_conv_template
from webbuild.model_folder import ChatFiles

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] +"
    " '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must take turns') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token"
    " + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system') }}"
    "{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
THINKING = CHATML.replace("assistant\n' }}", "assistant\n<think>\n\n</think>\n\n' }}")
POCKETS = json.loads((POCKET / "tokenizer_config.json").read_text())["chat_template"]
COUNTING = CHATML.replace("'<|im_end|>'", "(messages | length) | string")
PREFACED = "{% if messages[0]['role'] != 'system' %}Hi! {% endif %}" + CHATML
FOURTH_TURN = CHATML.replace("'\n' }}{% endfor", "('-' if loop.index == 7 else '\n') }}{% endfor")
BEGINS_SOMETIMES = "{{ bos_token if messages[0]['role'] == 'user' }}" + CHATML
SYSTEM_LAST = (
    "{% for message in messages if message['role'] != 'system' %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' }}{% if loop.last and messages[0]['role'] == 'system' %}"
    "{{ messages[0]['content'] + '\n\n' }}{% endif %}{{ message['content'] + '[/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
EXPRESSIBLE = {
    "chatml": CHATML,
    "qwen": QWEN,
    "llama 2": LLAMA_2,
    "llama 3": LLAMA_3,
    "mistral": MISTRAL,
    "zephyr": ZEPHYR,
    "gemma": GEMMA,
    "empty thoughts": THINKING,
    "pocket": POCKETS,
}
INEXPRESSIBLE = {
    "date": ("{{ strftime_now('%Y') }}" + CHATML, "it writes the date of the day"),
    "counting": (COUNTING, "otherwise as others"),
    "last only": ("{{ messages[-1]['content'] }}", "it leaves messages out"),
    "twice": (CHATML + CHATML, "it leaves messages out, repeats them"),
    "refusal": ("{{ raise_exception('never') }}", "it refuses a conversation (never)"),
    "fault": ("{{ messages[0]['content'] + 1 }}", "it refuses a conversation"),
    "syntax": ("{% if %}", "it refuses a conversation"),
    "preface": (PREFACED, "is no system prompt"),
    "fourth turn": (FOURTH_TURN, "4 turns without a system prompt"),
    "begins sometimes": (BEGINS_SOMETIMES, "only some conversations begin with <s>"),
    "system last": (SYSTEM_LAST, "2 turns with a system prompt"),
}


def chat_files(template: str) -> ChatFiles:
    added = [
        {"id": 0, "content": "<pad>"},
        {"id": 1, "content": "<s>"},
        {"id": 2, "content": "</s>"},
    ]
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": template}
    return ChatFiles({"added_tokens": added}, config, {"eos_token_id": 2})


def rendered_by_transformers(template: str, messages: Sequence[dict[str, str]]) -> str:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(POCKET / "tokenizer.json"), bos_token="<s>", eos_token="</s>"
    )
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )


def rendered_by_mlc(
    fields: dict[str, Any], messages: Sequence[dict[str, str]], *, web_llm: bool
) -> str:
    """What mlc_llm/protocol/conversation_protocol.py and WebLLM's conversation.ts do, line by line."""
    system_message = fields["system_message"]
    pairs = []
    for message in messages:
        if message["role"] == "system":
            system_message = message["content"]
        else:
            pairs.append((message["role"], message["content"]))
    system = fields["system_template"].replace("{system_message}", system_message)
    if web_llm and system_message == "" and fields["render_empty_system_message"] is False:
        system = ""
    prompt = "".join({1: "<s>"}[token] for token in fields.get("system_prefix_token_ids", []))
    prompt += system
    separators = fields["seps"] if len(fields["seps"]) == 2 else fields["seps"] * 2
    for i, (role, content) in enumerate(pairs):
        if fields["add_role_after_system_message"] or system == "" or i > 0:
            prompt += fields["roles"][role] + fields["role_content_sep"]
        place = {"user": "{user_message}", "assistant": "{assistant_message}"}[role]
        prompt += fields["role_templates"][role].replace(place, content)
        prompt += separators[i % 2 if web_llm else int(role == "assistant")]
    return prompt + fields["roles"]["assistant"] + fields["role_empty_sep"]


def conversation(turns: int, system: str | None) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system else []
    for turn in range(turns):
        messages += [{"role": "user", "content": f"What is {turn} + 2?\n\nPlease: $1."}]
        messages += [{"role": "assistant", "content": f"It is {turn + 2}, (of course)"}]
    return messages[:-1]


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_conversations_read_as_the_jinja_template_has_them(name: str):
    template = EXPRESSIBLE[name]
    found = derive_conv_template(chat_files(template))
    assert WEB_LLM not in found.problems
    takes_system = name not in ("mistral", "gemma")
    for system in (None, "Add numbers.") if takes_system else (None,):
        for turns in (1, 2, 3, 5):
            messages = conversation(turns, system)
            expected = rendered_by_transformers(template, messages)
            assert rendered_by_mlc(found.fields, messages, web_llm=True) == expected
            if system or MLC_LLM not in found.problems:
                assert rendered_by_mlc(found.fields, messages, web_llm=False) == expected


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_mlcs_own_engine_is_named_where_it_renders_empty_system_prompts(name: str):
    problems = derive_conv_template(chat_files(EXPRESSIBLE[name])).problems
    expected = "one turn without a system prompt can't be said"
    always = name in ("qwen", "mistral", "gemma")
    assert problems == ({} if always else {MLC_LLM: expected})


def test_a_default_system_prompt_becomes_mlcs():
    fields = derive_conv_template(chat_files(QWEN)).fields
    assert fields["system_message"] == "You are a helpful assistant."


def test_all_fields_of_mlc_are_there():
    """Those that mlc_llm's C++ reader looks up (cpp/json_ffi/conv_template.cc), and Python's beyond them."""
    fields = derive_conv_template(chat_files(LLAMA_3)).fields
    assert fields["stop_token_ids"] == [2]
    assert fields["system_prefix_token_ids"] == [1]
    kinds = {
        "name": str,
        "system_template": str,
        "system_message": str,
        "add_role_after_system_message": bool,
        "roles": dict,
        "role_templates": dict,
        "messages": list,
        "seps": list,
        "role_content_sep": str,
        "role_empty_sep": str,
        "stop_str": list,
        "stop_token_ids": list,
        "function_string": str,
        "use_function_calling": bool,
    }
    assert {name: type(fields[name]) for name in kinds} == kinds
    assert fields["role_templates"].keys() >= {"user", "assistant", "tool"}


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_what_cannot_be_said_is_left_out_with_its_reason(name: str):
    template, reason = INEXPRESSIBLE[name]
    found = derive_conv_template(chat_files(template))
    assert found.problems.keys() == {WEB_LLM, MLC_LLM}
    assert reason in found.problems[WEB_LLM]
    assert found.fields == {"name": "chat_template", "stop_str": [], "stop_token_ids": [2]}


def test_the_build_warns_of_runtimes_that_would_chat_otherwise(tmp_path: Path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "chat_template.jinja").write_text("{{ strftime_now('%d') }}" + CHATML)
    options = ("--target", "native", "--quant", "q0f32")
    result = run_build(checkpoint, *options, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    (warning,) = warnings
    assert "MLC LLM can't chat with this bundle" in warning
    assert "it writes the date of the day" in warning
    config = json.loads((tmp_path / "out" / "mlc-chat-config.json").read_text())
    assert "roles" not in config["conv_template"]


def test_a_bundle_for_browsers_has_the_template_of_its_checkpoint(browser_bundle: Path):
    config = json.loads((browser_bundle / "mlc-chat-config.json").read_text())
    messages = conversation(2, None)
    expected = rendered_by_transformers(POCKETS, messages)
    assert rendered_by_mlc(config["conv_template"], messages, web_llm=True) == expected
