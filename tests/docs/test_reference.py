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


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_listed_and_the_others_are_not(module: str) -> None:
    own = {name for name in LISTED if name.rpartition(".")[0] == module}
    assert own == {f"{module}.{name}" for name in public(module)}


def test_only_public_modules_are_listed() -> None:
    assert {name.rpartition(".")[0] for name in LISTED} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    missing = [name for name in public(module) if not documented(importlib.import_module(module), name)]
    assert not missing, f"{module}: no docstring: {', '.join(missing)}"


def documented(module: ModuleType, name: str) -> bool:
    """Whether a class and its methods, a function or a value has a docstring of its own."""
    value = getattr(module, name)
    if inspect.isclass(value):
        members = [getattr(value, key) for key in vars(value) if not key.startswith("_")]
        own = [each for each in members if inspect.isroutine(each) or isinstance(each, property)]
        return bool(vars(value).get("__doc__")) and all(inspect.getdoc(each) for each in own)
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return bool(inspect.getdoc(value))
    return has_text(module, name)


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
