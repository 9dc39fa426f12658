"""Large arrays without page faults."""

from __future__ import annotations

import numpy as np


def keep_freed_memory() -> None:
    """Have the C library keep the memory of freed arrays for the next ones, instead of handing it back to the system.

    Memory fresh from the system costs a page fault for every 4 KiB at its first use, far more than the arithmetic on
    it, and training frees and asks for the same sizes at every step. glibc hands back what is larger than a threshold
    (128 KiB at first), which it raises to the size of any larger array that is freed, up to 32 MiB; twice the
    threshold is how much free memory it keeps. One array of nearly that size, never touched, does it; where the user
    has set `MALLOC_MMAP_THRESHOLD_` or another C library is in use, this does nothing.
    """
    np.empty((32 << 20) - (64 << 10), np.uint8)
