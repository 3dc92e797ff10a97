"""The one exception for everything a user can mend: wrong keys, missing data, wrong weights."""

__all__ = ["ConfigError"]


class ConfigError(ValueError):
    """A mistake in the configuration or in what it points at.

    The message is a single line that names the key and the fix. ``train_net.py`` prints it and
    exits with status 2, without a traceback.
    """
