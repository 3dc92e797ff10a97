"""Files of results: one set for each table, one page of all, and the documentation's tables."""

import re
from collections.abc import Sequence
from pathlib import Path

from soft_teacher.utils.atomic import atomic_write
from soft_teacher.utils.errors import ConfigError

from .figures import draw
from .pages import markdown, write_csv
from .results import TableResult
from .tables import OUR_TABLES, TABLES

__all__ = ["publish", "write_docs"]


def publish(results: Sequence[TableResult], folder: Path) -> list[Path]:
    """Writes ``tableN.md``, ``.csv`` and ``.png`` of each table, and ``tables.md`` of all.

    Args:
        folder: of the benchmark's results.

    Returns:
        the Markdown files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        stem = result.table.stem
        draw(result, folder / f"{stem}.png")
        write_csv(result, folder / f"{stem}.csv")
        _write(folder / f"{stem}.md", markdown(result, f"{stem}.png"))
    tables = [*TABLES.values(), *OUR_TABLES.values()]
    pages = [folder / f"{table.stem}.md" for table in tables]
    everything = folder / "tables.md"
    _write(everything, "\n".join(page.read_text() for page in pages if page.is_file()))
    return [*(folder / f"{result.table.stem}.md" for result in results), everything]


def write_docs(results: Sequence[TableResult], name: str, page: Path) -> None:
    """Puts the tables between the markers ``<!-- NAME tables -->`` and ``<!-- end -->`` of a page.

    Args:
        name: of the benchmark, in the marker and in the names of the pictures.
        page: Markdown; pictures go to ``images`` beside it.

    Raises:
        ConfigError: the page or its markers are missing.
    """
    start, end = f"<!-- {name} tables -->", "<!-- end -->"
    text = page.read_text() if page.is_file() else ""
    block = re.compile(f"({re.escape(start)}\n).*?({re.escape(end)})", re.DOTALL)
    if not block.search(text):
        raise ConfigError(f"--write-docs: {page} has no lines '{start}' and '{end}'")
    parts = []
    for result in results:
        picture = f"images/{name}_{result.table.stem}.png"
        draw(result, page.parent / picture)
        parts.append(markdown(result, picture))
    _write(page, block.sub(lambda found: found[1] + "\n".join(parts) + found[2], text))


def _write(path: Path, text: str) -> None:
    with atomic_write(str(path)) as file:
        file.write(text)
