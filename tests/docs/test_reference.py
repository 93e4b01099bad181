"""The reference lists the public API: every public name, with a docstring, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"

# The list of public modules is the table in the reference's first page.
MODULES = re.findall(r"^\| `([\w.]+)` \|", (REFERENCE / "index.md").read_text(encoding="utf-8"), re.M)

LISTED = {
    name: page.name
    for page in sorted(REFERENCE.glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M)
}


def public(module: str) -> list[str]:
    return [name for name in importlib.import_module(module).__all__ if not name.startswith("__")]


def test_there_are_public_modules() -> None:
    assert {"schedrl", "schedrl.schedules", "schedrl.benchmark"} <= set(MODULES)


def test_a_module_names_its_public_parts_only_where_they_are_public() -> None:
    """`__all__` is for the public API; a package's `__init__` also says by it what it passes on."""
    naming = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "schedrl").rglob("*.py")
        if path.name != "__init__.py" and "\n__all__ = " in path.read_text(encoding="utf-8")
    }
    assert naming <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_listed_and_the_others_are_not(module: str) -> None:
    own = {name for name in LISTED if name.rpartition(".")[0] == module}
    assert own == {f"{module}.{name}" for name in public(module)}


def test_only_public_modules_are_listed() -> None:
    assert {name.rpartition(".")[0] for name in LISTED} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    missing = [
        each for name in public(module) for each in undocumented(importlib.import_module(module), name)
    ]
    assert not missing, f"{module}: no docstring: {', '.join(missing)}"


def undocumented(module: ModuleType, name: str) -> list[str]:
    """What lacks a docstring of a class and its methods, of a function or of a value."""
    value = getattr(module, name)
    if inspect.isclass(value):
        members = {f"{name}.{key}": getattr(value, key) for key in vars(value) if not key.startswith("_")}
        own = {
            key: each
            for key, each in members.items()
            if inspect.isroutine(each) or isinstance(each, property)
        }
        return [
            *([] if vars(value).get("__doc__") else [name]),
            *(key for key, each in own.items() if not inspect.getdoc(each)),
        ]
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return [] if inspect.getdoc(value) else [name]
    return [] if has_text(module, name) else [name]


def has_text(module: ModuleType, name: str) -> bool:
    """Whether a value has text right below it in the module that defines it, as in this one's ``has_text``."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and name in {part.asname or part.name for part in node.names}:
            return has_text(importlib.import_module(str(node.module)), name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    return False
