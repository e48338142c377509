"""Document vectors that are there already, in a store's export: they are not embedded again.

A file of NumPy (.npy, with one identifier a line in a file beside it), Parquet (as LanceDB and most others write), or
JSON lines of points (as Qdrant's scroll gives them).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from multigrain.config import DocumentVectorsConfig, fingerprint
from multigrain.encoders.journaled import JournaledEncoder
from multigrain.encoders.protocol import Floats, unit_length
from multigrain.errors import ConfigError
from multigrain.sources.store import open_document_table
from multigrain.stages.base import RunContext
from multigrain.storage.files import content_fingerprint
from multigrain.storage.text import read_text, text_lines

_SETTING: Final = "training.document_vectors"
_SAMPLED: Final = 3
_SAME: Final = 0.99
_UNIT: Final = 1e-2
_ROWS_A_TURN: Final = 4_096


def import_document_vectors(context: RunContext, journal: JournaledEncoder) -> None:
    """Take a store's vectors of the run's documents into the journal, once, where the config names a store.

    Three of them are compared with what the endpoint gives.

    Args:
        context: the run, its documents read.
        journal: of the endpoint whose vectors they are.

    Raises:
        ConfigError: the file cannot be read, holds vectors of none of the documents, or ones of other dimensions, of
            other lengths, or of another model.
    """
    settings = context.config.training.document_vectors
    if settings is None or not context.run.documents_path.exists():
        return
    content = content_fingerprint(settings.path)
    if content is None:
        raise ConfigError(f"{_SETTING}: {settings.path}: no such file")
    # Other documents, or another column of the same file, are taken in again.
    read = context.run.manifest("documents")
    taken_in = fingerprint(
        content,
        settings.model_dump(mode="json", exclude={"path", "ids"}),
        None if settings.ids is None else content_fingerprint(settings.ids),
        None if read is None else read.fingerprint,
    )
    if journal.was_imported(taken_in):
        return
    texts = {document.id: document.text for document in open_document_table(context.run.documents_path)}
    dimensions, taken = len(journal.probe()), 0
    for ids, vectors in read_vectors(settings, list(texts)):
        known = [place for place, identifier in enumerate(ids) if identifier in texts]
        if vectors.shape[1] != dimensions:
            raise ConfigError(
                f"{_SETTING}: {settings.path} holds vectors of {vectors.shape[1]} dimensions, and "
                f"{journal.endpoint.where} gives {dimensions}: they are of different models"
            )
        if not known:
            continue
        fitting = _of_length_one(vectors[known], settings)
        own = [texts[ids[place]] for place in known]
        if not taken:
            _require_same(own[:_SAMPLED], fitting[:_SAMPLED], settings, journal)
        journal.add(own, fitting, "document")
        taken += len(known)
    if not taken:
        raise ConfigError(
            f"{_SETTING}: {settings.path} holds a vector of none of the run's {len(texts):,} documents; its "
            f"identifiers must be those of the documents, e.g. {next(iter(texts), '')!r} (documents.id_field)"
        )
    journal.note_import(taken_in)
    context.progress.say(
        f"{taken:,} of {len(texts):,} document vectors taken from {settings.path}; the rest is embedded"
    )


def read_vectors(settings: DocumentVectorsConfig, in_order: list[str]) -> Iterator[tuple[list[str], Floats]]:
    """Identifiers and vectors, some at a time.

    Args:
        settings: which file, and where in it.
        in_order: the identifiers of a .npy file's rows, where no file names them.

    Yields:
        Identifiers and their vectors, (n, dimensions).

    Raises:
        ConfigError: the file cannot be read so.
    """
    read = {".npy": _read_numpy, ".parquet": _read_parquet, ".jsonl": _read_points}.get(settings.path.suffix)
    if read is None:
        raise ConfigError(f"{_SETTING}: {settings.path}: expected a .npy, .parquet or .jsonl file")
    try:
        for ids, vectors in read(settings, in_order):
            if vectors.ndim != 2:
                raise ValueError("a number in place of a vector")
            yield ids, vectors
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{_SETTING}: {settings.path} cannot be read with id: {settings.id} and vector: {settings.vector} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from None


def _read_numpy(settings: DocumentVectorsConfig, in_order: list[str]) -> Iterator[tuple[list[str], Floats]]:
    table = np.load(settings.path, mmap_mode="r", allow_pickle=False)
    ids = in_order if settings.ids is None else text_lines(read_text(settings.ids))
    if table.ndim != 2 or len(ids) != len(table):
        named = "the run has documents" if settings.ids is None else f"{settings.ids} names"
        raise ConfigError(f"{_SETTING}: {settings.path} holds {len(table):,} vectors, and {named} {len(ids):,}")
    for start in range(0, len(ids), _ROWS_A_TURN):
        stop = start + _ROWS_A_TURN
        yield ids[start:stop], np.asarray(table[start:stop], dtype=np.float32)


def _read_parquet(settings: DocumentVectorsConfig, in_order: list[str]) -> Iterator[tuple[list[str], Floats]]:
    del in_order
    with pq.ParquetFile(settings.path) as file:
        for batch in file.iter_batches(_ROWS_A_TURN, columns=[settings.id, settings.vector]):
            ids = [str(identifier) for identifier in batch.column(settings.id).to_pylist()]
            yield ids, np.array(batch.column(settings.vector).to_pylist(), dtype=np.float32)


def _read_points(settings: DocumentVectorsConfig, in_order: list[str]) -> Iterator[tuple[list[str], Floats]]:
    del in_order
    ids: list[str] = []
    vectors: list[list[float]] = []
    with settings.path.open(encoding="utf-8") as file:
        for line in file:
            point = json.loads(line)
            ids.append(str(_inside(point, settings.id)))
            vectors.append(_inside(point, settings.vector))
            if len(ids) == _ROWS_A_TURN:
                yield ids, np.array(vectors, dtype=np.float32)
                ids, vectors = [], []
    if ids:
        yield ids, np.array(vectors, dtype=np.float32)


def _inside(point: Any, path: str) -> Any:
    """A value of a point, by its keys with dots between them, e.g. payload.id."""
    for key in path.split("."):
        point = point[key]
    return point


def _of_length_one(vectors: Floats, settings: DocumentVectorsConfig) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ConfigError(f"{_SETTING}: {settings.path} holds vectors of zeros, or that are not finite")
    if not settings.normalise and np.abs(lengths - 1).max() > _UNIT:
        raise ConfigError(
            f"{_SETTING}: {settings.path} holds vectors of length {lengths.min():.3g} to {lengths.max():.3g}, and "
            "they are compared at length 1; if your store compares by cosine, set normalise: true"
        )
    return unit_length(vectors)


def _require_same(
    texts: list[str], vectors: Floats, settings: DocumentVectorsConfig, journal: JournaledEncoder
) -> None:
    """See that vectors are those of the endpoint."""
    own: Path = settings.path
    cosines = np.sum(journal.encode_documents(texts) * vectors, axis=1)
    worst = int(cosines.argmin())
    if cosines[worst] < _SAME:
        raise ConfigError(
            f"{_SETTING}: {own} holds other vectors than {journal.endpoint.where} gives (document "
            f"{texts[worst][:40]!r}: cosine {cosines[worst]:.3f}): another model, prompt or text"
        )
