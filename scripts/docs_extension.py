"""Docstrings on the site: Sphinx roles become links and code, formulas become MathML, which browsers draw."""

from __future__ import annotations

import html
import re
from typing import Any

import griffe
from latex2mathml.converter import convert

_ROLE = re.compile(r":(class|func|mod|meth|attr|data):`(~?)([^`<]+)`")
_BLOCK = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +.+)*)", re.MULTILINE)
_INLINE = re.compile(r":math:`([^`]+)`")


class Roles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, obj.module.path)


def markdown(text: str, module: str) -> str:
    """The docstring's text without roles; ``module`` is where names without dots are looked for."""
    text = _BLOCK.sub(lambda found: found[1] + _mathml(found[2], "block"), text)
    text = _INLINE.sub(lambda found: _mathml(found[1], "inline"), text)
    return _ROLE.sub(lambda found: _link(found, module), text)


def _mathml(formula: str, display: str) -> str:
    return convert(" ".join(formula.split()), display=display).replace("\n", "")


def _link(found: re.Match[str], module: str) -> str:
    short, name = found[2] == "~", found[3]
    shown = name.rpartition(".")[2] if short else name
    target = name if name.startswith("schedrl") else f"{module}.{name}"
    return f'<autoref identifier="{html.escape(target)}" optional><code>{html.escape(shown)}</code></autoref>'
