"""A report as a list of blocks, written as Markdown and as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schedrl.files import write_bytes, write_text

__all__ = [
    "Block",
    "Bullets",
    "Code",
    "Heading",
    "Image",
    "Paragraph",
    "Table",
    "as_html",
    "as_markdown",
    "write_document",
]


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
    """A table; the first ``left`` columns hold text, the others numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2


@dataclass(frozen=True)
class Image:
    """A figure with its caption.

    Attributes:
        path: Where the PNG lies, relative to the report.
        content: The PNG itself.
        alt: A few words that stand for it.
        caption: What it shows.
    """

    path: str
    content: bytes
    alt: str
    caption: str


Block = Heading | Paragraph | Bullets | Code | Table | Image


def as_markdown(blocks: Sequence[Block]) -> str:
    """Markdown with figures as links to their files.

    Examples:
        >>> print(as_markdown([Heading("Title", 1), Bullets(("one", "two"))]))
        # Title
        <BLANKLINE>
        - one
        - two
        <BLANKLINE>
    """
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def as_html(blocks: Sequence[Block], title: str) -> str:
    """One HTML page, figures embedded.

    Examples:
        >>> "<p>a &lt; <code>b</code></p>" in as_html([Paragraph("a < `b`")], "Title")
        True
    """
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def write_document(folder: Path, blocks: Sequence[Block], title: str) -> Path:
    """Write ``report.md``, ``report.html`` and the figures into a folder.

    Returns:
        The HTML file.

    Raises:
        SchedrlError: The folder cannot be written.
    """
    for block in blocks:
        if isinstance(block, Image):
            write_bytes(folder / block.path, block.content)
    write_text(folder / "report.md", as_markdown(blocks))
    write_text(folder / "report.html", as_html(blocks, f"schedrl: {title}"))
    return folder / "report.html"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Code(text):
            return f"```\n{text}\n```"
        case Image(path, _, alt, caption):
            return f"![{alt}]({path})\n\n{caption}"
        case Table(heads, rows, left):
            rule = ["---" if place < left else "---:" for place in range(len(heads))]
            return "\n".join(
                "| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (heads, rule, *rows)
            )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Image(_, content, alt, caption):
            data = base64.b64encode(content).decode()
            image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
            return f"<figure>{image}<figcaption>{_inline(caption)}</figcaption></figure>"
        case Table(heads, rows, left):
            return _html_table(heads, rows, left)


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ["" if place < left else ' class="number"' for place in range(len(cells))]
        made = [f"<{tag}{kind}>{_inline(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)]
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{line(heads, "th")}</thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; } .number { text-align: right; } .wide { overflow-x: auto; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption { font-size: 0.9rem; color: #555; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; background: #f4f4f4; padding: 0.1em 0.3em; }
pre { padding: 0.8em; overflow-x: auto; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style></head>
<body>
{body}
</body>
</html>
"""
