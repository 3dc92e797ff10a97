"""What gpu_check.py has found so far, as Markdown, and what is wrong with it."""

from bench_report import page, shown, table
from section_process import DONE

__all__ = ["failures", "markdown"]

NOTE = (
    "Weights are random, from a fixed seed: their arithmetic costs what that of trained ones does, "
    "and what the teacher is to detect is injected after it, as `make bench` does. Weights that "
    "were trained, a little, are those of the demo's detector."
)


def markdown(results: dict) -> str:
    """The page.

    Args:
        results: "device" and "size"; "sections": name -> "question", "limit" and, once it runs,
            "status", "seconds" and "tables" (title -> rows).
    """
    sections = results["sections"]
    tables = sections.get("device", {}).get("tables", {})
    facts = {row[""]: row["value"] for row in tables.get("machine", [])}
    overview = [
        {
            "section": name,
            "question": section["question"],
            "status": section["status"],
            "s": f"{section['seconds']:.0f} of {section['limit']:g}",
        }
        for name, section in sections.items()
    ]
    title = f"# GPU check: {facts.get('device', results['device'])}, {results['size']} size"
    parts = [title, NOTE, table(overview)]
    for section in sections.values():
        parts.append(f"## {section['question']}")
        if section["status"] != DONE:
            parts.append(f"Incomplete: {section['status']}.")
        if section["tables"]:
            parts.append(page(section["tables"]))
    return "\n\n".join(parts) + "\n"


def failures(results: dict) -> list[str]:
    """A line for each incomplete section and for each failed check."""
    found = []
    for name, section in results["sections"].items():
        if section["status"] != DONE:
            found.append(f"{name}: {section['status']}")
        for title, rows in section["tables"].items():
            for row in rows:
                if row.get("holds") is False:
                    cells = [f"{k} {shown(v)}" for k, v in row.items() if v is not None]
                    found.append(f"{name}: {title}: {', '.join(cells)}")
    return found
