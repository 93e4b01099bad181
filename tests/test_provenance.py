"""Where results come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from schedrl.provenance import provenance, revision


def test_the_revision_is_that_of_the_packages_own_checkout(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path.resolve() / "package"
    inside = package / "installed" / "package"
    inside.mkdir(parents=True)
    assert revision(package / "other") == "", "no checkout"
    git("init", "-q")
    (package / "file").write_text("one")
    git("add", ".")
    git("commit", "-qm", "first")
    assert revision(package) == git("rev-parse", "HEAD")
    assert revision(inside) == "", "another's checkout"
    (package / "file").write_text("two")
    revision.cache_clear()
    assert revision(package) == git("rev-parse", "HEAD") + "-dirty"


def test_a_line_says_all_of_it() -> None:
    assert sorted(provenance()) == ["created", "hardware", "revision", "versions"]
