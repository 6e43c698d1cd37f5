"""Lists of faults, `tests/mutants/<area>.toml`, read and held against the sources."""

import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path("tests/mutants")
AREA_FIELDS = {"tests": list, "build": str, "mutant": list}
MUTANT_FIELDS = {"file": str, "old": str, "new": str, "why": str, "tests": list}
OPTIONAL = {"build", "tests"}


class ListError(ValueError):
    """Lists that can't be used; the message names all entries that are wrong."""


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new`. `tests` are pytest's arguments."""

    file: str
    line: int
    old: str
    new: str
    why: str
    tests: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def matches(self, text: str) -> bool:
        return any(text.lower() in part.lower() for part in (self.file, self.why, self.old))


@dataclass(frozen=True)
class Area:
    """The faults of one list, and the command that bundles their sources, if any does."""

    name: str
    build: tuple[str, ...]
    mutants: tuple[Mutant, ...]

    @property
    def tests(self) -> tuple[str, ...]:
        """What any of the faults is tried with, each once, in the list's order."""
        return tuple(dict.fromkeys(test for mutant in self.mutants for test in mutant.tests))


def read_areas(root: Path, names: Iterable[str], *, only: str = "") -> list[Area]:
    """The named areas of the checkout at `root`, or all; `only` the faults that have this text.

    Raises:
        ListError: an area has no list, a list is not of the format, or does not fit the sources.
    """
    lists = {path.stem: path for path in sorted((root / FOLDER).glob("*.toml"))}
    problems = [
        f"{FOLDER}/{name}.toml does not exist: there is {', '.join(lists) or 'no list'}"
        for name in names
        if name not in lists
    ]
    chosen = [name for name in lists if not names or name in names]
    areas = [_read_area(root, lists[name], problems) for name in chosen]
    if problems:
        raise ListError("\n".join(problems))
    selected = [
        Area(area.name, area.build, tuple(m for m in area.mutants if m.matches(only)))
        for area in areas
    ]
    if not any(area.mutants for area in selected):
        raise ListError(f"no fault of {', '.join(chosen) or 'any list'} has {only!r} in it")
    return [area for area in selected if area.mutants]


def _read_area(root: Path, path: Path, problems: list[str]) -> Area:
    where = str(path.relative_to(root))
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{where}: {error}")
        return Area(path.stem, (), ())
    if faulty := _wrong_fields(table, AREA_FIELDS, OPTIONAL):
        problems.append(f"{where}: {faulty}")
        return Area(path.stem, (), ())
    mutants = [
        mutant
        for number, entry in enumerate(table["mutant"], 1)
        if (mutant := _read_mutant(root, f"{where}, fault {number}", entry, table, problems))
    ]
    return Area(path.stem, tuple(shlex.split(table.get("build", ""))), tuple(mutants))


def _read_mutant(
    root: Path, where: str, entry: dict[str, Any], table: dict[str, Any], problems: list[str]
) -> Mutant | None:
    if faulty := _wrong_fields(entry, MUTANT_FIELDS, OPTIONAL):
        problems.append(f"{where}: {faulty}")
        return None
    where = f"{where} ({entry['why']})"
    tests = entry.get("tests", table.get("tests", []))
    missing = [test for test in tests if not (root / test.split("::")[0]).exists()]
    if not tests or missing:
        problems.append(f"{where}: tests {missing} do not exist" if tests else f"{where}: no tests")
    if not (root / entry["file"]).is_file():
        problems.append(f"{where}: {entry['file']} does not exist")
        return None
    source = (root / entry["file"]).read_text()
    found = source.count(entry["old"]) if entry["old"] else 0
    if found != 1:
        problems.append(f"{where}: `old` is {found} times in {entry['file']}, not once")
    if entry["old"] == entry["new"]:
        problems.append(f"{where}: `new` is `old`")
    line = source.count("\n", 0, source.find(entry["old"])) + 1
    return Mutant(entry["file"], line, entry["old"], entry["new"], entry["why"], tuple(tests))


def _wrong_fields(table: Any, known: dict[str, type], optional: set[str]) -> str:
    if not isinstance(table, dict):
        return f"{table!r} is not a table"
    wrong = [f"`{name}` is unknown" for name in table if name not in known]
    wrong += [f"`{name}` is missing" for name in known if name not in table.keys() | optional]
    wrong += [
        f"`{name}` must be a {kind.__name__}"
        for name, kind in known.items()
        if name in table and not isinstance(table[name], kind)
    ]
    return ", ".join(wrong)
