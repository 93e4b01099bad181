"""The documentation site builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

# Namespaces and links in the text; what a browser would load are scripts, styles, fonts and images.
_LOADED = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\">\s]*)", re.IGNORECASE
)


def test_the_site_builds_strictly_and_stands_alone(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings_handlers", "latex2mathml"):
        pytest.importorskip(module)
    # No proxy leads anywhere: a build that needs the network fails.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        found = _LOADED.findall(page.read_text(encoding="utf-8"))
        assert not found, f"{page.relative_to(tmp_path)}: loads {found}"
    assert ":math:" not in "".join(page.read_text(encoding="utf-8") for page in pages)
