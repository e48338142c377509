"""Memory that a model's results leave stays with the process."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import cache
from typing import Final

_LOG = logging.getLogger(__name__)

_MIB: Final = 2**20
# From glibc's malloc.h; mallopt(3) describes them.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_KEPT: Final = 256 * _MIB
_MAPPED: Final = 32 * _MIB  # glibc takes no larger one
_OWN_SETTINGS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep up to 256 MiB of freed memory, so that not every result of a layer is paged in anew.

    On a CPU, a layer's result of a few megabytes is freed at once, and glibc gives such memory back to the kernel:
    each megabyte costs 256 page faults the next time. Embedding 2,000 texts with a model of 22 million weights takes
    an eighth less time without them (`benchmarks/demo_speed.py --only encoding`). The process holds about
    as much more. Settings in the environment (`MALLOC_TRIM_THRESHOLD_` and the like) come first.

    Returns:
        Whether it was set; False where malloc is not glibc's or the environment has its own settings.
    """
    own = any(name in os.environ for name in _OWN_SETTINGS) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if own or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    kept = bool(mallopt(_MMAP_THRESHOLD, _MAPPED)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
    _LOG.debug("freed memory stays with the process: %s", "up to 256 MiB" if kept else "malloc takes no settings")
    return kept
