"""Damage to the bytes of a file, as disks, editors and encodings do it."""

STRANGE = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"<",
    b"&",
    b'"',
    b"\n",
    b"\r",
    b"-",
    b"9" * 400,
    b"{",
    b":",
]


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
