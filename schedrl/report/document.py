"""A report as a list of blocks. Templates turn it into one self-contained HTML page and into Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from schedrl.files import write_bytes, write_text

_SHORT = 28
"""Longest text, in characters, that a table cell keeps on one line."""


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
    """A list; `code` and **bold** as in Markdown."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Commands or other text shown as it is."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table. The first cell of each row is the row's heading.

    Attributes:
        heads: Column headings.
        rows: Rows, each as long as ``heads``.
        left: Number of leading text columns; the others hold numbers.
        caption: What the table shows.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2
    caption: str = ""

    @property
    def kinds(self) -> list[str]:
        """Of each column: ``number``, ``short`` (text that stays on one line) or ``long``."""
        columns = zip(self.heads, *self.rows, strict=True)
        return [
            "number" if place >= self.left else "long" if max(map(len, column)) > _SHORT else "short"
            for place, column in enumerate(columns)
        ]


@dataclass(frozen=True)
class Image:
    """A figure with its caption.

    Attributes:
        path: Path of the PNG file, relative to the report.
        content: The PNG file itself.
        alt: Description for readers who cannot see the figure.
        caption: What the figure shows.
        width: Width on the page in CSS pixels; the image's own when absent.
    """

    path: str
    content: bytes
    alt: str
    caption: str
    width: int | None = None

    @property
    def base64(self) -> str:
        """The PNG file in Base64, for a data URL."""
        return base64.b64encode(self.content).decode()


Block = Heading | Paragraph | Bullets | Code | Table | Image


def as_html(blocks: Sequence[Block], title: str) -> str:
    """One HTML page with its style and figures embedded, without scripts.

    Examples:
        >>> "<p>a &lt; <code>b</code></p>" in as_html([Paragraph("a < `b`")], "Title")
        True
    """
    return _TEMPLATES.get_template("report.html.j2").render(blocks=blocks, title=title)


def as_markdown(blocks: Sequence[Block]) -> str:
    """Markdown that links to the figures' files.

    Examples:
        >>> print(as_markdown([Heading("Title", 1), Bullets(("one", "two"))]))
        # Title
        <BLANKLINE>
        - one
        - two
        <BLANKLINE>
    """
    return _TEMPLATES.get_template("report.md.j2").render(blocks=blocks)


def write_document(folder: Path, blocks: Sequence[Block], title: str) -> Path:
    """Write ``report.md``, ``report.html`` and the figures into a folder, and return the HTML file's path."""
    for block in blocks:
        if isinstance(block, Image):
            write_bytes(folder / block.path, block.content)
    write_text(folder / "report.md", as_markdown(blocks))
    write_text(folder / "report.html", as_html(blocks, f"schedrl: {title}"))
    return folder / "report.html"


class Sentences:
    """The macros of a template as functions; each returns plain text on one line.

    Examples:
        >>> Sentences("training.txt.j2").bins_alt("cosine", ["linear differs most at λ = 7.5"])
        'Lines with error bars over log-SNR: linear differs most at λ = 7.5.'
    """

    def __init__(self, template: str) -> None:
        self._macros = _TEMPLATES.get_template(template).module

    def __getattr__(self, name: str) -> Callable[..., str]:
        macro = getattr(self._macros, name)
        return lambda *values: " ".join(macro(*values).split())


def _html_text(text: str) -> Markup:
    """Escaped text with its code spans and bold words marked up."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked))


def _markdown_text(text: str) -> Markup:
    """One line of Markdown without HTML and links: ``<``, ``>``, ``&`` and ``](`` are escaped except in code spans."""
    parts = re.split(r"((?<![`\\])`[^`]+`(?!`))", " ".join(text.split()))
    for place in range(0, len(parts), 2):
        plain = parts[place].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts[place] = plain.replace("](", "]\\(")
    return Markup("".join(parts))


def _fenced(text: str) -> Markup:
    """A code block whose fence is longer than any run of backticks inside."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return Markup(f"{fence}\n{text}\n{fence}")


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    # Sentences are plain text, which the two templates of reports then escape like everything else.
    autoescape=lambda name: name is None or not name.endswith(".txt.j2"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(html_text=_html_text, markdown_text=_markdown_text, fenced=_fenced, number=format)
