from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Final

import pytest

GLIBC: Final = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
SCRIPT: Final = """
import ctypes, resource, sys
import torch
from multigrain.model.allocator import keep_freed_memory

# PR_SET_THP_DISABLE: a machine that gives out pages of 2 MiB unasked has 512 times fewer faults.
assert ctypes.CDLL(None).prctl(41, 1, 0, 0, 0) == 0
kept = keep_freed_memory() if sys.argv[1] == "kept" else None

def rounds(number):
    for _ in range(number):
        # What a layer does: two results of 4 MiB, the first freed once the second is there.
        first = torch.ones(2**20)
        second = first + 1
        del first, second

rounds(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(40)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> tuple[str, int]:
    """What the setting said, and the page faults of forty rounds, in a process of its own."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], env=own | environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return output[0], int(output[1])


@pytest.mark.skipif(not GLIBC, reason="malloc is not glibc's")
def test_results_of_layers_are_not_paged_in_anew() -> None:
    said, kept = faults("kept")
    assert said == "True"
    # Left to itself glibc moves its threshold, by what was freed before: this is where it begins.
    paged = faults("as it was", MALLOC_MMAP_THRESHOLD_="131072")[1]
    assert paged > 40_000, "80 results of 1,024 pages each"
    assert kept < paged / 10


@pytest.mark.skipif(not GLIBC, reason="malloc is not glibc's")
@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_settings_of_the_environment_come_first(environment: dict[str, str]) -> None:
    assert faults("kept", **environment)[0] == "False"
