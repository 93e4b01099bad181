"""The page and the Markdown of a report, read without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from schedrl.report import document
from schedrl.report.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Image,
    Paragraph,
    Table,
    as_html,
    as_markdown,
)

PNG = b"\x89PNG\r\n\x1a\n"


def page() -> str:
    long = "a sentence that takes more than a line of a narrow table"
    return as_html(
        [
            Heading("Title", 1),
            Paragraph("**bold** `code` <b>"),
            Bullets(("one",)),
            Table(["agent", "value"], [["a", "1"], ["b", "2"]], left=1, caption="Both."),
            Table(["claim", "verdict"], [[long, "holds"]], caption="Both."),
            Heading("Part"),
            Image("figures/a.png", PNG, 'dots "rising" to 3 [bits]', "What it shows.", 864),
            Code("schedrl report <FOLDER>"),
        ],
        "Title & more",
    )


class Reader(HTMLParser):
    """Collects elements, and checks that they close."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader.seen


def test_the_page_is_well_formed_and_says_what_it_is() -> None:
    found = elements(page())
    tags = [tag for tag, _ in found]
    assert tags.count("main") == tags.count("h1") == tags.count("title") == 1
    assert dict(found)["html"] == {"lang": "en"}
    assert "<title>Title &amp; more</title>" in page()
    assert "<p><strong>bold</strong> <code>code</code> &lt;b&gt;</p>" in page()
    assert "script" not in tags


def test_tables_are_named_and_their_cells_have_headings() -> None:
    found = elements(page())
    regions = [attributes for tag, attributes in found if tag == "div"]
    assert [region["aria-label"] for region in regions] == ["Table 1: Both.", "Table 2: Both."]
    # What scrolls can be reached from the keyboard.
    assert all(region["tabindex"] == "0" for region in regions)
    assert [attributes["scope"] for tag, attributes in found if tag == "th"] == ["col"] * 2 + ["row"] * 2 + [
        "col"
    ] * 2 + ["row"]
    assert '<th scope="row" class="short">a</th><td class="number">1</td>' in page()
    assert '<th scope="row">a sentence' in page()


def test_figures_are_described_and_embedded() -> None:
    (image,) = [attributes for tag, attributes in elements(page()) if tag == "img"]
    assert image["alt"] == 'dots "rising" to 3 [bits]'
    assert image["width"] == "864"
    assert str(image["src"]).startswith("data:image/png;base64,")
    markdown = as_markdown([Image("figures/a.png", PNG, "a [b]", "Caption.")])
    assert "![a (b)](figures/a.png)" in markdown


def test_nothing_is_fetched() -> None:
    text = page()
    assert not re.search(r"https?:|url\(|@import", text)
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_text_stands_out_in_every_scheme() -> None:
    """WCAG 2 AA: 4.5 to 1."""
    style = page().split("<style>")[1].split("</style>")[0]
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w+)", part)) for part in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for front in ("text", "quiet"):
            for back in ("page", "code"):
                assert contrast(scheme[front], scheme[back]) >= 4.5


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255.0 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_labels_bring_no_html_into_either_form() -> None:
    label = "<img src=x onerror=alert(1)>"
    blocks: list[Block] = [
        Heading(label),
        Bullets((f"**{label}** is `<best>`", f"`` a{label}` ``")),
        Table(["agent"], [[label]], left=1, caption=label),
        Image("figures/a.png", PNG, label, label),
        Code(f"```\n{label}"),
    ]
    markdown, text = as_markdown(blocks), as_html(blocks, label)
    assert "img" not in [tag for tag, attributes in elements(text) if "onerror" in attributes]
    assert "<img src=x" not in text
    prose, code = markdown.split("````\n", 1)
    assert "<img" not in prose
    assert "is `<best>`" in prose
    assert code == f"```\n{label}\n````\n"


def test_every_sentence_of_the_templates_is_used_and_there() -> None:
    folder = Path(document.__file__).parent
    for template in folder.glob("templates/*.txt.j2"):
        modules = [
            text for path in folder.parent.rglob("*.py") if f'"{template.name}"' in (text := path.read_text())
        ]
        used = {name for text in modules for name in re.findall(r"_WORDS\.(\w+)\(", text)}
        images = {name for text in modules for name in re.findall(r'worded_image\(_WORDS, "(\w+)"', text)}
        used |= images | {f"{name}_alt" for name in images}
        assert used == set(re.findall(r"macro (\w+)\(", template.read_text()))
