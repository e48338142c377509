"""Hardware facts that decide how numbers are computed."""

from __future__ import annotations

from typing import Final

_INSTRUCTIONS: Final = ("avx512_bf16", "amx_bf16")


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX), and so faster than float32."""
    return any(_cpu_has(name) for name in _INSTRUCTIONS)


def cpu_has_amx() -> bool:
    """Whether the CPU has units for whole tiles of bfloat16 matrices (Intel's AMX), many times as fast as float32."""
    return _cpu_has("amx_bf16")


def _cpu_has(instruction: str) -> bool:
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get(instruction, False))
