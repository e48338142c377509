"""Hardware facts that decide how numbers are computed."""

from __future__ import annotations

from typing import Final

_INSTRUCTIONS: Final = ("avx512_bf16", "amx_bf16")


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX), and so faster than float32."""
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in _INSTRUCTIONS)
