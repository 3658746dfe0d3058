"""Memory allocator of the C library, told to keep freed blocks: a network on the CPU asks for the same each step.

glibc takes blocks above 32 MiB from the system one by one and returns each as soon as it is freed, and the system hands
them out again page by page, zeroed. The activations of a training step at a paper's size are such blocks. Kept, the
same memory serves step after step; `python tests/perf/profile_step.py --freed returned` shows the difference.

Nothing here changes a number that is computed. Where the C library is not glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of mallopt, as malloc.h numbers them."""


@cache
def keep_freed() -> bool:
    """Have freed memory stay with this process from now on; return whether the allocator agreed."""
    library = _glibc()
    if library is None:
        return False
    # -1: never shrink the heap by itself; 0: no block is a mapping of its own
    return bool(library.mallopt(M_TRIM_THRESHOLD, -1)) and bool(library.mallopt(M_MMAP_MAX, 0))


def give_back() -> None:
    """Return what is free now to the system, where it counts as available again."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, TypeError, AttributeError):
        return None
    return library
