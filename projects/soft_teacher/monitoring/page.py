"""HTML pages that need no other file."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from ..utils.atomic import atomic_write

__all__ = ["embedded_picture", "preformatted", "table", "write_page"]

STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 72em; color: #222; padding: 0 1em; }
table { border-collapse: collapse; } td, th { padding: .2em .9em; text-align: right; }
tr:nth-child(even) { background: #f3f3f3; } th { border-bottom: 1px solid #888; }
.long { max-height: 40em; overflow-y: auto; }
.long th { position: sticky; top: 0; background: #fff; }
pre { background: #f3f3f3; padding: 1em; overflow-x: auto; font-size: 13px; }
img { max-width: 100%; } figure { margin: 1em 0; } figcaption { color: #666; font-size: 13px; }
"""

# Rows that are shown at once; more of them scroll.
MOST_ROWS = 30


def write_page(path: Path, title: str, sections: dict[str, str]) -> None:
    """Writes a page under a title of plain text; ``sections`` are heading -> HTML, or empty."""
    body = "".join(f"<h2>{name}</h2>\n{text}\n" for name, text in sections.items() if text)
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    page = f"<!doctype html>\n<html><head>{head}</head><body><h1>{html.escape(title)}</h1>\n{body}"
    with atomic_write(str(path)) as file:
        file.write(f"{page}</body></html>\n")


def embedded_picture(png: bytes, text: str) -> str:
    """A PNG inside the page, with its caption in plain text."""
    data = base64.b64encode(png).decode()
    caption = html.escape(text)
    return (
        f"<figure><img alt='{caption}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def preformatted(text: str) -> str:
    """Plain text with its line breaks; nothing for no text."""
    return f"<pre>{html.escape(text)}</pre>" if text else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells of plain text; a long table scrolls by itself."""
    titles = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>\n"
        for row in rows
    )
    found = f"<table><tr>{titles}</tr>\n{body}</table>\n"
    return f"<div class='long'>{found}</div>\n" if len(rows) > MOST_ROWS else found
