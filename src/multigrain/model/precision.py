"""Where bfloat16 is worth computing in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from multigrain.storage.hardware import cpu_multiplies_bf16


def supports_native_bf16(device: str | torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware, so that bf16 autocast is faster and not slower.

    Args:
        device: a torch device, e.g. "cpu" or "cuda:0".

    Returns:
        True for CPUs with AVX512-BF16 or AMX, and for CUDA devices that have bfloat16 units; False elsewhere.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return cpu_multiplies_bf16()
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return False


@contextmanager
def mixed_precision(device: str | torch.device, *, bf16: bool) -> Iterator[None]:
    """Compute in bf16 autocast on a device, or as the model is where `bf16` is False."""
    with torch.autocast(device_type=torch.device(device).type, dtype=torch.bfloat16, enabled=bf16):
        yield
