"""Vectors of documents that a store's own client wrote out are read, and not embedded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from tests.encoders.embedding_server import EmbeddingServer
from tests.stages.test_served_base import _asked, _context

from multigrain.sources.store import read_document_table
from multigrain.stages.models import RunModels

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("api_key")]


def _from_qdrant(folder: Path, ids: list[str], vectors: np.ndarray, *, name: str = "") -> dict[str, str]:
    """Points of a collection that compares by cosine, as `scroll` gives them; its ids are numbers."""
    client_module = pytest.importorskip("qdrant_client")
    client, models = client_module.QdrantClient(path=str(folder / "qdrant")), client_module.models
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("mine", vectors_config={name: size} if name else size)
    points = [
        models.PointStruct(
            id=number, vector={name: vector.tolist()} if name else vector.tolist(), payload={"doc_id": identifier}
        )
        for number, (identifier, vector) in enumerate(zip(ids, vectors, strict=True))
    ]
    client.upsert("mine", points)
    offset, path = None, folder / "vectors.jsonl"
    with path.open("w", encoding="utf-8") as file:
        while True:
            records, offset = client.scroll("mine", limit=25, offset=offset, with_vectors=True)
            file.writelines(json.dumps(record.model_dump()) + "\n" for record in records)
            if offset is None:
                break
    client.close()
    return {"path": str(path), "id": "payload.doc_id", "vector": f"vector.{name}" if name else "vector"}


def _from_qdrant_by_name(folder: Path, ids: list[str], vectors: np.ndarray) -> dict[str, str]:
    return _from_qdrant(folder, ids, vectors, name="text")


def _from_lancedb(folder: Path, ids: list[str], vectors: np.ndarray) -> dict[str, str]:
    """A table as LanceDB makes it of rows, written as Parquet."""
    lancedb = pytest.importorskip("lancedb")
    rows = [{"vector": vector, "id": identifier} for identifier, vector in zip(ids, vectors, strict=True)]
    table = lancedb.connect(str(folder / "lancedb")).create_table("mine", data=rows)
    pq.write_table(table.to_arrow(), folder / "vectors.parquet")
    return {"path": str(folder / "vectors.parquet")}


@pytest.mark.parametrize("export", [_from_qdrant, _from_qdrant_by_name, _from_lancedb])
def test_what_a_stores_client_wrote_is_read(
    export: Callable[..., dict[str, str]], tmp_path: Path, corpus_file: Path, small_bert: Path, api_key: None
) -> None:
    server = EmbeddingServer(SentenceTransformer(str(small_bert), device="cpu"))
    try:
        documents = read_document_table(_context(tmp_path / "run", corpus_file, server).run.documents_path)
        texts = [document.text for document in documents]
        vectors: Any = SentenceTransformer(str(small_bert), device="cpu").encode(texts)
        settings = export(tmp_path, [document.id for document in documents], vectors)
        context = _context(tmp_path / "run", corpus_file, server, document_vectors=settings)
        models = RunModels(context)
        assert not models.journal.missing(texts, "document")
        np.testing.assert_allclose(models.journal.encode_documents(texts), vectors, atol=1e-6)
        assert len(_asked(server)) == 3, "a sample was compared"
        models.close()
    finally:
        server.close()
