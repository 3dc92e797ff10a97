"""What a run is, so that only the same one is resumed."""

from typing import Any

from ..utils.errors import ConfigError

__all__ = ["RunIdentity", "flat"]

MOST_CHANGES = 5


class RunIdentity:
    """Everything that decides the course of a run, kept in its checkpoints.

    A checkpointable: its state is saved, and compared when a run is resumed.
    """

    def __init__(self, values: dict[str, Any], *, allow_changes: bool = False):
        """
        Args:
            values: name -> value; compared as text, functions and classes by name.
            allow_changes: resume in spite of changes.
        """
        self.values = {name: _text(value) for name, value in values.items()}
        self.allow_changes = allow_changes

    def state_dict(self) -> dict[str, str]:
        return dict(self.values)

    def load_state_dict(self, state_dict: dict[str, str]) -> None:
        """Does nothing: :meth:`check` has compared it before the model was loaded."""

    def check(self, saved: dict[str, str]) -> list[str]:
        """A line for each change from the identity in a checkpoint.

        Raises ConfigError, naming what changed, unless changes are allowed.
        """
        now = self.values
        changes = [
            f"{name} was {saved.get(name, 'not set')} and is {now.get(name, 'not set')}"
            for name in sorted({*saved, *now})
            if _compared(name, saved.get(name)) != _compared(name, now.get(name))
        ]
        changes = [" ".join(change.split()) for change in changes]
        if changes and not self.allow_changes:
            more = f" and {len(changes) - MOST_CHANGES} more" if changes[MOST_CHANGES:] else ""
            raise ConfigError(
                f"--resume would change the run: {'; '.join(changes[:MOST_CHANGES])}{more}. "
                "Set it back, choose a new output_dir, or set RunIdentity.allow_changes to True"
            )
        return changes


def _compared(name: str, text: str | None) -> str | None:
    """What a LazyConfig calls is the same wherever its module has moved since."""
    return text.rpartition(".")[2] if text and name.endswith("_target_") else text


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return getattr(value, "__qualname__", None) or str(value)


def flat(config, *, without: tuple) -> dict[str, Any]:
    """A config of nested mappings as {"A.B.C": value}, ``without`` some keys or whole nodes."""
    found = {}

    def walk(node, prefix):
        for key, value in node.items():
            name = f"{prefix}{key}"
            if name in without:
                continue
            if hasattr(value, "items"):
                walk(value, f"{name}.")
            else:
                found[name] = value

    walk(config, "")
    return found
