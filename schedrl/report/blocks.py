"""What a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Block", "Bullets", "Code", "Heading", "Image", "Paragraph", "Table"]


@dataclass(frozen=True)
class Heading:
    """A heading, level 1 to 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Prose; `code` and **bold** as in Markdown."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to be typed."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; the first ``left`` columns hold text, the others numbers. The first cell of a row names it.

    Attributes:
        heads: Of the columns.
        rows: As many cells each.
        left: Columns of text.
        caption: What the table is about.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2
    caption: str = ""


@dataclass(frozen=True)
class Image:
    """A figure with its caption.

    Attributes:
        path: Where the PNG lies, relative to the report.
        content: The PNG itself.
        alt: What there is to be seen, for those who cannot see it.
        caption: What it shows.
        width: Of the figure on the page, in CSS pixels; the image's own when absent.
    """

    path: str
    content: bytes
    alt: str
    caption: str
    width: int | None = None


Block = Heading | Paragraph | Bullets | Code | Table | Image
