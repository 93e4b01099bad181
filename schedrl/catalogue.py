"""Where the catalogues of environments and agents lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def folder(name: Literal["envs", "agents"]) -> Path:
    """The catalogue's folder.

    Examples:
        >>> folder("envs").joinpath("digits-knots.toml").is_file()
        True
    """
    package = Path(__file__).resolve().parent
    inside = package / "_catalogue" / name
    return inside if inside.is_dir() else package.parent / name
