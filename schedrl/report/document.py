"""A report as a list of blocks, written as Markdown and as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedrl.files import write_bytes, write_text
from schedrl.report.blocks import Block, Bullets, Code, Heading, Image, Paragraph, Table
from schedrl.report.page import as_html

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
            words = alt.replace("[", "(").replace("]", ")")  # brackets would end the text
            return f"![{words}]({path})\n\n{caption}"
        case Table(heads, rows, left, caption):
            rule = ["---" if place < left else "---:" for place in range(len(heads))]
            lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (heads, rule, *rows)]
            return "\n".join([f"{caption}\n", *lines] if caption else lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
