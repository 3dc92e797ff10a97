"""What a training is, so that only the same one is gone on with."""

from typing import Any, Dict, List

from ..utils.errors import ConfigError

__all__ = ["RunIdentity", "flat"]

MOST_CHANGES = 5


class RunIdentity:
    """Everything that decides a training's course, kept in its checkpoints.

    A checkpointable: its state is saved, and compared when a training is resumed.
    """

    def __init__(self, values: Dict[str, Any], *, allow_changes: bool = False):
        """
        Args:
            values: name -> value; compared as text, functions and classes by name.
            allow_changes: resume in spite of changes.
        """
        self.values = {name: _text(value) for name, value in values.items()}
        self.allow_changes = allow_changes

    def state_dict(self) -> Dict[str, str]:
        return dict(self.values)

    def load_state_dict(self, state_dict: Dict[str, str]) -> None:
        """Nothing: :meth:`check` has compared it before the model was loaded."""

    def check(self, saved: Dict[str, str]) -> List[str]:
        """Compares with the identity in a checkpoint.

        Returns:
            a line for each change, if changes are allowed.

        Raises:
            ConfigError: naming what changed, if they are not.
        """
        changes = [
            f"{name} was {saved.get(name, 'not set')} and is {self.values.get(name, 'not set')}"
            for name in sorted({*saved, *self.values})
            if saved.get(name) != self.values.get(name)
        ]
        changes = [" ".join(change.split()) for change in changes]
        if changes and not self.allow_changes:
            more = f" and {len(changes) - MOST_CHANGES} more" if changes[MOST_CHANGES:] else ""
            raise ConfigError(
                f"--resume would change the training: {'; '.join(changes[:MOST_CHANGES])}{more}. "
                "Set it back, choose a new output_dir, or set RunIdentity.allow_changes to True"
            )
        return changes


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return getattr(value, "__qualname__", None) or str(value)


def flat(config, *, without: tuple) -> Dict[str, Any]:
    """A nested config as {"A.B.C": value}.

    Args:
        config: mappings in mappings.
        without: keys, or nodes with all below, that do not change the training.
    """
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
