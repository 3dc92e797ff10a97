"""Messages about a LazyConfig name its keys, wherever they come from.

The parts of a run know no config language, and call a setting what YAML calls it.
"""

import logging
import re
from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps

from ..utils.command_line import STATUSES
from ..utils.errors import ConfigError
from .config_keys import HEADS, PREDICTOR, RPN, SETTINGS, STUDENT

__all__ = ["in_lazy_words", "policy_of", "speaks_lazy"]

KEYS = {
    key: paths.replace(" ", " and ").replace("|", " or ")
    for key, (paths, _) in SETTINGS.items()
    if paths
}
PHRASES = {
    "DATASETS.SPLIT": "split",
    "MODEL.KEYPOINT_ON": f"{HEADS}.keypoint_head",
    "MODEL.MASK_ON": f"{HEADS}.mask_head",
    "MODEL.PROPOSAL_GENERATOR.NAME to 'RPN'": f"{RPN} to an RPN",
    "MODEL.RESNETS.NORM": f"the norm of {STUDENT}.backbone",
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": f"{PREDICTOR}.use_sigmoid_ce",
    "SOFT_TEACHER.SMALL_RESNET": f"{STUDENT}.backbone",
}
WORDS = {**KEYS, **PHRASES}
# The longest first, and no part of a longer word, of a path, or of a name in quotes.
SPOKEN = re.compile(
    rf"(?<![\w./'])({'|'.join(map(re.escape, sorted(WORDS, key=len, reverse=True)))})(?![\w/'])"
)
OURS = f"{__package__.partition('.')[0]}."
POLICY_KEY = re.compile(r"SOFT_TEACHER\.AUGMENTATION\.(\w+)")


def in_lazy_words(message: str) -> str:
    """A message with LazyConfig's keys in place of YAML's."""
    return SPOKEN.sub(lambda found: WORDS[found[0]], message)


@contextmanager
def policy_of(view: str):
    """Names the keys of one of the three policies in errors.

    Args:
        view: dotted key of the policy.
    """
    try:
        yield
    except ConfigError as error:
        message = POLICY_KEY.sub(lambda found: f"{view}.{found[1].lower()}", str(error))
        raise ConfigError(message) from error


def speaks_lazy(function: Callable) -> Callable:
    """Decorates what works on a LazyConfig: its errors and its log name LazyConfig's keys."""

    @wraps(function)
    def speaking(*args, **kwargs):
        usual = logging.getLogRecordFactory()
        logging.setLogRecordFactory(lambda *a, **k: _translated(usual(*a, **k)))
        try:
            return function(*args, **kwargs)
        except tuple(STATUSES) as error:
            error.args = (in_lazy_words(str(error)),)
            raise
        finally:
            logging.setLogRecordFactory(usual)

    return speaking


def _translated(record: logging.LogRecord) -> logging.LogRecord:
    if record.name.startswith(OURS):
        record.msg, record.args = in_lazy_words(record.getMessage()), ()
    return record
