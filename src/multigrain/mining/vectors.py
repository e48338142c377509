"""A corpus' vectors on disk: shards that are whole or not there, and a manifest that says which belong together.

    STORE/
      shard-000000-3f2a….npy    vectors of the first rows; the name carries a hash of what was embedded, and by what
      shard-000001-….npy
      manifest.json             written last: the shards in order, rows, dimensions

The place may be a folder or any address that fsspec knows (s3://…, gs://…, memory://…). A shard is found again by its
name: embedding that was killed goes on with the first shard that is missing, and a corpus that grew at its end only
adds shards.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from multigrain.config import fingerprint
from multigrain.encoders.distributed import DistributedEncoder, computed
from multigrain.encoders.protocol import Encoder, Floats
from multigrain.engine.protocol import Engine
from multigrain.errors import SourceError
from multigrain.mining.best import Indices, Rows
from multigrain.storage.files import file_system, is_remote

SHARD_ROWS: Final = 16_384
"""Vectors a shard: 25 MB at 384 dimensions."""

IN_MEMORY: Final = 100_000
"""Texts up to which a corpus' vectors stay in memory: 150 MB at 384 dimensions."""

_MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class VectorShard:
    """One file of vectors.

    Attributes:
        name: its file name.
        rows: how many vectors.
    """

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class ShardWork:
    """One shard to embed: the unit of work of every engine.

    Attributes:
        name: the file that it becomes.
        texts: what it holds.
    """

    name: str
    texts: tuple[str, ...]


class VectorStore:
    """Vectors of a corpus, read by slices. Implements `search.Rows`.

    Slices are read from the file into fresh memory, not mapped: pages of the corpus never count as the process' own.

    Args:
        place: the folder or address.

    Raises:
        SourceError: there is no complete store, or a shard is missing or cut.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._files = file_system(place)
        manifest = _read_manifest(place)
        self.dimensions: int = manifest["dimensions"]
        self.fingerprint: str = manifest["identity"]
        self.shards = tuple(VectorShard(**shard) for shard in manifest["shards"])
        self._starts = np.concatenate([[0], np.cumsum([shard.rows for shard in self.shards])]).astype(np.int64)
        self._item = np.dtype(manifest["dtype"])
        self._headers: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"VectorStore({self.place!r}, rows={len(self)}, dimensions={self.dimensions})"

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: slice) -> Floats:
        """Rows as a (rows, dimensions) array of float32."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("a vector store gives rows that follow one another")
        parts = list(self._parts(start, stop))
        if not parts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def gather(self, rows: Indices) -> Floats:
        """Any rows, in the order given: (len(rows), dimensions). Reads near neighbours together."""
        distinct, positions = np.unique(rows, return_inverse=True)
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        cuts = [0, *(np.flatnonzero(np.diff(distinct) > 64) + 1).tolist(), len(distinct)]
        for first, last in pairwise(cuts):  # gaps of up to 64 rows (100 KB at 384 dimensions) are read through
            if first < last:
                low = int(distinct[first])
                vectors[first:last] = self[low : int(distinct[last - 1]) + 1][distinct[first:last] - low]
        return vectors[positions]

    def _parts(self, start: int, stop: int) -> Iterator[Floats]:
        width = self.dimensions * self._item.itemsize
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            shard, first = self.shards[number], int(self._starts[number])
            last = min(stop, first + shard.rows)
            path = f"{self.place}/{shard.name}"
            head = self._header(number, path)
            try:
                raw = self._files.cat_file(
                    path, start=head + (start - first) * width, end=head + (last - first) * width
                )
            except OSError as error:
                raise SourceError(f"{path}: cannot be read ({error})") from None
            vectors = np.frombuffer(raw, dtype=self._item).reshape(-1, self.dimensions)
            yield vectors if self._item == np.float32 else vectors.astype(np.float32)
            start, number = last, number + 1

    def _header(self, number: int, path: str) -> int:
        """Bytes before the first vector: whatever the file has beyond them."""
        if number not in self._headers:
            try:
                size = self._files.size(path)
            except OSError:
                size = None
            body = self.shards[number].rows * self.dimensions * self._item.itemsize
            if size is None or size <= body:
                raise SourceError(f"{path}: missing or cut; delete {self.place}/{_MANIFEST} and embed again")
            self._headers[number] = size - body
        return self._headers[number]

    @classmethod
    def finish(cls, place: str, fingerprint: str, names: Sequence[str]) -> VectorStore:
        """Write the manifest over shards that are all there, delete those that belong to none, and open the store.

        Raises:
            SourceError: a shard is missing, or they do not fit each other.
        """
        files = file_system(place)
        shapes = {name: _shape(files, f"{place}/{name}") for name in names}
        widths = {(columns, dtype) for _, columns, dtype in shapes.values()}
        if len(widths) > 1:
            raise SourceError(f"{place}: shards of different shapes ({sorted(widths)}): delete it and embed again")
        columns, dtype = widths.pop() if widths else (0, "<f4")
        manifest = {
            "format": _FORMAT,
            "identity": fingerprint,
            "dimensions": columns,
            "dtype": dtype,
            "shards": [asdict(VectorShard(name, shapes[name][0])) for name in names],
        }
        _write(files, f"{place}/{_MANIFEST}", json.dumps(manifest, indent=1).encode())
        for name in _listing(files, place) - {*names, _MANIFEST}:
            if name.startswith(("shard-", ".shard-")):
                files.rm_file(f"{place}/{name}")
        return cls(place)


def shard_name(number: int, fingerprint: str, texts: Sequence[str]) -> str:
    """A shard's file name: its place, and a hash over who embeds and what."""
    digest = hashlib.sha256(fingerprint.encode())
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8))
        digest.update(raw)
    return f"shard-{number:06d}-{digest.hexdigest()[:20]}.npy"


def missing_shards(
    place: str, fingerprint: str, batches: Iterable[Sequence[str]], names: list[str]
) -> Iterator[ShardWork]:
    """The shards of a corpus that are not in the store yet, one by one as they are asked for.

    Args:
        place: the store.
        fingerprint: of the model that embeds.
        batches: the corpus in order, one shard's texts at a time.
        names: filled with the name of every shard, present or missing, in order.
    """
    present = _listing(file_system(place), place)
    for number, texts in enumerate(batches):
        name = shard_name(number, fingerprint, texts)
        names.append(name)
        if name not in present:
            yield ShardWork(name, tuple(texts))


def write_shard(place: str, name: str, vectors: Floats) -> None:
    """Write a shard, whole or not at all. Writing one twice does no harm."""
    stream = io.BytesIO()
    np.save(stream, vectors, allow_pickle=False)
    _write(file_system(place), f"{place}/{name}", stream.getvalue())


@dataclass(frozen=True)
class _WriteShard:
    place: str
    encoder: Encoder

    def __call__(self, work: ShardWork) -> int:
        write_shard(self.place, work.name, self.encoder.encode_documents(work.texts))
        return len(work.texts)


def embed_shards(
    texts: Iterable[str],
    place: str,
    fingerprint: str,
    encoder: Encoder,
    *,
    engine: Engine | None = None,
    shard_rows: int = SHARD_ROWS,
    advance: Callable[[int], None] = lambda rows: None,
) -> VectorStore:
    """Embed a corpus into a store, going on with the first shard that is missing.

    Args:
        texts: the corpus, read once.
        place: the store; a folder or address that every worker of an engine shares.
        fingerprint: of the model.
        encoder: embeds documents; can be pickled where there is an engine.
        engine: its workers embed and write; None does it here.
        shard_rows: texts a shard.
        advance: told the rows of each shard that was written.

    Raises:
        EngineError: a shard could not be written.
        SourceError: there is no text, or the shards there do not fit each other.
    """
    names: list[str] = []
    write, works = _WriteShard(place, encoder), missing_shards(place, fingerprint, shards_of(texts, shard_rows), names)
    if engine is None:
        written: Iterable[int] = map(write, works)
    else:
        failure = f"{place}/{{.name}}: could not be embedded".format
        written = (rows for _, rows in computed(engine, write, works, failure))
    for rows in written:
        advance(rows)
    if not names:
        raise SourceError("the corpus holds no text")
    return VectorStore.finish(place, fingerprint, names)


def shards_of(texts: Iterable[str], rows: int) -> Iterator[Sequence[str]]:
    """Texts in batches of one shard each."""
    stream = iter(texts)
    while batch := list(islice(stream, rows)):
        yield batch


def corpus_vectors(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path | str,
    *,
    in_memory: int = IN_MEMORY,
    shard_rows: int = SHARD_ROWS,
) -> Rows:
    """A corpus' vectors: in memory where they are few, in shards on disk, read block by block, where they are many.

    Shards are written as they are embedded: killed, the next call goes on with the first that is missing. At an
    address, which all workers of an engine see, these embed and write.

    Args:
        encoder: embeds documents.
        texts: the corpus.
        folder: for the shards, or an address; emptied first of what another corpus left.
        in_memory: texts up to which vectors stay in memory.
        shard_rows: texts a shard.
    """
    if len(texts) <= in_memory:
        return encoder.encode_documents(texts)
    named = fingerprint("corpus", encoder.fingerprint)
    if is_remote(folder) and isinstance(encoder, DistributedEncoder):
        return embed_shards(texts, str(folder), named, encoder.encoder, engine=encoder.engine, shard_rows=shard_rows)
    return embed_shards(texts, str(folder), named, encoder, shard_rows=shard_rows)


def _read_manifest(place: str) -> dict[str, Any]:
    path = f"{place}/{_MANIFEST}"
    try:
        manifest = json.loads(file_system(place).cat_file(path))
    except FileNotFoundError:
        raise SourceError(f"{place}: no complete vector store there; embed the corpus first") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read as a manifest ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise SourceError(f"{path}: of another format; delete it and embed again")
    return manifest


def _listing(files: Any, place: str) -> set[str]:
    try:
        files.invalidate_cache(place)
        return {str(path).rstrip("/").rsplit("/", 1)[-1] for path in files.ls(place, detail=False)}
    except FileNotFoundError:
        return set()


def _shape(files: Any, path: str) -> tuple[int, int, str]:
    try:
        with files.open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            (rows, columns), _, dtype = read(stream)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not a shard of vectors ({error})") from None
    return rows, columns, dtype.str


def _write(files: Any, path: str, raw: bytes) -> None:
    """Object stores show an object when it is whole; on a disk the file takes its name when it is."""
    files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    if "file" not in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        files.pipe_file(path, raw)
        return
    folder, name = os.path.split(files._strip_protocol(path))
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}")  # noqa: PTH118 - fsspec speaks strings
    try:
        with open(temporary, "wb") as stream:  # noqa: PTH123
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, os.path.join(folder, name))  # noqa: PTH105, PTH118
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror})") from None
