"""A disk that takes no more, without the right to mount one."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(limit: int = 0):
    """No file grows beyond ``limit`` bytes meanwhile: writes raise OSError, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
