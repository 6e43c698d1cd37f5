"""Fields of an untrusted request: what each must be, and errors that name it."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from mlc_edge.errors import EngineError

# JavaScript's numbers hold whole ones up to here.
LARGEST_WHOLE = 2**53 - 1
MOST_SHOWN = 60

Params = Mapping[str, Any]


def invalid(param: str, message: str, remedy: str) -> EngineError:
    """The error for a field."""
    return EngineError("invalid_request", f"{message}.", remedy, param)


def an_object(value: object, name: str) -> Params:
    """A JSON object."""
    if isinstance(value, Mapping):
        return value
    raise invalid(name, f"{name} must be an object", "See OpenAI's API reference.")


def number(given: Params, name: str, *, low: float, high: float) -> float | None:
    """A number between two, or None."""
    value = given.get(name)
    if value is None:
        return None
    if is_number(value) and low <= value <= high:
        found: float = value
        return found
    raise invalid(name, f"{name} is {show(value)}", f"Use a number from {low} to {high}.")


def whole(given: Params, name: str, low: int, high: int) -> int | None:
    """A whole number between two, or None."""
    value = given.get(name)
    if value is None:
        return None
    if is_whole(value) and low <= value <= high:
        return int(value)
    raise invalid(name, f"{name} is {show(value)}", f"Use a whole number from {low} to {high}.")


def flag(given: Params, name: str) -> bool | None:
    """True, False or None."""
    value = given.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise invalid(name, f"{name} is {show(value)}", "Use true or false.")


def text(value: object, at: str) -> str:
    """Text that a tokenizer can take."""
    if not isinstance(value, str):
        raise invalid(at, f"{at} must be text", "Give a string.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"{at} has half of a surrogate pair at position {error.start}"
        raise invalid(at, half, "Give whole characters.") from error
    return value


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a JSON number; infinite ones and NaN are, too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether it is a number without a fraction."""
    return is_number(value) and value % 1 == 0


def show(value: object) -> str:
    """A value in an error message: short, and whatever it is."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return "a number beyond 2^53"
    if isinstance(value, str):
        shortened = f"{value[: MOST_SHOWN - 3]}..." if len(value) > MOST_SHOWN else value
        return json.dumps(safe(shortened), ensure_ascii=False)
    is_json = value is None or isinstance(value, bool | int | float)
    return json.dumps(value) if is_json else repr(value)[:MOST_SHOWN]


def safe(text: str) -> str:
    """Foreign text for an error message: short, and of whole characters."""
    return text[: 2 * MOST_SHOWN].encode(errors="replace").decode()
