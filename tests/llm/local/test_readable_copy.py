"""Weights that OpenVINO would round are written anew, and stay what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multigrain.errors import LLMError
from multigrain.llm.local import readable_copy
from multigrain.llm.local.gguf_file import GgufFile, read_header
from multigrain.llm.local.readable_copy import copy_bytes, needs_copy, readable_file

gguf = pytest.importorskip("gguf")
Kind = gguf.GGMLQuantizationType


def written(path: Path, kinds: list[Kind], rows: int = 3, width: int = 256) -> dict[str, np.ndarray]:
    """A file with a tensor of each kind, and what the tensors hold."""
    numbers = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_token_list([f"token {number}" for number in range(50)])
    held = {}
    for kind in kinds:
        values = numbers.normal(0.3, 1, (rows, width)).astype(np.float32)
        data = values if kind == Kind.F32 else gguf.quants.quantize(values, kind)
        held[kind.name] = values if kind == Kind.F32 else gguf.quants.dequantize(data, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def test_the_copy_holds_what_the_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIGRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(readable_copy, "_ROWS_AT_ONCE", 2)
    path = tmp_path / "model.gguf"
    held = written(path, [Kind.F32, Kind.Q4_1, Kind.Q8_0, Kind.Q5_0, Kind.BF16])
    file = GgufFile.find(str(path))
    copy = readable_file(file)
    header = read_header(copy)
    assert header is not None
    assert file.header is not None
    assert header.values == file.header.values
    assert not needs_copy(header)
    reader = gguf.GGUFReader(copy)
    assert reader.fields["tokenizer.ggml.tokens"].contents()[49] == "token 49"
    for tensor in reader.tensors:
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        error = np.abs(found - held[tensor.name]).max() / np.abs(held[tensor.name]).max()
        assert error < (0.005 if tensor.name in ("Q4_1", "Q5_0", "BF16") else 1e-7), tensor.name
    assert readable_file(file) == copy
    assert abs(copy_bytes(file) - copy.stat().st_size) < 4096


def test_a_file_that_is_read_well_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIGRAIN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    written(path, [Kind.F32, Kind.Q4_0, Kind.Q8_0])
    file = GgufFile.find(str(path))
    assert readable_file(file) == path
    assert copy_bytes(file) == path.stat().st_size
    assert not (tmp_path / "cache").exists()


def test_what_cannot_be_copied_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIGRAIN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    written(path, [Kind.Q4_1, Kind.F32])
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(LLMError, match=r"set llm\.runtime: llamacpp"):
        readable_file(GgufFile.find(str(path)))
    assert not list((tmp_path / "cache").glob("*.gguf"))
