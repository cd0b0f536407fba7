"""Pages for people: one HTML file that carries its pictures and plots within it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Section",
    "columns_html",
    "figure_html",
    "heading_html",
    "html_page",
    "picture_html",
    "table_html",
    "text_html",
]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 1100px; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 75ch; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; margin: .8rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #e4e4e4;
  vertical-align: top; overflow-wrap: anywhere; min-width: 5.5rem; }
th { background: #f5f5f5; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; min-width: 0; }
.columns { columns: 2 420px; column-gap: 1.2rem; }
.columns > * { break-inside: avoid; margin: 0 auto .8rem; }
.mark { font-size: .8rem; font-weight: 600; padding: .1rem .5rem; border-radius: .6rem;
  margin-right: .5rem; color: #fff; background: #5a6570; }
.mark.error { background: #b3261e; }
.mark.warning { background: #8a5a00; }
.subtitle { color: #555; margin-top: 0; }
"""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        title: plain text.
        parts: pieces of HTML, as the functions of this module make them.
    """

    title: str
    parts: Sequence[str]


def html_page(title: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """A whole page that needs no other file and no network; titles are plain text."""
    heading = html.escape(title)
    under = f'<p class="subtitle">{html.escape(subtitle)}</p>' if subtitle else ""
    body = "\n".join(
        f"<section>\n<h2>{html.escape(section.title)}</h2>\n" + "\n".join(section.parts)
        + "\n</section>"
        for section in sections
    )  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{heading}</h1>\n{under}\n{body}\n</body>\n</html>\n"
    )


def text_html(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def heading_html(text: str, *, mark: str = "") -> str:
    """A heading within a section.

    Args:
        text: plain text.
        mark: a word in colour before it; "error" and "warning" have colours of their own.
    """
    marked = f'<span class="mark {html.escape(mark)}">{html.escape(mark)}</span>' if mark else ""
    return f"<h3>{marked}{html.escape(text)}</h3>"


def columns_html(parts: Sequence[str]) -> str:
    """Pieces of HTML in two columns, or in one where the page is narrow."""
    return '<div class="columns">\n' + "\n".join(parts) + "\n</div>"


def table_html(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; columns of numbers (or "-") stand to the right, floats with three decimals."""
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] == "-" for row in rows)
        for i in range(len(header))
    ]

    def cell(tag: str, value: object, number: bool) -> str:
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        kind = ' class="number"' if number else ""
        return f"<{tag}{kind}>{html.escape(text)}</{tag}>"

    lines = ["".join(map(cell, ["th"] * len(header), header, numeric))]
    lines += ["".join(map(cell, ["td"] * len(row), row, numeric)) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="table"><table>\n{body}\n</table></div>'


def figure_html(figure: Figure, description: str) -> str:
    """A Matplotlib figure, as a PNG in the page.

    Args:
        figure: is drawn as it is.
        description: what it shows, for those who cannot see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _image_html(buffer.getvalue(), "png", description)


def picture_html(picture: Image.Image, description: str) -> str:
    """A picture of Pillow, as a JPEG in the page."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=88)
    return _image_html(buffer.getvalue(), "jpeg", description)


def _image_html(encoded: bytes, kind: str, description: str) -> str:
    data = base64.b64encode(encoded).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(description)}">'
