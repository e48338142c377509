"""A copy of a GGUF file in formats that OpenVINO reads whole.

openvino-genai 2026.4 reads Q4_1, but rounds the smallest number of each block to whole steps: the weights of
SmolLM2-135M come out 9% off, and its texts lose a tenth to a half of their log-probability a token. Q4_K suffers
little, since its minima are coarse already. Q5 and others are not read at all. Tensors in such formats are written
anew in Q8_0, which holds them to within half a percent; everything else is copied as it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock

from multigrain.errors import LLMError
from multigrain.llm.local.gguf_file import GgufFile, GgufHeader, TensorInfo

_VERSION: Final = 1
_F32, _F16, _Q4_0, _Q8_0, _Q4_K, _Q6_K = 0, 1, 2, 8, 12, 14
_READ_WELL: Final = frozenset({_F32, _F16, _Q4_0, _Q8_0, _Q4_K, _Q6_K})
_BLOCK: Final = 32
_ROWS_AT_ONCE: Final = 4096


def needs_copy(header: GgufHeader) -> bool:
    """Whether some tensor is in a format that OpenVINO reads badly or not at all."""
    return any(tensor.kind not in _READ_WELL for tensor in header.tensors)


def copy_bytes(file: GgufFile) -> int:
    """About how large the copy is, or the file itself where none is needed."""
    if file.header is None or not needs_copy(file.header):
        return file.size
    new = sum(tensor.size for tensor in file.header.tensors if tensor.kind not in _READ_WELL)
    share = new / max(1, sum(tensor.size for tensor in file.header.tensors))
    return int(file.size * (1 - share) + new * (_BLOCK + 2) / _BLOCK)


def readable_file(file: GgufFile) -> Path:
    """The file itself, or its copy, which is made on first use and kept.

    It is kept under $MULTIGRAIN_CACHE, else $XDG_CACHE_HOME/multigrain, else ~/.cache/multigrain.

    Raises:
        MissingExtraError: `gguf` is not installed.
        LLMError: the copy cannot be written, or a tensor cannot be read.
    """
    if file.header is None or not needs_copy(file.header):
        return file.path
    target = _cache_folder() / f"{file.path.stem}-{file.fingerprint}-v{_VERSION}.gguf"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                draft = target.with_suffix(".part")
                _write(file.path, file.header, draft)
                draft.replace(target)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise LLMError(
            f"llm.model {file.path}: its weights cannot be put into a form that OpenVINO reads ({reason}): "
            f"free some space at {target.parent}, name another place in MULTIGRAIN_CACHE, or set llm.runtime: llamacpp"
        ) from None
    return target


def _cache_folder() -> Path:
    if own := os.environ.get("MULTIGRAIN_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "multigrain"


def _write(source: Path, header: GgufHeader, target: Path) -> None:
    weights = np.memmap(source, dtype=np.uint8, mode="r")
    infos, at = [], 0
    for tensor in header.tensors:
        kind = tensor.kind if tensor.kind in _READ_WELL else _new_kind(tensor)
        infos.append(TensorInfo(tensor.name, tensor.shape, kind, at))
        at = _aligned(at + _bytes_of(tensor.size, kind), header)
    with target.open("wb") as handle:
        handle.write(weights[: header.values_end].tobytes())
        for info in infos:
            handle.write(_described(info))
        for old, info in zip(header.tensors, infos, strict=True):
            handle.write(b"\0" * (_aligned(handle.tell(), header) - handle.tell()))
            for part in _tensor_bytes(weights, header, old, info.kind):
                handle.write(part)


def _tensor_bytes(weights: np.memmap, header: GgufHeader, tensor: TensorInfo, kind: int) -> Iterator[bytes]:
    import gguf

    start = header.data_start + tensor.offset
    raw = weights[start : start + _bytes_of(tensor.size, tensor.kind)]
    if raw.size < _bytes_of(tensor.size, tensor.kind):
        raise ValueError(f"the file ends within {tensor.name}")
    if kind == tensor.kind:
        yield raw.tobytes()
        return
    rows = tensor.size // tensor.shape[0]
    table = raw.reshape(rows, -1)
    for first in range(0, rows, _ROWS_AT_ONCE):
        part = table[first : first + _ROWS_AT_ONCE]
        numbers = gguf.quants.dequantize(part, gguf.GGMLQuantizationType(tensor.kind))
        yield gguf.quants.quantize(numbers, gguf.GGMLQuantizationType(kind)).tobytes()


def _new_kind(tensor: TensorInfo) -> int:
    return _Q8_0 if tensor.shape[0] % _BLOCK == 0 else _F32


def _described(info: TensorInfo) -> bytes:
    name = info.name.encode()
    shape = struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *info.shape)
    return struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", info.kind, info.offset)


def _bytes_of(count: int, kind: int) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return int(count // block * size)


def _aligned(at: int, header: GgufHeader) -> int:
    return -(-at // header.alignment) * header.alignment
