"""Rooms import each other in one direction only, and running needs no compiler."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from webbuild.fingerprint import BORDERS

ROOT = Path(__file__).parent.parent
ROOMS = ("mlc_edge", "webbuild", "web", "edge")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, ast.Module]:
    return {
        module_name(path): ast.parse(path.read_text(), str(path))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
    }


def imports_at_load(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Names of project modules imported while `name` is being imported (not inside functions)."""
    found: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= names or {node.module}
        pending.extend(ast.iter_child_nodes(node))
    return (found & known) - {name}


def test_modules_form_no_import_cycle():
    trees = modules()
    graph = {name: imports_at_load(name, tree, set(trees)) for name, tree in trees.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "import cycle: " + " -> ".join((*path, name))
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("mlc_edge", ("webbuild", "web", "edge")),
        ("webbuild", ("web", "edge")),
        ("web", ("webbuild", "edge")),
        ("edge", ("webbuild",)),
    ],
)
def test_data_flows_one_way(room: str, forbidden: tuple[str, ...]):
    for name, tree in modules().items():
        if name.split(".")[0] != room:
            continue
        for node in ast.walk(tree):
            targets = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for target in targets:
                assert target.split(".")[0] not in forbidden, f"{name} imports {target}"


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(chr(10).join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(result.stdout.split())


def test_serving_loads_neither_compiler_nor_training():
    loaded = loaded_after("import mlc_edge.cli, web.cli, web.host, mlc_edge.bundle")
    assert not {name for name in loaded if name.split(".")[0] in ("tvm", "torch", "webbuild")}


def test_what_a_build_imports_is_in_its_fingerprint():
    """A bundle is built again when code changes that shaped it; not what only fails, signs or compares."""
    others = ("errors", "files", "folders", "model_runner", "signing", "verification")
    shapes_nothing = {f"mlc_edge.{name}" for name in others}
    trees = modules()
    imported = {
        target
        for name, tree in trees.items()
        if name.startswith("webbuild.")
        for target in imports_at_load(name, tree, set(trees))
        if target.startswith("mlc_edge.")
    }
    assert imported - shapes_nothing <= {module.__name__ for module in BORDERS}


def test_files_stay_readable():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (*ROOMS, "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".ts", ".mjs", ".css") and "dist" not in path.parts
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
