"""Forked processes, for sections whose work is killed or takes several ranks."""

import multiprocessing
from collections.abc import Callable

__all__ = ["in_children"]


def in_children(function: Callable, *arguments: tuple) -> list[int]:
    """Calls a function in a child for each tuple of arguments, all at once.

    The caller must not have touched CUDA nor computed with PyTorch: neither CUDA nor the threads
    of OpenMP survive a fork, and a child would wait for them for ever.

    Returns:
        their exit codes, 0 for success and -N for signal N.
    """
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=function, args=args) for args in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]
