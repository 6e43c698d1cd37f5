"""Names of GGUF files; large models are in several, `name-00001-of-00003.gguf` and so on."""

import re

SUFFIX = ".gguf"
PART = re.compile(r"(?P<name>.+)-00001-of-(?P<count>\d{5})\.gguf")
# The Hub holds files of up to 50 GB.
MOST_PARTS = 1000


def is_gguf(name: str) -> bool:
    """Whether a file of this name is a GGUF file."""
    return name.lower().endswith(SUFFIX)


def part_names(name: str) -> list[str]:
    """The names of the files that a model is in, of which `name` is the first, or the only one."""
    match = PART.fullmatch(name)
    count = int(match["count"]) if match else 1
    if match is None or not 1 < count <= MOST_PARTS:
        return [name]
    return [f"{match['name']}-{index:05}-of-{match['count']}.gguf" for index in range(1, count + 1)]


def model_name(name: str) -> str:
    """What to call the model in a file of this name."""
    match = PART.fullmatch(name)
    return match["name"] if match else name[: -len(SUFFIX)]
