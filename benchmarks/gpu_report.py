"""What gpu_check.py has found so far, as JSON and as Markdown."""

import json
from pathlib import Path

from section_process import DONE
from tabulate import tabulate

from soft_teacher.utils.atomic import atomic_write

__all__ = ["failures", "markdown", "write"]

NOTE = (
    "Weights are random, from a fixed seed: their arithmetic costs what that of trained ones does, "
    "and what the teacher is to detect is injected after it, as `make bench` does. Weights that "
    "were trained, a little, are those of the demo's detector."
)


def write(folder: Path, results: dict) -> None:
    """results.json and results.md, each whole at any time."""
    texts = {"results.json": json.dumps(results, indent=2) + "\n", "results.md": markdown(results)}
    for name, text in texts.items():
        with atomic_write(str(folder / name)) as file:
            file.write(text)


def markdown(results: dict) -> str:
    """
    Args:
        results: "device" and "size"; "sections": name -> "question", "limit" and, once it runs,
            "status", "seconds" and "tables" (title -> rows).
    """
    sections = results["sections"]
    parts = [f"# GPU check: {_device(results)}", NOTE, _overview(sections)]
    for section in sections.values():
        parts.append(f"## {section['question']}")
        if section["status"] != DONE:
            parts.append(f"Incomplete: {section['status']}.")
        for title, rows in section["tables"].items():
            parts += [f"**{title}**", _table(rows)]
    return "\n\n".join(parts) + "\n"


def failures(results: dict) -> list[str]:
    """A line for each section that is incomplete, and for each check that came out wrong."""
    found = []
    for name, section in results["sections"].items():
        if section["status"] != DONE:
            found.append(f"{name}: {section['status']}")
        for title, rows in section["tables"].items():
            found += [f"{name}: {title}: {_named(r)}" for r in rows if r.get("holds") is False]
    return found


def _device(results: dict) -> str:
    tables = results["sections"].get("device", {}).get("tables", {})
    facts = {row[""]: row["value"] for row in tables.get("machine", [])}
    return f"{facts.get('device', results['device'])}, {results['size']} size"


def _overview(sections: dict) -> str:
    rows = [
        {
            "section": name,
            "question": section["question"],
            "status": section["status"],
            "s": f"{section['seconds']:.0f} of {section['limit']:g}",
        }
        for name, section in sections.items()
    ]
    return _table(rows)


def _named(row: dict) -> str:
    """A row as text, without what it does not say."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in row.items() if value is not None)


def _table(rows: list[dict]) -> str:
    """Rows may have columns of their own."""
    headers = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_shown(row.get(name)) for name in headers] for row in rows]
    return tabulate(cells, headers=headers, tablefmt="github", disable_numparse=True)


def _shown(value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
