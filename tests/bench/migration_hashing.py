"""What two SHA-256 passes over so many bytes take with every core at work: the floor of a hashed and proven copy."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

PIECE = os.urandom(1 << 20)
TRIED = 256  # pieces of each core


def seconds_of_two_passes(size_bytes: int) -> float:
    """Hash TRIED pieces on every core at once; return the seconds that 2 x ``size_bytes`` take at that rate."""
    cores = os.cpu_count() or 1
    begun = time.monotonic()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(_hash, range(cores)))
    rate = cores * TRIED * len(PIECE) / (time.monotonic() - begun)
    return 2 * size_bytes / rate


def _hash(_core: int) -> None:
    hasher = hashlib.sha256()
    for _ in range(TRIED):
        hasher.update(PIECE)
