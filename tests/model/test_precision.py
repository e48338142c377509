"""bf16 is used where the hardware multiplies it, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from multigrain.model.precision import mixed_precision, supports_native_bf16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True, "avx512_bf16": False}, False)],
)
def test_cpu_follows_its_instructions(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert supports_native_bf16("cpu") is expected


def test_devices_that_are_not_there() -> None:
    assert supports_native_bf16("mps") is False
    if not torch.cuda.is_available():
        assert supports_native_bf16("cuda") is False


@pytest.mark.parametrize("bf16", [True, False])
def test_mixed_precision(bf16: bool) -> None:
    with mixed_precision("cpu", bf16=bf16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if bf16 else torch.float32)
