"""The structure of the package: imports go down the list of rooms, no circles, no overgrown room, no name twice."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "schedrl"

ROOMS = (
    "__main__",
    "cli",
    "jobs",
    "experiments",
    "report",
    "benchmark",
    "design",
    "fit",
    "policies",
    "environments",
    "export",
    "metrics",
    "diffusion",
    "sources",
    "data",
    "schedules",
    "stats",
    "provenance",
    "catalogue",
    "files",
    "errors",
)
"""From the command line down to messages: a room imports from itself and from those after it."""

LARGEST_SHARE = 0.15
"""Of the package's lines that one room may hold."""

PER_FAMILY = "the same part of the training family and of the sampling family"
COMMAND = "a command is named after the one thing that it calls"

SHARED_MODULE_NAMES = {
    "actions": PER_FAMILY,
    "env": PER_FAMILY,
    "rendering": PER_FAMILY,
    "rewards": PER_FAMILY,
    "runs": PER_FAMILY,
    "variant": PER_FAMILY,
    "demo": COMMAND,
    "experiment": COMMAND,
    "schedule": "the commands on schedules, and what a schedule is",
}
"""Names that several modules share, each with the reason."""

SHARED_CLASS_NAMES: dict[str, str] = {}
"""Names that several classes share, each with the reason."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """The package's modules that a module imports, also inside functions and for the type checker alone."""
    known = modules()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in whole]
        else:
            continue
        yield from (name for name in names if name in known and name != module)


def room(module: str) -> str | None:
    """The room that a module is in; None for the package itself."""
    _, _, rest = module.partition(".")
    return rest.split(".", 1)[0] or None


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_every_folder_is_a_room_of_the_list() -> None:
    assert {room(module) for module in modules()} - {None} == set(ROOMS)


def test_imports_go_down() -> None:
    upwards = [
        f"{module} imports {other}"
        for module in modules()
        for other in imports(module)
        if (own := room(module)) is not None
        and ((above := room(other)) is None or ROOMS.index(above) < ROOMS.index(own))
        # The command line alone may ask the package itself, for its version.
        and not (above is None and own == "cli")
    ]
    assert not upwards


def test_no_modules_import_each_other() -> None:
    assert not circles({module: set(imports(module)) for module in modules()})


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_room_outgrows_the_others() -> None:
    lines: dict[str | None, int] = defaultdict(int)
    for module, path in modules().items():
        lines[room(module)] += len(path.read_text(encoding="utf-8").splitlines())
    total = sum(lines.values())
    assert {name: count for name, count in lines.items() if count > LARGEST_SHARE * total} == {}


def test_a_module_name_stands_for_one_idea() -> None:
    places = defaultdict(list)
    for module, path in modules().items():
        if path.name != "__init__.py":
            places[module.rsplit(".", 1)[-1]].append(module)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared.keys() == SHARED_MODULE_NAMES.keys(), shared


def test_a_class_name_stands_for_one_idea() -> None:
    places = defaultdict(list)
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared.keys() == SHARED_CLASS_NAMES.keys(), shared
