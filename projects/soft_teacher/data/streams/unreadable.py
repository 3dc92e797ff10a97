"""Counts the unreadable images of a stream, and stops where there are too many."""

import logging

from ...utils.checks import check_not_negative
from ...utils.errors import ConfigError

__all__ = ["UnreadableImages"]

logger = logging.getLogger(__name__)


class UnreadableImages:
    """Counts and names the unreadable images of one stream as this process meets them."""

    def __init__(self, key: str, total: int, max_share: float):
        """
        Args:
            key: config key of the stream's datasets, for the messages.
            total: images of the stream.
            max_share: of ``total``; one image more stops the run.
        """
        check_not_negative("UnreadableImages.max_share", max_share)
        self.key = key
        self.total = total
        self.allowed = int(max_share * total)
        self.found: list[str] = []

    def add(self, errors: list[str]) -> None:
        """Warns of each unreadable image once.

        Args:
            errors: messages of :class:`~soft_teacher.data.images.image.UnreadableImage`.

        Raises:
            ConfigError: there are more than allowed.
        """
        for error in errors:
            if error in self.found:
                continue
            self.found.append(error)
            if len(self.found) > self.allowed:
                self._stop("more than UnreadableImages.max_share allows")
            logger.warning(
                "%s: another image replaces an unreadable one (%d of at most %d): %s",
                self.key,
                len(self.found),
                self.allowed,
                error,
            )

    def give_up(self) -> None:
        """Raises ConfigError: an image could not be replaced."""
        self._stop("and no other was found to replace them")

    def _stop(self, why: str) -> None:
        raise ConfigError(
            f"{self.key}: {len(self.found)} of {self.total} images are unreadable, {why}; last "
            f"{self.found[-1]}: fix or remove them (soft-teacher-check lists them all), or "
            "raise that key"
        )
