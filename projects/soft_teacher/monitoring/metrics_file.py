"""Reading metrics.json, of which every line should be an event of a step."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from ..utils.errors import ConfigError, one_line

__all__ = ["METRICS", "read_events", "read_metrics"]

METRICS = "metrics.json"
LARGEST = 2**63

logger = logging.getLogger(__name__)


def read_metrics(folder: Path | str) -> list[dict]:
    """The events of a run in a folder; other lines are left out with a warning.

    Raises ConfigError if there is no metrics.json, or it cannot be read.
    """
    return [event for _, event in read_events(Path(folder))]


def read_events(folder: Path) -> list[tuple[bytes, dict]]:
    """Lines of a run's metrics.json, each with its event. See :func:`read_metrics`."""
    path = folder / METRICS
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no run: {path} is missing") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from error
    # A crash may leave the last line unfinished, which is not worth a warning.
    lines = content.split(b"\n")[:-1]
    found = list(_events(lines))
    if dropped := len(lines) - len(found):
        text = "%s: %d of %d lines are not events and are dropped"
        logger.warning(text, path, dropped, len(lines))
    return found


def _events(lines: list[bytes]) -> Iterator[tuple[bytes, dict]]:
    for line in lines:
        try:
            event = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if _is_event(event):
            yield line, event


def _is_event(event) -> bool:
    return (
        isinstance(event, dict)
        and all(type(value) in (int, float) for value in event.values())
        and all(abs(value) < LARGEST for value in event.values() if type(value) is int)
        and type(event.get("iteration")) is int
        and event["iteration"] >= 0
    )
