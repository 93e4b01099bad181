"""The pages of the documentation, and the code blocks on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(
    r"^(?:<!-- *(?P<marker>.*?) *-->\n)?```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S
)

_SKIP = re.compile(r"skip: (takes \d+ minutes|needs \S.*)")
_NEEDS = re.compile(r"needs: (\w+)")
_FILE = re.compile(r"# ([\w-]+\.toml)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: Language.
        text: Its lines.
        marker: What the HTML comment right above it says; empty without one.
        line: Number of its first line on the page.
    """

    kind: str
    text: str
    marker: str
    line: int

    @property
    def skipped(self) -> bool:
        """Whether it is for reading only."""
        return _SKIP.fullmatch(self.marker) is not None

    @property
    def needs(self) -> str | None:
        """Module without which it cannot run."""
        found = _NEEDS.fullmatch(self.marker)
        return found[1] if found else None

    @property
    def known(self) -> bool:
        """Whether the marker means something."""
        return not self.marker or self.skipped or self.needs is not None

    @property
    def file(self) -> str | None:
        """Name of the file that a TOML block is the content of, from the comment in its first line."""
        found = _FILE.match(self.text)
        return found[1] if found and self.kind == "toml" else None

    def commands(self) -> list[str]:
        """The commands of a bash block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = " && ".join(
            line.split(" #")[0] for line in lines if line.strip() and not line.startswith("#")
        )
        return [command.strip() for command in words.split("&&")]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["kind"], found["text"], found["marker"] or "", text.count("\n", 0, found.start("text")))
        for found in _FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()
