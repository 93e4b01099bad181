"""A report as one HTML page that needs nothing beside it: light and dark, on a screen, by ear and on paper."""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Sequence

from schedrl.report.blocks import Block, Bullets, Code, Heading, Image, Paragraph, Table

__all__ = ["as_html"]

_SHORT = 28
"""Characters of text in a table's cell that are not broken into lines."""


def as_html(blocks: Sequence[Block], title: str) -> str:
    """One HTML page, figures embedded, without scripts.

    Examples:
        >>> "<p>a &lt; <code>b</code></p>" in as_html([Paragraph("a < `b`")], "Title")
        True
    """
    tables = itertools.count(1)
    body = "\n".join(
        _table(block, next(tables)) if isinstance(block, Table) else _html(block) for block in blocks
    )
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _html(block: Heading | Paragraph | Bullets | Code | Image) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Image(_, content, alt, caption, width):
            data = base64.b64encode(content).decode()
            size = "" if width is None else f' width="{width}"'
            image = f'<img alt="{html.escape(alt)}"{size} src="data:image/png;base64,{data}">'
            return f"<figure>{image}<figcaption>{_inline(caption)}</figcaption></figure>"


def _table(table: Table, number: int) -> str:
    columns = zip(table.heads, *table.rows, strict=True)
    # What is short stays on one line.
    kinds = [
        ' class="number"'
        if place >= table.left
        else ""
        if max(map(len, column)) > _SHORT
        else ' class="short"'
        for place, column in enumerate(columns)
    ]

    def line(cells: Sequence[str], heads: int, scope: str) -> str:
        """Cells of a row, the first ``heads`` of them headings."""
        made = []
        for place, (cell, kind) in enumerate(zip(cells, kinds, strict=True)):
            tag, extra = ("th", f' scope="{scope}"') if place < heads else ("td", "")
            made.append(f"<{tag}{extra}{kind}>{_inline(cell)}</{tag}>")
        return f"<tr>{''.join(made)}</tr>"

    head = line(table.heads, len(table.heads), "col")
    body = "".join(line(row, 1, "row") for row in table.rows)
    caption = f"<caption>{_inline(table.caption)}</caption>" if table.caption else ""
    # What can be scrolled must be reached from the keyboard, and then say what it is.
    name = html.escape(f"Table {number}: {re.sub(r'[`*]', '', table.caption)}".rstrip(": "))
    return (
        f'<div class="wide" role="region" aria-label="{name}" tabindex="0"><table>{caption}'
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div>"
    )


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)


# Figures are drawn on white, in either scheme: their colours were chosen for it.
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1d1f22; --quiet: #50555c; --line: #d5d8dc;
  --strong-line: #7b828a; --code: #f1f2f4; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --text: #e7e9ec; --quiet: #b3b9c1; --line: #3a3f46;
  --strong-line: #8a919a; --code: #24282d; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; background: var(--page); color: var(--text); margin: 0; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin: 2.4rem 0 0.6rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.5rem; }
p, ul { max-width: 50rem; } h1, h2, h3, p, li, figcaption { overflow-wrap: anywhere; } li { margin: 0.3rem 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: 0.4rem; }
th, td { padding: 0.25rem 0.55rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; } tbody th { font-weight: 400; }
thead th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid var(--strong-line); }
.number { text-align: right; } td.number, .short { white-space: nowrap; }
td:not(.number, .short), th:not(.number, .short) { min-width: 8rem; max-width: 30rem; }
figure { margin: 1.5rem 0; } figcaption { font-size: 0.9rem; color: var(--quiet); max-width: 50rem; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  padding: 6px; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; background: var(--code); padding: 0.1em 0.3em; }
pre { padding: 0.8em; white-space: pre-wrap; overflow-wrap: anywhere; }
:focus-visible { outline: 2px solid #3b82f6; outline-offset: 2px; }
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --quiet: #333; --line: #bbb; --strong-line: #555;
    --code: #f1f2f4; }
  @page { size: A4; margin: 14mm 12mm; }
  body { font-size: 10pt; } main { max-width: none; padding: 0; } p, ul, figcaption { max-width: none; }
  .wide { overflow: visible; }
  table { font-size: 6.8pt; width: 100%; } th, td { padding: 0.12rem 0.3rem; }
  .number, .short { white-space: normal; }
  td:not(.number, .short), th:not(.number, .short) { min-width: 0; } tr, figure { break-inside: avoid; }
  h1, h2, h3, caption { break-after: avoid; } thead { display: table-header-group; }
  img { max-height: 20cm; border: 0; padding: 0; }
}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<link rel="icon" href="data:,"><style>{style}</style></head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
