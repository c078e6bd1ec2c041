"""How memory is kept: the large arrays that come and go with each slice, and what the start made."""

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""Parameters of glibc's mallopt(3)."""
_KEPT_BYTES = 1 << 30
"""Smaller arrays come from memory that is kept, and so much of it stays when it is free."""


def keep_freed_memory() -> bool:
    """Have memory of freed arrays used again; the kernel would take it back, and clear it for the next slice.

    To be called before torch is imported. Nothing changes but the time: half of it was spent on clearing.

    Returns
    -------
    bool
        False where the C library is not glibc, or does not take it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, _KEPT_BYTES) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


def freeze_heap() -> None:
    """Take what the start made out of the garbage collector's sight: it stays, and was looked at again and again."""
    gc.collect()
    gc.freeze()
