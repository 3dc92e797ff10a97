"""Damage to the bytes of a file, as disks, editors and encodings do it."""

import pytest

STRANGE = [b"\0", b"\xff", b"\xef\xbb\xbf", b"<", b"&", b'"', b"\n", b"\r", b"-", b"{", b":"]
STRANGE += [b"9" * 400]


def fuzzed(few: int, many: int, *, each: int = 10**9):
    """Runs a test with ``seeds``: a few of them, and as a long test many others.

    Args:
        each: seeds of a single case at most.
    """
    starts = [(n, min(n + each, few), ()) for n in range(0, few, each)]
    starts += [
        (10_000 + n, 10_000 + min(n + each, many), pytest.mark.long) for n in range(0, many, each)
    ]
    cases = [pytest.param(range(a, b), marks=marks, id=f"{a}-{b}") for a, b, marks in starts]
    return pytest.mark.parametrize("seeds", cases)


def damaged(rng, data: bytes) -> bytes:
    """The bytes with one to three places cut out, doubled, overwritten, or the end missing."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, len(data))
        end = min(len(data), start + rng.choice([0, 1, 1, 2, 8, 40]))
        data = rng.choice(
            [
                data[:start],
                data[:start] + data[end:],
                data[:end] + data[start:],
                data[:start] + rng.choice(STRANGE) + data[end:],
                data[:start] + rng.randbytes(end - start) + data[end:],
            ]
        )
    return data
